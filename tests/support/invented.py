"""Cells that nobody computed, as `medvlp benchmark` leaves them behind."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medvlp.benchmarks.results import BOOTSTRAP, CELL, PREDICTIONS, RESULTS


def write_cell(folder, benchmark="rsna", label="ours", fraction=0.01, seed=0, metrics=None, **changes):
    """Write a finished cell; `changes` go over the top level of its results.json, or into `data` and `protocol`."""
    metrics = metrics or {"auroc": 0.8}
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)  # the seeds of a bootstrap are common to all cells
    noise = rng.normal(0, 0.01, 1000)
    replicates = {name: value + noise for name, value in metrics.items()}
    pq.write_table(pa.table(replicates), folder / BOOTSTRAP)
    predictions = changes.pop("predictions", None)
    if predictions is not None:
        pq.write_table(predictions, folder / PREDICTIONS)
    recipe = changes.pop("recipe", "12345678")
    content = {
        "benchmark": benchmark,
        "task": "ClassificationTask",
        "how": "linear probe",
        "protocol": {
            "weights": "runs/best.ckpt",
            "architecture": "resnet50",
            "crop": 224,
            "resize": None,
            **changes.pop("protocol", {}),
        },
        "weights_sha256": "ab" * 32,
        "encoder_sha256": "ba" * 32,
        "data": {
            "root": "data/rsna",
            "split": "mgca_16010",
            "split_sha256": "cd" * 32,
            "counts": {"train": 16010, "validate": 5337, "test": 5337},
            "documented": {"train": 16010, "validate": 5337, "test": 5337},
            "synthetic": False,
            "sha256": {"images.npy": {"rows": 256, "sha256_of_sha256": "ef" * 32}},
            "options": {"dataset": "rsna", "synthetic": False, "size": 256, "resize": "pad"},
            **changes.pop("data", {}),
        },
        "fraction": fraction,
        "seed": seed,
        "subset_seed": seed,
        "subset_sha256": "ef" * 32,
        "n_train": 160,
        "n_test": 5337,
        "metrics": {
            name: {"value": value, "low": value - 0.02, "high": value + 0.02} for name, value in metrics.items()
        },
        "left_out": {},
        "notes": [],
        "versions": {},
        **changes,
    }
    (folder / RESULTS).write_text(json.dumps(content))
    if label is not None:
        (folder / CELL).write_text(json.dumps({"label": label, "recipe": recipe, "configuration": {}}))
    return folder
