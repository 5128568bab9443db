"""Prepared folders of pictures that look alike as radiographs do: one coarse shape, small differences, own detail."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medvlp.prepared import FORMAT_VERSION, IMAGES, INDEX, MANIFEST, Geometry, index_schema

HEIGHT, WIDTH = 360, 300


def radiograph(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return a picture (height, width), uint8: dark lungs in a bright body, as in all others, and what is its own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    body = 190 * np.exp(-(((x - 0.5) / 0.42) ** 4))
    for centre in (0.32, 0.68):
        body -= 120 * np.exp(-(((x - centre) / 0.13) ** 2) - ((y - 0.45) / 0.28) ** 2)
    own = cv2.resize(rng.normal(0, 12, (6, 6)), (width, height), interpolation=cv2.INTER_CUBIC)
    detail = cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), height / 60)
    detail *= 8 / detail.std()
    return np.clip(body + own + detail, 0, 255).astype(np.uint8)


def make_folder(
    root: Path,
    pictures: Sequence[np.ndarray],
    dataset: str = "tiny",
    subjects: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    size: int = 128,
    fit: str = "pad",
    others: dict[str, Sequence[str]] | None = None,
    synthetic: bool = False,
) -> Path:
    """Write a prepared folder of pictures, without reports and labels.

    Args:
        root: The folder.
        pictures: The pictures before preparation.
        dataset: Name of the data set.
        subjects: Their patients; by default each picture has its own.
        splits: Their splits by the variant `official`; by default all train.
        size: Side of the prepared images.
        fit: How they fill the square.
        others: Further split variants.
        synthetic: Whether the patients are invented.
    """
    root.mkdir(parents=True)
    count = len(pictures)
    variants = {"official": splits or ["train"] * count, **(others or {})}
    images = np.zeros((count, size, size), np.uint8)
    rows = []
    for i, picture in enumerate(pictures):
        geometry = Geometry.of(*picture.shape, size, fit)
        images[i] = geometry.place(cv2.resize(picture, geometry.inner, interpolation=cv2.INTER_AREA))
        names = dict.fromkeys(("image_id", "study_id", "path"), f"{root.name}-{i}")
        of = {f"split/{name}": values[i] for name, values in variants.items()}
        shape = {"height": picture.shape[0], "width": picture.shape[1]}
        subject = subjects[i] if subjects else f"{root.name}-{i}"
        rows.append({"row": i, **names, "subject_id": subject, "split": variants["official"][i], **of, **shape})
    np.save(root / IMAGES, images)
    pq.write_table(pa.Table.from_pylist(rows, index_schema([], list(variants))), root / INDEX)
    manifest = {
        "format_version": FORMAT_VERSION,
        "options": {"dataset": dataset, "size": size, "resize": fit, "synthetic": synthetic},
        "splits": {
            name: {
                "rule": "",
                "counts": {},
                "documented": {},
                "sha256": hashlib.sha256(str([root.name, *values]).encode()).hexdigest(),
            }
            for name, values in variants.items()
        },
        "sha256": {IMAGES: {"sha256_of_sha256": hashlib.sha256(images.tobytes()).hexdigest()}},
    }
    (root / MANIFEST).write_text(json.dumps(manifest))
    return root
