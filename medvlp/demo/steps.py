"""The steps that the demos share: the training, and its pictures."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import cast


def pretrain(configs: Sequence[str]) -> Path:
    """Run `medvlp fit` with the configs, and return its last checkpoint."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    from medvlp.trainer.command import main

    trainer = main(["fit", *configs])
    best = cast("ModelCheckpoint", trainer.checkpoint_callback).best_model_path
    return Path(best).with_name("last.ckpt")


def plot(checkpoint: Path, data: Path, out: Path) -> dict[str, Path]:
    """Draw the pictures of a run, and return their paths by title.

    Args:
        checkpoint: Checkpoint of the run.
        data: Its prepared folder.
        out: Folder of its metrics.csv, and of the pictures.
    """
    from medvlp.demo.plots import plot_curves, plot_heat_maps, plot_matches

    curves, matches, heat_maps = (out / name for name in ("curves.png", "matches.png", "heat_maps.png"))
    plot_curves(read_log(out / "metrics.csv"), curves)
    plot_matches(checkpoint, data, matches)
    plot_heat_maps(checkpoint, data, heat_maps)
    return {
        "Training curves": curves,
        "Test images and their best sentences": matches,
        "Where the model sees what reports say": heat_maps,
    }


def read_log(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the metrics.csv of a run and return (step, value) pairs by metric."""
    series: dict[str, list[tuple[int, float]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name != "step":
                    series.setdefault(name, []).append((int(row["step"]), float(value)))
    return series
