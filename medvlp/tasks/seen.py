"""Whether test patients were among those that an encoder was pre-trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from medvlp.data import CXRDataModule
from medvlp.prepared import Prepared

# Data sets of the same patients.
PATIENTS_OF_MIMIC = {"mimic_cxr", "ms_cxr"}
UNKNOWN = "what the weights were trained on is not known, nor whether test patients were among it."


def seen_in_training(data: CXRDataModule, trained: Mapping[str, Any] | None) -> list[str]:
    """Return a note of how many test patients an encoder was trained on, or that this is not known; none if none.

    Args:
        data: What it is tested on.
        trained: What it was trained on, as `medvlp.tasks.pretraining.describe` has it; empty if on no patients at all,
            None where it is not known.
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
    seen = pc.sum(pc.is_in(tested, trained_on.unique())).as_py() or 0
    return [f"{seen:,} of {len(tested):,} test patients were in the model's training data."] if seen else []
