"""The prepared folders that a run reads, and how much of its training each of them is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medvlp.errors import UserError
from medvlp.prepared import Prepared, local_root
from medvlp.types import find_label

Root = dict[str, float] | list[str] | Path
"""One prepared folder; several, of which an epoch reads every image once; or several with the weights of `Roots`."""


class Roots:
    """One or several prepared folders.

    The weights are shares of the samples of an epoch, whatever the sizes of the folders: with `a: 1.0, b: 0.5`, two of
    three samples are from a. An epoch has as many samples as all folders have training images, so that the images of
    one folder may be read several times in it, and those of another one only in part.

    Args:
        root: A folder or its URL, a list of folders, or the weight of each folder.

    Attributes:
        paths: The folders; of a URL, that of its copies.
        weights: Their weights; None if an epoch reads every image once.
        names: Their names in logs, each different: the last parts of the paths, joined by hyphens where there are
            several.

    Raises:
        UserError: If there is no folder, a folder is named twice, or a weight is no positive number.
    """

    def __init__(self, root: Root | str) -> None:
        self.paths = [Path(root)] if isinstance(root, str | Path) else [Path(path) for path in root]
        self.weights = [float(weight) for weight in root.values()] if isinstance(root, Mapping) else None
        # What cannot be read as a mapping is read as the name of a folder.
        if not self.paths or (isinstance(root, str | Path) and str(root).startswith(("{", "["))):
            raise UserError(
                f"root={str(root)!r}: give a prepared folder, or several with their weights, such as "
                "--data.root '{data/mimic_cxr: 1.0, data/chexpert_plus: 0.5}'."
            )
        for path, weight in zip(self.paths, self.weights or [1.0] * len(self.paths), strict=True):
            if not (math.isfinite(weight) and weight > 0):
                raise UserError(
                    f"root: the weight {weight} of '{path}' is no positive number; leave a folder out that is not to "
                    "be trained on."
                )
        parts = [path.resolve().parts for path in self.paths]
        for path, part in zip(self.paths, parts, strict=True):
            if parts.count(part) > 1:
                raise UserError(f"root names the folder '{path}' twice: give its weight once.")
        self.paths = [local_root(path) for path in self.paths]
        depth = next(n for n in range(1, 99) if len({part[-n:] for part in parts}) == len(parts))
        self.names = ["-".join(part[-depth:]) for part in parts]

    def __str__(self) -> str:
        """Return the paths for messages."""
        return ", ".join(map(str, self.paths))

    def __len__(self) -> int:
        """Return the number of folders."""
        return len(self.paths)

    def open(self) -> list[Prepared]:
        """Open all folders."""
        return [Prepared.open(path) for path in self.paths]

    @cached_property
    def labels(self) -> list[str]:
        """Names of the labels of all folders, joined in any case: those of the first, then those that others add."""
        first, *others = self.open()
        labels = list(first.labels)
        for prepared in others:
            labels += [name for name in prepared.labels if find_label(name, labels) is None]
        return labels

    @cached_property
    def has_label(self) -> npt.NDArray[np.bool_]:
        """Which of `labels` each folder has, bool (folders, L)."""
        return np.array([[find_label(name, one.labels) is not None for name in self.labels] for one in self.open()])

    def counts(self, sizes: Sequence[int]) -> list[int]:
        """Return the number of samples of each folder in an epoch, `sum(sizes)` in all.

        Args:
            sizes: Number of training images of each folder.

        Raises:
            UserError: If a folder would have no sample.
        """
        if self.weights is None:
            return list(sizes)
        total = sum(sizes)
        exact = [total * weight / sum(self.weights) for weight in self.weights]
        counts = [int(share) for share in exact]
        # The largest remainders are rounded up.
        for i in sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])[: total - sum(counts)]:
            counts[i] += 1
        for path, count, weight in zip(self.paths, counts, self.weights, strict=True):
            if not count:
                raise UserError(
                    f"root: with the weight {weight} of '{path}' none of the {total:,} samples of an epoch is from it: "
                    "raise it, or leave the folder out."
                )
        return counts
