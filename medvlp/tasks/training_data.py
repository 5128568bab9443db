"""Description of the data of a pre-training, which its checkpoints keep."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from medvlp.data import CXRDataModule
from medvlp.data.preprocessing import Preprocessing
from medvlp.prepared import Prepared


def describe(data: CXRDataModule) -> dict[str, Any]:
    """Return a description of the training data, and the preprocessing of its images."""
    prepared = Prepared.open(data.root)
    name = data.split or next(iter(prepared.split_variants), "")
    return {
        "preprocessing": asdict(Preprocessing.of(data)),
        "dataset": prepared.manifest["options"]["dataset"],
        "synthetic": prepared.synthetic,
        "sha256": dict(prepared.manifest["sha256"]),
        "split": name,
        "split_sha256": prepared.split_variants.get(name, {}).get("sha256"),
        "train_splits": list(data.splits["train"]),
        "images": len(data.subset),
    }
