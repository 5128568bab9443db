"""What a validation of several prepared folders measures of each of them, and of all together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.data.roots import Roots
from medvlp.types import UNCERTAIN


def without_lacking(label: Tensor, source: Tensor, roots: Roots) -> Tensor:
    """Return labels for metrics: those that the folder of an image lacks are not absent in it, and so not counted.

    Args:
        label: The joined labels, int8 (B, L), or more columns after these.
        source: Numbers of the folders (B,).
        roots: The folders.
    """
    if len(roots) == 1:
        return label
    lacking = ~torch.from_numpy(roots.has_label).to(source.device)[source]
    return label.masked_fill(F.pad(lacking, (0, label.shape[1] - lacking.shape[1])), UNCERTAIN)


def by_folder(rows: Mapping[str, Tensor], roots: Roots) -> Iterator[tuple[str, dict[str, Tensor], list[str]]]:
    """Yield the name, the rows and the labels of each folder that has rows; rows have `label` and `source`."""
    for number, name in enumerate(roots.names):
        places = (rows["source"] == number).nonzero()[:, 0]
        if not len(places):
            continue
        has = roots.has_label[number]
        # The images of a folder follow each other: slices copy no image tokens from disk.
        own = {key: value[places[0] : places[-1] + 1] for key, value in rows.items()}
        own["label"] = own["label"][:, torch.from_numpy(has)]
        yield name, own, [label for label, there in zip(roots.labels, has, strict=True) if there]


class Means:
    """The means of named values over the batches of several loaders; the Trainer's are those of one loader each.

    A batch counts as often as it has images.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._images = 0

    def add(self, values: Mapping[str, Tensor], images: int) -> None:
        """Add the values of a batch of so many images."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + images * value.float()
        self._images += images

    def collect(self) -> dict[str, Tensor]:
        """Return the means, and forget them."""
        means = {name: total / self._images for name, total in self._sums.items()}
        self._sums, self._images = {}, 0
        return means
