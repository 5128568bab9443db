"""Split variants of a data set, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medvlp.prepared import SPLIT_PREFIX

SPLITS = ("train", "validate", "test")
SLICE = 1 << 14
# Shares of a split by hash: of a few thousand studies the test set needs a fifth.
TRAIN, VALIDATE = 0.7, 0.1


@dataclass(frozen=True)
class SplitVariant:
    """One way to split a data set.

    Attributes:
        rule: The rule of assignment and its source, in a few words, for the manifest.
        documented: Published number of images in train, validate and test; empty if there is none.
    """

    rule: str
    documented: Mapping[str, int] = field(default_factory=dict)


def shuffled(ids: Sequence[str], sizes: Sequence[int], seed: int = 0) -> list[list[str]]:
    """Split names as a chain of scikit-learn's `train_test_split` does: the first size off, then the next off the rest.

    Args:
        ids: Unique names; their order counts.
        sizes: Number of names in each part. They add up to the number of all names.
        seed: The `random_state` of every call in the chain.
    """
    if len(sizes) == 1:
        return [list(ids)]
    # The generator behind RandomState is frozen: it gives the same numbers in every version of NumPy.
    order = np.random.RandomState(seed).permutation(len(ids))
    rest = [ids[i] for i in order[: len(ids) - sizes[0]]]
    return [[ids[i] for i in order[len(rest) :]], *shuffled(rest, sizes[1:], seed)]


def mgca_split(ids: Sequence[str], rest: int, seed: int = 0) -> dict[str, str]:
    """Return the split of each name as MGCA and GLoRIA assign it: the first half of the names outside train is test.

    Args:
        ids: Unique names; their order counts.
        rest: Number of names in validate and test together; of an odd number, validate has one more.
        seed: The `random_state` of both calls of `train_test_split`.
    """
    parts = shuffled(ids, [len(ids) - rest, rest // 2, rest - rest // 2], seed)
    return {name: split for split, part in zip(("train", "test", "validate"), parts, strict=True) for name in part}


def hash_rule(unit: str) -> str:
    """Return the rule of `hash_split` in words.

    Args:
        unit: What the name is that it is called with, such as patient.
    """
    return f"{TRAIN:.0%} train, {VALIDATE:.0%} validate by sha256 of the {unit}"


def hash_split(name: str) -> str:
    """Return the split of a study or patient, TRAIN : VALIDATE : the rest, which does not depend on the others."""
    return by_share(name, TRAIN, VALIDATE)


def by_patient(patients: Mapping[str, str], count: int, salt: str) -> set[str]:
    """Choose images by whole patients, in an order that does not depend on the other patients.

    Args:
        patients: The patient of each image.
        count: Number of images. There are fewer only if no patient has few enough images for the rest.
        salt: Gives each data set an order of its own.
    """
    images: dict[str, list[str]] = {}
    for image, patient in patients.items():
        images.setdefault(patient, []).append(image)
    chosen: set[str] = set()
    for patient in sorted(images, key=lambda patient: hashlib.sha256(f"{salt}{patient}".encode()).digest()):
        if len(chosen) + len(images[patient]) <= count:
            chosen.update(images[patient])
    return chosen


def by_share(name: str, train: float, validate: float) -> str:
    """Return the split of a name by its hash: it does not depend on the other names.

    Args:
        name: A patient, or what stands for one.
        train: Share of the names in train.
        validate: Share of the names in validate; the others are test.
    """
    share = int(hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) / 16**8
    return "train" if share < train else "validate" if share < train + validate else "test"


def split_by_variant(image_id: str, validate: Mapping[str, Container[str]], test: bool) -> dict[str, str]:
    """Return the split of an image by each variant.

    Args:
        image_id: Name of the image.
        validate: Images of validate, by variant.
        test: Whether it is a test image in every variant.
    """
    return {
        variant: "test" if test else "validate" if image_id in images else "train"
        for variant, images in validate.items()
    }


def scaled(count: int, total: int, listed: int) -> int:
    """Return the share `count` / `total` of the `listed` images; a complete table gives the published size."""
    return round(count * listed / total)


def describe_splits(index: Path, variants: Mapping[str, SplitVariant]) -> dict[str, dict[str, Any]]:
    """Return the entry of each variant in the manifest; see `medvlp.prepared`.

    Args:
        index: index.parquet.
        variants: Variants by name.
    """
    described = {}
    for name, variant in variants.items():
        # Arrow arrays: hundreds of thousands of names take many times as much memory as a list of strings.
        image_id, split = pq.read_table(index, columns=["image_id", SPLIT_PREFIX + name]).columns
        used = pc.is_in(split, pa.array(SPLITS))
        split = split.filter(used)
        lines = pc.binary_join_element_wise(image_id.filter(used), split, ",")
        lines = lines.take(pc.sort_indices(lines))
        digest = hashlib.sha256()
        for first in range(0, len(lines), SLICE):
            digest.update("".join(f"{line}\n" for line in lines.slice(first, SLICE).to_pylist()).encode())
        described[name] = {
            "rule": variant.rule,
            "counts": {word: pc.sum(pc.equal(split, word)).as_py() or 0 for word in SPLITS},
            "documented": dict(variant.documented),
            "sha256": digest.hexdigest(),
        }
    return described
