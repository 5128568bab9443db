"""Plots of a run; they need the extra `demo`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from medvlp.data import CXRDataModule, collate
from medvlp.objectives import HeatMap
from medvlp.prepared import Prepared
from medvlp.tasks import PretrainingTask
from medvlp.tasks.checkpoints import load_pretraining
from medvlp.trainer.heat_maps import overlay
from medvlp.types import PRESENT

mpl.use("agg")


def plot_curves(log: Mapping[str, Sequence[tuple[int, float]]], out: Path) -> None:
    """Plot the terms of the loss and the validation metrics over steps.

    Args:
        log: (step, value) pairs by metric.
        out: PNG file to write.
    """
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    loss, quality = figure.subplots(1, 2)
    for name, points in log.items():
        steps, values = zip(*points, strict=True)
        if name.startswith("train/") and name.count("/") == 2:
            loss.plot(steps, values, label=name.removeprefix("train/"))
    shown = {
        "val/zeroshot/macro": "zero-shot AUROC, macro",
        "val/tag/auroc/macro": "tags AUROC, macro",
        "val/region/s2r_R@1": "sentence to its region R@1",
        "val/region/pointing": "sentence points into its region",
        "val/retrieval/report/i2t_R@10": "image to report R@10",
    }
    for name, label in shown.items():
        if name in log:
            steps, values = zip(*log[name], strict=True)
            quality.plot(steps, values, "o-", label=label)
    loss.set(title="Loss terms in training", xlabel="step", ylabel="loss", yscale="log")
    quality.set(title="Validation", xlabel="step", ylim=(0, 1))
    for axes in (loss, quality):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=8.5)
    figure.savefig(out, dpi=120)


def split_sentences(text: str) -> list[str]:
    """Split a section into sentences, at full stops that end one."""
    return [part.strip() for part in re.split(r"(?<=[a-z\])_]\.)\s+", " ".join(text.split())) if part.strip()]


def match(task: PretrainingTask, image: Tensor, texts: list[str]) -> Tensor:
    """Return the similarity (N, M) of images, uint8 (N, H, W), and M texts: the mean over all joint spaces."""
    with torch.inference_mode():
        images, embedded = task.embed_images(task.image_encoder(image)), task.embed_texts(texts)
        return torch.stack([task.compare(space, images[space], embedded[space]) for space in images]).mean(0)


def varied(label: npt.NDArray[np.int8], count: int) -> list[int]:
    """Choose samples with different labels: the first sample of each of the most frequent labels, none twice."""
    present = label == PRESENT
    chosen: list[int] = []
    for column in np.argsort(-present.sum(0), kind="stable"):
        chosen += [int(i) for i in np.flatnonzero(present[:, column]) if i not in chosen][:1]
    return chosen[:count]


def plot_matches(weights: Path, root: Path, out: Path, count: int = 6, best: int = 3) -> None:
    """Draw test images with the sentences, out of all test reports, of highest similarity in the model.

    Args:
        weights: Checkpoint of a pre-training.
        root: The prepared folder.
        out: PNG file to write.
        count: Number of images.
        best: Number of sentences per image.
    """
    task = load_pretraining(weights).eval()
    data = CXRDataModule(root, crop=Prepared.open(root).size)
    dataset = data.dataset("test")
    findings, impression = data.reports(["test"])
    sentences = sorted({s for text in findings + impression for s in split_sentences(text)})
    chosen = varied(dataset.label, count)
    batch = collate([dataset[i] for i in chosen])
    similarity = match(task, batch["image"][:, 0], sentences)
    figure = Figure(figsize=(15, 12), layout="constrained")
    grid = figure.subplots(2, -(-len(chosen) // 2)).flat
    for axes, row, i in zip(grid, similarity, range(len(chosen)), strict=False):
        axes.imshow(batch["image"][i, 0], cmap="gray", interpolation="bilinear")
        axes.set_axis_off()
        top = row.topk(best)
        lines = [f"{value:.2f}  {sentences[j]}" for value, j in zip(top.values, top.indices, strict=True)]
        report = textwrap.shorten(batch["impression"][i] or batch["findings"][i], 150)
        wrapped = [textwrap.fill(line, 58, subsequent_indent="         ") for line in (*lines, f"Report: {report}")]
        axes.set_title("\n".join(wrapped), fontsize=9.5, loc="left")
    figure.suptitle(
        "Test images, the sentences of all test reports most like them (cosine), and what their report says"
    )
    figure.savefig(out, dpi=110)


def plot_heat_maps(weights: Path, root: Path, out: Path, count: int = 4, maps: int = 4) -> None:
    """Draw test images with heat maps for the sentences and tags of their reports.

    Args:
        weights: Checkpoint of a pre-training with objectives that have heat maps.
        root: The prepared folder.
        out: PNG file to write.
        count: Number of images.
        maps: Number of heat maps per image: sentences first, then tags.
    """
    task = load_pretraining(weights).eval()
    dataset = CXRDataModule(root, crop=Prepared.open(root).size, regions=True).dataset("test")
    chosen = varied(dataset.label, count)
    batch = collate([dataset[i] for i in chosen])
    with torch.inference_mode():
        drawn = [(name, heat_map) for name, heat_maps in task.heat_maps(batch).items() for heat_map in heat_maps]
    figure = Figure(figsize=(3.1 * (maps + 1), 3.7 * len(chosen)), layout="constrained")
    for study, row in enumerate(figure.subplots(len(chosen), maps + 1, squeeze=False)):
        image = batch["image"][study, 0]
        report = textwrap.shorten(batch["impression"][study] or batch["findings"][study], 170)
        pictures = [(f"Report: {report}", np.stack([image.numpy()] * 3, 2))]
        pictures += [(f"{name}: {h.text}", overlay(image, h)) for name, h in choose_maps(drawn, study, maps)]
        for axes in row:
            axes.set_axis_off()
        for axes, (title, picture) in zip(row, pictures, strict=False):
            axes.imshow(picture, interpolation="bilinear")
            axes.set_title(textwrap.fill(title, 34), fontsize=8.5, loc="left")
    figure.suptitle(
        "Where the model sees what the report says; green: the boxes of the regions that a sentence is about"
    )
    figure.savefig(out, dpi=100)


def choose_maps(drawn: Sequence[tuple[str, HeatMap]], study: int, count: int) -> list[tuple[str, HeatMap]]:
    """Choose heat maps of a study: equally many per objective, those with few regions first, no regions twice."""
    by_objective: dict[str, list[tuple[str, HeatMap]]] = {}
    shown: set[tuple[float, ...]] = set()
    for name, heat_map in sorted(drawn, key=lambda pair: len(pair[1].box)):
        boxes = tuple(heat_map.box.flatten().tolist())
        if heat_map.study == study and not (boxes and boxes in shown):
            shown.add(boxes)
            by_objective.setdefault(name, []).append((name, heat_map))
    share = -(-count // max(len(by_objective), 1))
    return [pair for heat_maps in by_objective.values() for pair in heat_maps[:share]][:count]
