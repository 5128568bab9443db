"""`medvlp demo open_i`: from the files of Open-I, which need no account, to a table and pictures."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from medvlp.config.parser import dump_settings
from medvlp.demo.steps import plot, pretrain
from medvlp.errors import NotFoundError
from medvlp.prepare.download import UnreachableError, download, unpack_images
from medvlp.prepare.layouts.ecgen import find_reports

# The library publishes no checksums of them; unpacking checks those of gzip.
SERVER = "https://openi.nlm.nih.gov/imgs/collections"
REPORTS, IMAGES = "NLMCXR_reports.tgz", "NLMCXR_png.tgz"
SIZES = {REPORTS: "1.1 MB", IMAGES: "1.4 GB"}
BENCHMARK = "zeroshot-open-i"


def open_i(
    root: Path = Path("data/raw/open_i"),
    data: Path = Path("data/open_i"),
    out: Path = Path("runs/open_i"),
    epochs: int = 10,
    size: int = 256,
    workers: int = 2,
    server: str = SERVER,
) -> None:
    """Fetch Open-I, prepare it, pre-train IMITATE with ASG on it on a small scale, and test the network zero-shot.

    Every step is left out that was finished before, training apart. Without a network, lay the two files into root.

    Args:
        root: Folder of NLMCXR_reports.tgz and NLMCXR_png.tgz, or of what is in them, ecgen-radiology and NLMCXR_png.
        data: Prepared folder, to be written.
        out: Folder of the run, the results and the pictures, to be written.
        epochs: Number of passes over the training split.
        size: Side of the prepared images in pixels.
        workers: Number of processes that decode and load images.
        server: Address of the folder of both files.

    Raises:
        NotFoundError: If a file is not there and cannot be fetched.
        UserError: If a file is damaged.
    """
    # Neither the Hugging Face hub nor a W&B account is needed, so neither is contacted.
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    console, start = Console(), time.monotonic()

    def say(text: str) -> None:
        console.rule(f"[bold]{text}[/] ({time.monotonic() - start:.0f} s)", align="left")

    say(f"1/5 Fetching the reports and images of Open-I: {root}")
    fetch(root, server)

    say(f"2/5 Preparing them: {data}")
    from medvlp.prepare.datasets.open_i import open_i as prepare

    prepare(root, data, size=size, workers=workers)

    out.mkdir(parents=True, exist_ok=True)
    overlay = out / "open_i.yaml"
    overlay.write_text(dump_settings(settings(data, out, epochs, size, workers)))
    configs = ["imitate_asg", "overlays/small", "overlays/small_imitate_asg", str(overlay)]
    configs = [word for name in configs for word in ("-c", name)]
    say(f"3/5 Pre-training IMITATE and ASG for {epochs} epochs: medvlp fit {' '.join(configs)}")
    checkpoint = pretrain(configs)

    say(f"4/5 Testing it: make {BENCHMARK} WEIGHTS={checkpoint}")
    from medvlp.benchmarks.command import benchmark
    from medvlp.benchmarks.report import results

    cells = out / "benchmarks"
    benchmark(BENCHMARK, weights=str(checkpoint), out=cells, args=shlex.join(["--data.root", str(data)]))

    say("5/5 Tables and pictures")
    results(cells)
    for title, path in plot(checkpoint, data, out).items():
        console.print(f"{title}: {path}", soft_wrap=True)
    console.print(f"Checkpoint: {checkpoint}", soft_wrap=True)
    console.print("The pictures show patients of Open-I, CC BY-NC-ND 4.0: keep them where its terms allow.")
    console.print(f"Everything took {time.monotonic() - start:.0f} s.")


def fetch(root: Path, server: str) -> None:
    """Fetch the files that a folder lacks, and unpack the images.

    Args:
        root: The folder.
        server: Address of the folder of both files.

    Raises:
        NotFoundError: If a file is not there and the server cannot be reached.
        UserError: If a file is damaged.
    """
    folder = root / IMAGES.removesuffix(".tgz")
    wanted = [REPORTS] if find_reports(root) is None else []
    wanted += [] if folder.is_dir() or (root / IMAGES).is_file() else [IMAGES]
    for number, name in enumerate(wanted):
        try:
            download(f"{server}/{name}", root / name)
        except UnreachableError as error:
            missing = " and ".join(f"{server}/{name} ({SIZES[name]})" for name in wanted[number:])
            raise NotFoundError(f"{error} Lay {missing} into '{root}', and run the same command again.") from error
    if not folder.is_dir():
        unpack_images(root / IMAGES, folder)


def settings(data: Path, out: Path, epochs: int, size: int, workers: int) -> dict[str, Any]:
    """Return the settings that come after the configs; see `open_i` for the arguments."""
    wandb = {"project": "medvlp", "name": "open_i", "save_dir": str(out), "offline": True}
    # The plot of the curves reads the csv file.
    table = {"save_dir": str(out), "name": "", "version": ""}
    loggers = [{"class_path": "WandbLogger", "init_args": wandb}, {"class_path": "CSVLogger", "init_args": table}]
    return {
        "trainer": {"max_epochs": epochs, "default_root_dir": str(out), "logger": loggers},
        "data": {"root": str(data), "resize": size // 2, "crop": size * 7 // 16, "num_workers": workers},
    }
