"""Overlap of test patients and the patients of an encoder's pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from medvlp.data import CXRDataModule
from medvlp.prepared import Prepared
from medvlp.tasks.continued import lineage

# Data sets that share patients.
PATIENTS_OF_MIMIC = {"mimic_cxr", "ms_cxr"}
UNKNOWN = "what the weights were trained on is not known, nor whether test patients were among it."


def seen_in_training(data: CXRDataModule, trained: Mapping[str, Any] | None) -> list[str]:
    """Return a note with the number of test patients in the training data, or that it is not known; empty if it is 0.

    The training data of all models that the model was continued from count, too.

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
    seen, unknown = pc.is_null(tested), []
    for one in lineage(trained):
        variant = prepared.split_variants.get(one["split"])
        if variant is None or variant["sha256"] != one["split_sha256"]:
            names = {one["dataset"], prepared.manifest["options"]["dataset"]}
            if one["synthetic"] == prepared.synthetic and (len(names) == 1 or names == PATIENTS_OF_MIMIC):
                unknown.append(f"{one['dataset']}, split {one['split']}")
            continue
        patients = prepared.of_splits(one["train_splits"], ["subject_id"], one["split"])["subject_id"].unique()
        seen = pc.or_(seen, pc.is_in(tested, patients))
    count = pc.sum(seen).as_py() or 0
    notes = [f"{count:,} of {len(tested):,} test patients were in the model's training data."] if count else []
    return notes + [
        f"whether test patients were in the model's training data ({which}) is not known."
        for which in dict.fromkeys(unknown)
    ]
