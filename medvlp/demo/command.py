"""`medvlp demo`: pre-trains and tests IMITATE with ASG on synthetic radiographs; it needs no credentials."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from medvlp.config.parser import dump_settings
from medvlp.demo.open_i import open_i
from medvlp.demo.steps import plot, pretrain

# `medvlp demo open_i`, beside `medvlp demo`.
COMMANDS = {"open_i": open_i}
ZERO_SHOT, REPORT, REGION, TAG = "test/zeroshot/", "test/retrieval/report/", "test/region/", "test/tag/auroc/"


def demo(out: Path = Path("runs/demo"), studies: int = 3200, epochs: int = 6, seed: int = 0, workers: int = 2) -> None:
    """Make a synthetic data set, prepare it, pre-train IMITATE with ASG on it and test the trained network.

    All files are in one folder: the raw data in `phantom`, the prepared folder in `prepared`, the run in `medvlp`, and
    `results.json`, `curves.png`, `matches.png` and `heat_maps.png` beside them. Existing raw data and an existing
    prepared folder are used again; training starts anew.

    Args:
        out: Folder to write to.
        studies: Number of synthetic studies.
        epochs: Number of passes over the training split.
        seed: Seed of the synthetic patients.
        workers: Number of processes that render, decode and load images.
    """
    # The demo needs neither the Hugging Face hub nor a W&B account, so it contacts neither.
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    console = Console()
    start = time.monotonic()

    def say(text: str) -> None:
        console.rule(f"[bold]{text}[/] ({time.monotonic() - start:.0f} s)", align="left")

    say(f"1/5 Drawing {studies:,} synthetic chest X-ray studies and writing their reports: {out / 'phantom'}")
    from medvlp.phantom import phantom

    phantom(out / "phantom", studies=studies, seed=seed, size=256, workers=workers)

    say(f"2/5 Preparing them, as MIMIC-CXR would be: {out / 'prepared'}")
    prepare(out / "phantom", out / "prepared", workers)

    overlay = out / "demo.yaml"
    overlay.write_text(dump_settings(settings(out, studies, epochs, workers)))
    configs = ["imitate_asg", "overlays/small", "overlays/small_imitate_asg", str(overlay)]
    configs = [word for name in configs for word in ("-c", name)]

    say("3/5 Testing the network before training")
    before = test(configs)

    say(f"4/5 Pre-training IMITATE and ASG for {epochs} epochs: medvlp fit {' '.join(configs)}")
    checkpoint = pretrain(configs)

    say("5/5 Testing the trained network: zero-shot classification, retrieval of reports, tags and regions")
    after = test([*configs, "--ckpt_path", str(checkpoint)])

    results = {key: {"untrained": before[key], "trained": value} for key, value in after.items()}
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    console.print(results_table(results))
    for title, path in plot(checkpoint, out / "prepared", out).items():
        console.print(f"{title}: {path}")
    console.print(f"Checkpoint: {checkpoint}")
    console.print(f"Everything took {time.monotonic() - start:.0f} s.")


def prepare(raw: Path, out: Path, workers: int) -> None:
    """Prepare a phantom in the layout of MIMIC-CXR.

    Args:
        raw: Folder of the phantom.
        out: Prepared folder, to be written.
        workers: Number of processes that decode images.
    """
    from medvlp.prepare.datasets.mimic_cxr import mimic_cxr

    mimic_cxr(
        images=raw / "mimic-cxr-jpg" / "2.0.0",
        reports=raw / "mimic-cxr-reports",
        scene_graphs=raw / "chest-imagenome",
        out=out,
        size=112,
        workers=workers,
    )


def test(args: Sequence[str]) -> dict[str, float]:
    """Run `medvlp test` with these arguments, without a logger or callbacks, and return its metrics."""
    from medvlp.trainer.command import main

    quiet = ["--trainer.logger", "false", "--trainer.callbacks", "[]", "--trainer.enable_model_summary", "false"]
    return {key: float(value) for key, value in main(["test", *args, *quiet]).callback_metrics.items()}


def settings(out: Path, studies: int, epochs: int, workers: int) -> dict[str, Any]:
    """Return the settings that the demo applies after its configs."""
    wandb = {"project": "medvlp", "name": "demo", "save_dir": str(out), "offline": True}
    # plot_curves reads the csv file.
    table = {"save_dir": str(out), "name": "", "version": ""}
    return {
        "trainer": {
            "max_epochs": epochs,
            # A small demo has few steps, and curves all the same.
            "log_every_n_steps": max(1, min(10, studies // 320)),
            "default_root_dir": str(out),
            "logger": [
                {"class_path": "WandbLogger", "init_args": wandb},
                {"class_path": "CSVLogger", "init_args": table},
            ],
        },
        "data": {"root": str(out / "prepared"), "resize": None, "crop": 96, "num_workers": workers},
    }


def results_table(results: Mapping[str, Mapping[str, float]]) -> Table:
    """Return a table of the metrics of the untrained and the trained network, side by side."""
    columns = [Column(name, justify="right") for name in ("untrained", "trained")]
    table = Table("", *columns, title="Test split of the phantom (chance: AUROC 0.5)")

    def under(prefix: str) -> dict[str, str]:
        names = [key.removeprefix(prefix) for key in results if key.startswith(prefix) and not key.endswith("/macro")]
        return {prefix + name: name.replace("_", " ") for name in names}

    directions = {"i2t": "image to report,", "t2i": "report to image,"}
    retrieval = {key: " ".join(directions.get(w, w) for w in name.split()) for key, name in under(REPORT).items()}
    regions = {
        f"{REGION}{key}": name
        for key, name in {
            "r2s_R@1": "region to its sentence, in its image",
            "r2s_chance": "  by chance",
            "s2r_R@1": "sentence to its region, in its image",
            "s2r_chance": "  by chance",
            "pointing": "sentence points into its region",
            "pointing_chance": "  by chance",
        }.items()
    }
    macros = {f"{ZERO_SHOT}macro": "zero-shot AUROC, macro", f"{TAG}macro": "tags AUROC, macro"}
    for rows in (macros, under(ZERO_SHOT), retrieval, regions):
        for key, name in rows.items():
            table.add_row(name, f"{results[key]['untrained']:.3f}", f"{results[key]['trained']:.3f}")
        table.add_section()
    return table
