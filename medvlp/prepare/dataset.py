"""The base of all front ends: the facts about a raw data set that the pipeline needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medvlp.prepare.study import Skip, Study
from medvlp.prepare.tables import present_columns, read_table
from medvlp.prepared import SYNTHETIC

if TYPE_CHECKING:
    from medvlp.prepare.annotations import AnnotationSource
    from medvlp.prepare.archives.archive import Archive
    from medvlp.prepare.regions import RegionSource
    from medvlp.prepare.splits import SplitVariant
    from medvlp.prepare.views import ViewTeller


class DataSet(ABC):
    """A raw data set: its files and how they are read.

    A front end sets the attributes without a default and yields its studies. It raises NotFoundError in its
    constructor if a file is missing, before anything is written.

    Attributes:
        options: Settings that identify the preparation, beside the pipeline's own. No paths.
        labels: Names of the labels.
        images: Image root.
        archive: Archive in which the images lie by their paths, and from which they are read as it streams by; None if
            they lie below the image root.
        real_images: Folders without links. Every image must lie in one of them.
        splits: Split variants by name. The first is the default. Every `Study` has a split for each of them.
        regions: Finder of the anatomical boxes; None if the preparation needs none.
        annotations: Reader of the drawn objects; None in a data set without any.
        view_teller: Source of the views that the tables lack; None if they have all.
        documented: Number of images that the makers publish, to compare with `rows`; None if there is no such number.
        rows: Number of images in the tables; complete when all studies have been read.
    """

    options: dict[str, object]
    labels: Sequence[str]
    images: Path
    real_images: list[str]
    archive: Archive | None = None
    splits: Mapping[str, SplitVariant]
    regions: RegionSource | None = None
    annotations: AnnotationSource | None = None
    view_teller: ViewTeller | None = None
    documented: int | None = None
    rows: int = 0

    @abstractmethod
    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield the studies in the order of the index.

        Args:
            skip: Called for each table row that cannot be used.
        """

    def counted_rows(
        self, path: Path, columns: Sequence[str], skip: Skip, optional: Sequence[str] = ()
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the rows of a table of images as `read_table` does, and count them in `rows`.

        Args:
            path: A .csv or .csv.gz file.
            columns: Names of the columns.
            skip: Called for each row with a wrong number of fields. Such rows count, too.
            optional: Names of further columns; their fields are empty in a copy of the table without them.

        Raises:
            UserError: If a column is missing or the file cannot be read to its end.
        """

        def skip_row(place: str, reason: str) -> None:
            self.rows += 1
            skip(place, reason)

        present = present_columns(path, optional) if optional else []
        for place, fields in read_table(path, [*columns, *present], skip_row):
            self.rows += 1
            found = dict(zip(present, fields[len(columns) :], strict=True))
            yield place, (*fields[: len(columns)], *(found.get(name, "") for name in optional))


def identity(name: str, root: Path, **settings: object) -> dict[str, object]:
    """Return `DataSet.options` of a data set without anatomical regions.

    Args:
        name: The data set, as its command is called.
        root: Folder that has the mark of the phantom if its patients are invented.
        settings: What else tells one preparation from another.
    """
    return {"dataset": name, **settings, "synthetic": (root / SYNTHETIC).is_file()}
