"""The leak audit: patients and images of known test sets that stand in the training data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medvlp.data.duplicates import Descriptions, copies
from medvlp.data.families import family_of, patients
from medvlp.data.known_tests import KnownTest, folders_beside, known_tests, open_readable
from medvlp.data.selection import Rows, select
from medvlp.prepared import Prepared

if TYPE_CHECKING:
    from medvlp.data.datamodule import CXRDataModule


NO_ROWS: Rows = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Overlap:
    """What of a known test set stands in the training images of one folder.

    Attributes:
        source: Number of the training folder.
        dataset: The data set of the test.
        folder: Name of its folder.
        splits: Its split variants with these test images, and the hash of each.
        patients: Number of its test patients that are known; 0 without names of patients.
        patients_seen: Number of those with a training image.
        images: Number of its test images.
        images_seen: Number of those that are themselves a training image, or have a copy among them.
        training: Rows of images.npy of these training images, and of all those of these patients, ascending.
    """

    source: int
    dataset: str
    folder: str
    splits: dict[str, str | None]
    patients: int
    patients_seen: int
    images: int
    images_seen: int
    training: list[int]


@dataclass(frozen=True)
class Audit:
    """The result of a leak audit.

    Attributes:
        overlaps: One for each training folder and known test set, also where they share nothing.
        twice: For two training folders, by their numbers, the number of images of the second with a copy in the first.
    """

    overlaps: list[Overlap]
    twice: dict[tuple[int, int], int]

    def rows(self, source: int) -> Rows:
        """Return the rows of images.npy of a training folder that stand in a known test set, ascending."""
        return union(one.training for one in self.overlaps if one.source == source)


@dataclass(frozen=True)
class Training:
    """The training images of a folder, before any are left out.

    Attributes:
        number: Number of the folder.
        prepared: The folder.
        rows: Rows of images.npy.
        patient: Their patients, see `patients`.
    """

    number: int
    prepared: Prepared
    rows: Rows
    patient: pa.ChunkedArray

    @classmethod
    def of(cls, data: CXRDataModule) -> list[Training]:
        """Return those of all folders of a run."""
        trained = []
        for number, prepared in enumerate(data.roots.open()):
            table = select(prepared, data.splits["train"], data.split, data.targets, data.share, ["subject_id"]).table
            names = patients(prepared, table["subject_id"])
            trained.append(cls(number, prepared, table["row"].to_numpy(), names))
        return trained


def compared_folders(data: CXRDataModule) -> list[Prepared]:
    """Return the folders whose test sets are known to a run: its own, and `known_tests` or those beside its own.

    Raises:
        NotFoundError: If one of `known_tests` is no prepared folder.
    """
    own = data.roots.open()
    if data.known_tests is None:
        return [*own, *open_readable(folders_beside(data.roots.paths))]
    named = {folder.root.resolve(): folder for folder in map(Prepared.open, data.known_tests)}
    return [*own, *(folder for path, folder in named.items() if path not in [one.root.resolve() for one in own])]


def compare(trained: Sequence[Training], folders: Sequence[Prepared], elsewhere: Path) -> Audit:
    """Find the patients and images of known test sets in training images.

    Patients are compared within families of data sets, see `medvlp.data.families`, images with the test images of all
    other folders, see `medvlp.data.duplicates`.

    Args:
        trained: The training images, by folder.
        folders: The folders with test sets; those of the training come first.
        elsewhere: Folder for what cannot be kept in a prepared folder that is read-only.
    """
    described = cache(lambda number: Descriptions(folders[number], elsewhere))
    overlaps: list[Overlap] = []
    twice: dict[tuple[int, int], int] = {}
    for one in trained:
        for number, prepared in enumerate(folders):
            tests = list(known_tests(prepared))
            later = trained[number].rows if one.number < number < len(trained) else NO_ROWS
            wanted = union([later, *(test.rows for test in tests)])
            pairs = np.empty((0, 2), np.int64)
            if number != one.number and len(wanted):
                pairs = copies(described(one.number), described(number), (one.rows, wanted))
            if len(later):
                twice[one.number, number] = len(np.intersect1d(pairs[:, 1], later))
            overlaps += [_overlap(one, test, pairs, number == one.number) for test in tests]
    return Audit(overlaps, twice)


def union(rows: Iterable[Sequence[int] | Rows]) -> Rows:
    """Return the distinct rows of several lists, ascending."""
    return np.unique(np.concatenate([NO_ROWS, *(np.asarray(some, np.int64) for some in rows)]))


def _overlap(one: Training, test: KnownTest, pairs: Rows, same_folder: bool) -> Overlap:
    """Return the overlap of training images with a test set.

    Args:
        one: The training images.
        test: The test set.
        pairs: Copies of images, rows of the training folder and of that of the test, int64 (K, 2).
        same_folder: Whether these are one folder.
    """
    known = test.patient.drop_null().unique()
    leaking, seen_patients = np.zeros(len(one.rows), np.bool_), 0
    if family_of(one.prepared) == family_of(test.prepared):
        leaking |= pc.is_in(one.patient, known).to_numpy()
        seen_patients = int(pc.sum(pc.is_in(known, one.patient.combine_chunks())).as_py() or 0)
    if same_folder:
        seen = np.isin(test.rows, one.rows)
        leaking |= np.isin(one.rows, test.rows)
    else:
        pairs = pairs[np.isin(pairs[:, 1], test.rows)]
        seen = np.isin(test.rows, pairs[:, 1])
        leaking |= np.isin(one.rows, pairs[:, 0])
    variants = test.prepared.split_variants
    return Overlap(
        one.number,
        test.prepared.manifest["options"]["dataset"],
        Path(test.prepared.root).resolve().name,
        {name: variants[name]["sha256"] for name in test.variants},
        len(known),
        seen_patients,
        len(test.rows),
        int(seen.sum()),
        sorted(one.rows[leaking].tolist()),
    )
