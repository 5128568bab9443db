"""What a data module knows of the prepared folders of its run: their labels, and the images to train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medvlp.data.reports import ReportDataModule
from medvlp.data.selection import Targets, select
from medvlp.data.subset import Subset
from medvlp.errors import UserError
from medvlp.types import find_label


class FolderDataModule(ReportDataModule):
    """A data module of one or several prepared folders.

    Attributes:
        share: The choice of training images.
        targets: Annotations that images must have.
    """

    share: Subset
    targets: Targets | None

    @property
    def root(self) -> Path:
        """The prepared folder of a run that reads one.

        Raises:
            UserError: If there are several.
        """
        if len(self.roots) > 1:
            raise UserError(
                f"root names {len(self.roots)} folders, {self.roots}, but only pre-training reads several: pass one, "
                f"--data.root {self.roots.paths[0]}."
            )
        return self.roots.paths[0]

    @property
    def labels(self) -> list[str]:
        """Names of the labels of all folders."""
        return self.roots.labels

    def find_labels(self, names: Sequence[str], option: str) -> list[str]:
        """Return labels as the data spells them; names match in any case.

        Args:
            names: The names.
            option: The option that holds the names, for the error.

        Raises:
            UserError: If the data has no such label, or a label is named twice.
        """
        labels = []
        for name in names:
            label = find_label(name, self.labels)
            if label is None or label in labels:
                wrong = f"names '{name}' twice" if label else f"but the data in root='{self.roots}' has no '{name}'"
                raise UserError(f"{option}={list(names)}, {wrong}; it has: {', '.join(self.labels) or 'none'}.")
            labels.append(label)
        return labels

    @property
    def subsets(self) -> list[list[str]]:
        """Names of the images to train on, of each folder."""
        return [
            select(
                prepared, self.splits["train"], self.split, self.targets, self.share, left_out=self.left_out.get(number)
            )
            .table["image_id"]
            .to_pylist()
            for number, prepared in enumerate(self.roots.open())
        ]

    @property
    def subset(self) -> list[str]:
        """Names of the images to train on."""
        return [name for names in self.subsets for name in names]

    def sources(self, name: str) -> list[int]:
        """Return the numbers of the folders that `train`, `validate` or `test` reads.

        One of several folders need not have images to evaluate on.
        """
        if name == "train" or len(self.roots) == 1:
            return [*range(len(self.roots))]
        there = [len(index) for _, index in self.indices([name], [])]
        return [number for number, images in enumerate(there) if images] or [0]
