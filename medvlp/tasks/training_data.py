"""Description of the data of a pre-training, which its checkpoints keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from medvlp.data import CXRDataModule
from medvlp.data.audit import Audit
from medvlp.data.audit_report import describe_overlaps
from medvlp.data.preprocessing import Preprocessing
from medvlp.errors import UserError
from medvlp.prepared import Prepared


def describe(data: CXRDataModule, audit: Audit | None = None) -> dict[str, Any]:
    """Return a description of the training data, and the preprocessing of its images.

    Of several folders, `sources` describes each; the description of a folder has the keys of a run that reads it alone.

    Args:
        data: The data of the run.
        audit: Its leak audit, which `known_tests` of each folder describes.
    """
    sizes = [len(names) for names in data.subsets]
    sources = [_describe_folder(data, *folder) for folder in zip(data.roots.open(), sizes, strict=True)]
    if audit is not None:
        for number, source in enumerate(sources):
            source["known_tests"] = describe_overlaps(audit, number, data.leave_out_known_tests)
    preprocessing = {"preprocessing": asdict(Preprocessing.of(data))}
    if len(sources) == 1:
        return preprocessing | sources[0]
    counts = data.roots.counts(sizes)
    return preprocessing | {
        "dataset": " + ".join(source["dataset"] for source in sources),
        "synthetic": all(source["synthetic"] for source in sources),
        "sha256": {},
        "split": sources[0]["split"],
        "split_sha256": None,
        "train_splits": list(data.splits["train"]),
        "images": sum(sizes),
        "sources": [
            {"name": name, **source, "share": count / sum(counts)}
            for name, source, count in zip(data.roots.names, sources, counts, strict=True)
        ],
    }


def check_resumed(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume a run without images that it has been trained on: its checkpoints would say that it has not.

    Args:
        before: The description in the checkpoint; empty for a run that begins.
        now: That of the run.

    Raises:
        UserError: If the run leaves out what the checkpoint was trained on.
    """
    left_out = any(test["left_out"] for one in now.get("sources", [now]) for test in one.get("known_tests", []))
    if before and left_out and before["images"] != now["images"]:
        raise UserError(
            f"leave_out_known_tests=True, but --ckpt_path was trained on {before['images']:,} images, and without "
            f"those in known test sets {now['images']:,} are left. Start a new run, or one from its weights, "
            "--model.weights: its checkpoints say what these have seen."
        )


def _describe_folder(data: CXRDataModule, prepared: Prepared, images: int) -> dict[str, Any]:
    name = data.split or next(iter(prepared.split_variants), "")
    return {
        "dataset": prepared.manifest["options"]["dataset"],
        "synthetic": prepared.synthetic,
        "sha256": dict(prepared.manifest["sha256"]),
        "split": name,
        "split_sha256": prepared.split_variants.get(name, {}).get("sha256"),
        "train_splits": list(data.splits["train"]),
        "images": images,
    }
