"""Overlap of test patients and the patients of an encoder's pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from medvlp.data import CXRDataModule
from medvlp.prepared import Prepared

# Data sets that share patients.
PATIENTS_OF_MIMIC = {"mimic_cxr", "ms_cxr"}
UNKNOWN = "what the weights were trained on is not known, nor whether test patients were among it."


def seen_in_training(data: CXRDataModule, trained: Mapping[str, Any] | None) -> list[str]:
    """Return a note with the number of test patients in the training data, or that it is not known; empty if it is 0.

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
    variant = prepared.split_variants.get(trained["split"])
    if variant is None or variant["sha256"] != trained["split_sha256"]:
        names = {trained["dataset"], prepared.manifest["options"]["dataset"]}
        same = trained["synthetic"] == prepared.synthetic and (len(names) == 1 or names == PATIENTS_OF_MIMIC)
        which = f"{trained['dataset']}, split {trained['split']}"
        return [f"whether test patients were in the model's training data ({which}) is not known."] if same else []
    tested = prepared.of_splits(data.splits["test"], ["subject_id"], data.split)["subject_id"].unique()
    trained_on = prepared.of_splits(trained["train_splits"], ["subject_id"], trained["split"])["subject_id"]
    count = pc.sum(pc.is_in(tested, trained_on.unique())).as_py() or 0
    return [f"{count:,} of {len(tested):,} test patients were in the model's training data."] if count else []
