"""What a front end tells the pipeline about a raw data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from medvlp.prepare.study import Skip, Study

if TYPE_CHECKING:
    from medvlp.prepare.annotations import AnnotationSource
    from medvlp.prepare.regions import RegionSource
    from medvlp.prepare.splits import SplitVariant


class DataSet(Protocol):
    """A raw data set."""

    @property
    def options(self) -> dict[str, object]:
        """What identifies the preparation beside the pipeline's own options. No paths."""

    @property
    def labels(self) -> list[str]:
        """Names of the labels."""

    @property
    def images(self) -> Path:
        """Image root."""

    @property
    def real_images(self) -> list[str]:
        """Folders, all links resolved, in one of which every image must lie."""

    @property
    def regions(self) -> RegionSource | None:
        """Finds the anatomical boxes of the images, if they are wanted."""

    @property
    def annotations(self) -> AnnotationSource | None:
        """Reads what annotators drew in the images, if they drew anything."""

    @property
    def splits(self) -> Mapping[str, SplitVariant]:
        """The named ways to split it; the first is the default. All of the same keys in every `Study`."""

    @property
    def documented(self) -> int | None:
        """How many `rows` its makers say there are; None where that is not known."""

    @property
    def rows(self) -> int:
        """Images in its table, once the studies have been read."""

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield the studies in the order of the index, reporting table rows that cannot be used."""
