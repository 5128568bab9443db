"""Training of the automatic localiser: network and atlas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from medvlp.errors import UserError
from medvlp.localiser.pictures import Picture, augment, laterals, pictures
from medvlp.localiser.unet import UNet, quantised
from medvlp.phantom.world import REGIONS
from medvlp.prepare.regions.atlas import Atlas, Axis
from medvlp.prepare.regions.automatic import Localiser
from medvlp.prepare.regions.lung_fields import STRUCTURES, Landmarks, find_masks, landmarks, network_input
from medvlp.prepare.regions.network import STEP, Network


def train(
    out: Path, studies: int = 1500, held_out: int = 300, steps: int = 3000, batch_size: int = 24, seed: int = 0
) -> None:
    """Train the automatic localiser of anatomical regions, and measure it on held-out phantoms.

    All pictures come from the phantom. For the network, bodies, framing and materials vary far beyond reality, so that
    real radiographs are one more variation. The atlas and the measurement use the phantom as it is.

    Args:
        out: File to write; the package reads medvlp/prepare/regions/localiser.npz.
        studies: Number of frontal pictures to train the network on; a tenth as many lateral ones are added, and a
            quarter as many fit the atlas.
        held_out: Number of pictures to measure on.
        steps: Number of steps of the optimiser.
        batch_size: Number of pictures a step.
        seed: Seed of pictures and weights.

    Raises:
        UserError: If the network finds no lung fields because of too few steps.
    """
    console = Console()
    console.print("Drawing phantoms")
    varied, plain, unseen = (
        pictures(count, 4 * seed + i, vary)
        for i, (count, vary) in enumerate(((studies, True), (studies // 4, False), (held_out, False)))
    )
    arrays: dict[str, Any] = quantised(
        train_network(varied + laterals(studies // 10, 4 * seed + 3), steps, batch_size, seed)
    )
    network = Network.of(arrays)
    atlas = fit_atlas(network, plain)
    for name, axis in (("x", atlas.x), ("y", atlas.y)):
        arrays |= {f"{name}.{part}": getattr(axis, part).astype(np.float32) for part in ("mean", "spread", "weights")}
    with out.open("wb") as file:
        np.savez_compressed(file, names=np.array(REGIONS), **arrays)
    console.print(f"{out}: {out.stat().st_size:,} bytes")
    console.print(figures(Localiser(network, atlas), unseen))


def train_network(shown: list[Picture], steps: int, batch_size: int, seed: int) -> UNet:
    """Train a network to segment the structures in augmented pictures, and return it."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = UNet().train()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in track(range(steps), "Training steps"):
        images, masks = zip(*(augment(shown[i], rng) for i in rng.integers(0, len(shown), batch_size)), strict=True)
        target = functional.avg_pool2d(torch.from_numpy(np.stack(masks)).float() / 255, 2)
        loss = overlap_loss(net(torch.from_numpy(np.stack(images))[:, None].float() * STEP), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return net.eval()


def overlap_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return binary cross-entropy plus one minus the Dice coefficient of each structure; shapes (B, 3, S, S)."""
    likely = logits.sigmoid()
    both = (likely * target).sum((0, 2, 3))
    dice = (2 * both + 1) / ((likely + target).sum((0, 2, 3)) + 1)
    return functional.binary_cross_entropy_with_logits(logits, target) + (1 - dice).mean()


def fit_atlas(network: Network, shown: list[Picture]) -> Atlas:
    """Fit an atlas from the network's masks of pictures to the true boxes, and return it.

    Raises:
        UserError: If the network finds lung fields in none of them.
    """
    marks: list[Landmarks] = []
    boxes = []
    for picture in shown:
        if (mark := landmarks(find_masks(network, network_input(picture.pixels)))) is not None:
            marks.append(mark)
            boxes.append(picture.boxes)
    if not marks:
        raise UserError("The network finds no lung fields even in phantoms: give more --steps.")
    frames, edges = np.array([mark.frame for mark in marks]), np.array(boxes)
    x = Axis.fit(np.array([mark.x for mark in marks]), edges[..., 0::2], frames[:, 0::2])
    y = Axis.fit(np.array([mark.y for mark in marks]), edges[..., 1::2], frames[:, 1::2])
    return Atlas(list(REGIONS), x, y)


def figures(localiser: Localiser, held_out: list[Picture]) -> Table:
    """Return a table with the Dice of each structure and the intersection over union of each region."""
    scores: dict[str, list[float]] = {name: [] for name in (*(f"mask of the {name}" for name in STRUCTURES), *REGIONS)}
    for picture in held_out:
        masks = find_masks(localiser.network, network_input(picture.pixels))
        for name, mask, truth in zip(STRUCTURES, masks, picture.masks > 127, strict=True):
            scores[f"mask of the {name}"].append(
                2 * float((mask & truth).sum()) / max(int(mask.sum() + truth.sum()), 1)
            )
        boxes = localiser.find(picture.pixels) or {}
        for name, true in zip(REGIONS, picture.boxes.clip(0, 1), strict=True):
            if min(true[2:] - true[:2]) > 0:
                scores[name].append(intersection_over_union(boxes.get(name, (0, 0, 0, 0)), true))
    table = Table("structure (Dice) or region (IoU)", "mean", "10th percentile", title="On held-out phantoms")
    for name, values in scores.items():
        table.add_row(name, f"{np.mean(values):.3f}", f"{np.percentile(values, 10):.3f}")
    return table


def intersection_over_union(one: object, other: object) -> float:
    """Return the intersection over union of two boxes x1, y1, x2, y2."""
    a, b = np.asarray(one, float), np.asarray(other, float)
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = float(np.prod(np.maximum(sides, 0)))
    return both / (float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - both)
