"""Overlap of test patients and the patients of an encoder's pre-training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from medvlp.data import CXRDataModule
from medvlp.data.families import FAMILIES
from medvlp.data.known_tests import TEST
from medvlp.prepared import Prepared
from medvlp.tasks.continued import lineage

UNKNOWN = "what the weights were trained on is not known, nor whether test patients were among it."


def seen_in_training(data: CXRDataModule, trained: Mapping[str, Any] | None) -> list[str]:
    """Return a note with the number of test patients in the training data, or that it is not known; empty if it is 0.

    The training data of all models that the model was continued from count, too. Where the leak audit of a training
    knew the test set, its counts hold.

    Args:
        data: The test data.
        trained: Description of the training data, see `medvlp.tasks.pretraining.describe`. It is empty if the encoder
            was trained on no patients, and None if its training data is not known.
    """
    if trained is None:
        return [UNKNOWN]
    if not trained:
        return []
    prepared = Prepared.open(data.root)
    tested = prepared.of_splits(data.splits["test"], ["subject_id"], data.split)["subject_id"].unique()
    seen, unknown, audited = pc.is_null(tested), [], []
    for one in lineage(trained):
        if (known := _audited(data, prepared, one)) is not None:
            audited.append(known)
            continue
        variant = prepared.split_variants.get(one["split"])
        if variant is None or variant["sha256"] != one["split_sha256"]:
            names = [FAMILIES.get(name, name) for name in (one["dataset"], prepared.manifest["options"]["dataset"])]
            if one["synthetic"] == prepared.synthetic and names[0] == names[1]:
                unknown.append(f"{one['dataset']}, split {one['split']}")
            continue
        patients = prepared.of_splits(one["train_splits"], ["subject_id"], one["split"])["subject_id"].unique()
        seen = pc.or_(seen, pc.is_in(tested, patients))
    people = [pc.sum(seen).as_py() or 0, *(known["patients_seen"] for known in audited)]
    copied = [known["images_seen"] for known in audited]
    notes = []
    if any(people):
        notes = [f"{_most(people)} of {len(tested):,} test patients were in the model's training data."]
    elif any(copied):
        notes = [f"{_most(copied)} of {audited[0]['images']:,} test images have a copy in the model's training data."]
    return notes + [
        f"whether test patients were in the model's training data ({which}) is not known."
        for which in dict.fromkeys(unknown)
    ]


def _most(counts: Sequence[int]) -> str:
    """Return the largest count, of which those of other folders may not be a part."""
    return f"{'at least ' * (sum(map(bool, counts)) > 1)}{max(counts):,}"


def _audited(data: CXRDataModule, prepared: Prepared, one: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the counts of a test set in the leak audit of a training; None if the audit did not know it."""
    name = data.split or next(iter(prepared.split_variants), "")
    digest = prepared.split_variants.get(name, {}).get("sha256")
    for known in one.get("known_tests", []) if list(data.splits["test"]) == [TEST] and digest else []:
        if known["dataset"] == prepared.manifest["options"]["dataset"] and known["splits"].get(name) == digest:
            nothing = {"patients_seen": 0, "images_seen": 0} if known["left_out"] else {}
            return {**known, **nothing}
    return None
