"""The 5x200 sets, after GLoRIA's of CheXpert: 200 images of each of five findings, without any other finding.

Huang et al., GLoRIA: A Multimodal Global-Local Representation Learning Framework for Label-efficient Medical Image
Recognition, ICCV 2021.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import numpy as np

CLASSES = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
EACH = 200


@cache
def class_of(names: tuple[str, ...], values: tuple[int | None, ...]) -> str | None:
    """Return the class of an image with these labels; None if it has none.

    Exactly one label other than No Finding is present, it is one of the five, and no other one is uncertain. Source:
    GLoRIA, as in MGCA `preprocess/chexpert.py`.
    """
    stated = {name: value for name, value in zip(names, values, strict=True) if value and name != "No Finding"}
    name, value = next(iter(stated.items()), (None, None))
    return name if len(stated) == 1 and name in CLASSES and value == 1 else None


def candidates(images: Iterable[tuple[str, Iterable[int | None]]], names: Sequence[str]) -> dict[str, list[str]]:
    """Return the candidates of each class, in their order.

    Args:
        images: Names of frontal images, and a value for each label: 1, 0, -1 or None.
        names: Names of the labels.
    """
    images_of: dict[str, list[str]] = {name: [] for name in CLASSES}
    for image_id, values in images:
        name = class_of(tuple(names), tuple(values))
        if name is not None:
            images_of[name].append(image_id)
    return images_of


def draw(candidates: Mapping[str, Sequence[str]], each: int = EACH) -> set[str]:
    """Return a sample of each class: the images that MGCA's `DataFrame.sample(random_state=0)` draws.

    Args:
        candidates: Images of each class, in the order of the table.
        each: Number of images in a sample; a class with fewer gives all of them.
    """
    return {
        images[position]
        for images in candidates.values()
        for position in np.random.RandomState(0).choice(len(images), min(each, len(images)), replace=False)
    }
