"""Training of the classifiers of lateral and of mirrored views, on phantoms; see `medvlp.prepare.screening.views`.

The first learns to tell lateral views from frontal ones, upright, turned, negative or spoilt, and from limbs and noise;
the second to tell frontal ones from their mirror images.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from medvlp.localiser.pictures import (
    KEPT,
    Bytes,
    Picture,
    kept,
    other_archive,
    other_content,
    other_materials,
    pictures,
    smooth,
    spoilt,
    studies,
)
from medvlp.phantom.geometry import Canvas
from medvlp.phantom.lateral import lateral
from medvlp.phantom.render import develop, frame_of
from medvlp.phantom.world import Shot, Study
from medvlp.prepare.regions.lung_fields import INPUT_SIDE, network_input
from medvlp.prepare.screening.views import COUNT, features, mirror

HIDDEN, EPOCHS = 32, 15
# Shares of the pictures without a lateral view: frontal ones turned by a quarter or a half, negatives, limbs, and noise
# or shuffled tiles; the others are frontal and upright.
KINDS = {"turned": 0.3, "negative": 0.05, "limbs": 0.15, "spoilt": 0.2, "upright": 0.3}


def train_views(out: Path, laterals: int = 800, frontals: int = 500, copies: int = 9, seed: int = 0) -> None:
    """Train the classifiers of lateral and of mirrored views, and measure them on held-out phantoms.

    Args:
        out: File to write; the package reads medvlp/prepare/screening/views.npz.
        laterals: Number of lateral pictures of the phantom.
        frontals: Number of frontal ones.
        copies: Number of changed copies of each picture.
        seed: Seed of pictures, changes and weights.
    """
    console = Console()
    console.print("Drawing phantoms")
    shown, others = varied_laterals(laterals, 2 * seed), pictures(frontals, 2 * seed + 1, vary=True)
    rng = np.random.default_rng(seed)
    unseen, unseen_others = max(laterals // 10, 1), max(frontals // 10, 1)
    trained = {
        "lateral": fit(*lateral_examples(shown[unseen:], others[unseen_others:], copies, rng), seed),
        "mirrored": fit(*mirrored_examples(others[unseen_others:], copies, rng), seed),
    }
    arrays = {
        f"{name}.{layer}.{part}": getattr(net[place], part).detach().numpy().astype(np.float16)
        for name, net in trained.items()
        for layer, place in (("hidden", 1), ("out", 4))
        for part in ("weight", "bias")
    }
    with out.open("wb") as file:
        np.savez_compressed(file, **arrays)
    console.print(f"{out}: {out.stat().st_size:,} bytes")
    held_out = {
        "lateral": lateral_examples(shown[:unseen], others[:unseen_others], copies, rng),
        "mirrored": mirrored_examples(others[:unseen_others], copies, rng),
    }
    for name, (x, y) in held_out.items():
        says = (trained[name](x)[:, 0] > 0).float()
        right, wrong = float(says[y > 0].mean()), float(says[y == 0].mean())
        console.print(f"{name}: it says so of {right:.1%} of held-out phantoms that are, and of {wrong:.1%} of others")


def varied_laterals(count: int, seed: int) -> list[Picture]:
    """Return lateral pictures with bodies, framing and materials far beyond the phantom's own range.

    Their masks are those of both lungs, twice, and of the heart; they have no boxes.
    """
    shots = ((study, shot) for study in studies(seed) for shot in study.shots if shot.view == "LATERAL")
    return [
        _lateral(study, shot, np.random.default_rng([seed, number]))
        for number, (study, shot) in enumerate(islice(shots, count))
    ]


def _lateral(study: Study, shot: Shot, rng: np.random.Generator) -> Picture:
    u = rng.uniform
    body = replace(study.body, lung_height=float(u(18, 28)), fat=float(u(0, 1.3)))
    lungs = body.lung_height * shot.inspiration
    height = lungs + float(u(3, 24))
    shot = replace(
        shot,
        # A picture is squashed to a square: its width also varies the depth of the chest.
        field=(float(u(20, 46)), height),
        centre=(float(rng.normal(0, 2)), height / 2 - (height - lungs) * float(u(0.15, 0.6))),
        degrees=float(rng.normal(0, 6)),
        contrast=float(u(0.7, 1.3)),
        exposure=float(rng.normal(0, 1)),
    )
    canvas = Canvas(frame_of(shot, KEPT))
    layers = lateral(canvas, body, shot, study.findings)
    other_materials(canvas, layers, rng)
    masks = [kept(layers.masks[name].astype(np.uint8) * 255) for name in ("lungs", "lungs", "heart")]
    return Picture(kept(develop(layers, shot, canvas)), np.stack(masks), np.zeros((29, 4)))


def lateral_examples(
    laterals: list[Picture], others: list[Picture], copies: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return the features (N, COUNT) of changed pictures, and 1 for those that are lateral, (N,)."""
    found, truth = [], []
    for picture in laterals * copies:
        for is_lateral in (True, False):
            one = picture if is_lateral else others[int(rng.integers(len(others)))]
            image = moved(other_content(one, rng), 14 if is_lateral else 4, rng)
            seen = network_input(other_archive(image if is_lateral else _other(image, rng), rng))
            found.append(features(seen if rng.uniform() < 0.5 else seen[:, ::-1]))
            truth.append(is_lateral)
    return torch.from_numpy(np.array(found)), torch.tensor(truth, dtype=torch.float32)


def mirrored_examples(frontals: list[Picture], copies: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return the features (N, COUNT) of changed pictures and their mirror images, and 1 for the latter, (N,)."""
    found = []
    for picture in frontals * copies:
        seen = network_input(other_archive(moved(other_content(picture, rng), 4, rng), rng))
        found += [features(seen), mirror(features(seen))]
    return torch.from_numpy(np.array(found)), torch.arange(len(found)).remainder(2).float()


def moved(image: npt.NDArray[np.float32], degrees: float, rng: np.random.Generator) -> Bytes:
    """Return a picture tilted, sheared, scaled, shifted and bent, (INPUT_SIDE, INPUT_SIDE)."""
    u = rng.uniform
    scale, angle = u(0.7, 1.35, 2), np.radians(rng.normal(0, degrees))
    turn = np.array([[np.cos(angle), np.sin(angle)], [u(-0.15, 0.15) - np.sin(angle), np.cos(angle)]])
    places = np.stack(np.meshgrid(*[(np.arange(INPUT_SIDE) + 0.5) / INPUT_SIDE - 0.5] * 2), axis=-1)
    source = ((places + u(-0.12, 0.12, 2)) / scale @ turn + 0.5) * len(image) - 0.5
    source += u(0, 2.5) * np.stack([smooth(rng, INPUT_SIDE, 5), smooth(rng, INPUT_SIDE, 5)], axis=-1)
    x, y = source[..., 0].astype(np.float32), source[..., 1].astype(np.float32)
    edge = cv2.BORDER_REPLICATE if u() < 0.3 else cv2.BORDER_CONSTANT
    outside = u(0, 255) if u() < 0.3 else 0.0
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=edge, borderValue=outside).astype(np.uint8)


def _other(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Return a picture that a frontal one becomes, of a kind of KINDS."""
    kind = rng.choice([*KINDS], p=[*KINDS.values()])
    if kind == "turned":
        return np.ascontiguousarray(np.rot90(image, int(rng.integers(1, 4))))
    if kind == "negative":
        return ~image
    if kind == "limbs":
        return _limbs(rng)
    return spoilt(image, rng) if kind == "spoilt" else image


def _limbs(rng: np.random.Generator) -> Bytes:
    """Return a picture of long bones in soft tissue."""
    u = rng.uniform
    image = np.full((INPUT_SIDE, INPUT_SIDE), u(0, 40), np.float32)
    for _ in range(rng.integers(1, 6)):
        start, end = u(-10, INPUT_SIDE + 10, (2, 2)).astype(int).tolist()
        width = u(4, 24)
        # Soft tissue, the bone in it, and its marrow.
        for share, brightness in ((1.0, u(60, 140)), (u(0.3, 0.7), u(60, 110)), (0.2, -u(10, 60))):
            band = cv2.line(np.zeros_like(image), start, end, 1, max(1, round(width * share)))
            image += cv2.GaussianBlur(band, (0, 0), 1) * brightness
    return np.clip(image + rng.standard_normal(image.shape) * u(0, 8), 0, 255).astype(np.uint8)


def fit(x: Tensor, y: Tensor, seed: int) -> nn.Sequential:
    """Train a network with one hidden layer, and return it.

    Args:
        x: Features (N, COUNT).
        y: Classes (N,), 0 or 1.
        seed: Seed of weights and order.

    Returns:
        Layers from features (N, COUNT) to logits (N, 1).
    """
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Dropout(0.1), nn.Linear(COUNT, HIDDEN), nn.ReLU(), nn.Dropout(0.3), nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-2)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(128):
            loss = functional.binary_cross_entropy_with_logits(net(x[batch])[:, 0], y[batch])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return net.eval()
