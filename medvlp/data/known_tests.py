"""The known test sets: the test images of prepared folders, by each of their split variants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from medvlp.data.families import patients
from medvlp.errors import UserError
from medvlp.prepared import INDEX, MANIFEST, SPLIT_PREFIX, Prepared, is_copy

TEST = "test"


@dataclass(frozen=True)
class KnownTest:
    """The test images of a prepared folder by one or several of its split variants.

    Attributes:
        prepared: The folder.
        variants: The variants with these test images.
        rows: Rows of the images in images.npy, int64 (N,).
        patient: Their patients, as `patients` names them, N strings, null where they are not known.
    """

    prepared: Prepared
    variants: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    patient: pa.ChunkedArray


def folders_beside(roots: Sequence[Path]) -> list[Path]:
    """Return the prepared folders that lie beside others, without these; none beside copies of a URL.

    Copies lie beside those of other URLs, and beside older copies of the same.
    """
    own = {root.resolve() for root in roots}
    parents = sorted({root.resolve().parent for root in roots if not is_copy(root)})
    # Links may show one folder under several names.
    found = {path.parent.resolve(): path.parent for parent in parents for path in sorted(parent.glob(f"*/{MANIFEST}"))}
    return [path for folder, path in found.items() if folder not in own]


def open_readable(paths: Sequence[Path]) -> list[Prepared]:
    """Open prepared folders, and warn of those that this medvlp cannot read."""
    opened = []
    for path in paths:
        try:
            prepared = Prepared.open(path)
            pq.read_schema(prepared.root / INDEX)
        except (UserError, OSError, ValueError, KeyError, TypeError) as error:
            rank_zero_warn(f"The test set in '{path}' is not compared with the training data: {error}")
        else:
            opened.append(prepared)
    return opened


def known_tests(prepared: Prepared) -> Iterator[KnownTest]:
    """Yield the test sets of a folder, variants with the same images together."""
    variants = list(prepared.split_variants)
    columns = [SPLIT_PREFIX + name for name in variants] or ["split"]
    table = pq.read_table(prepared.root / INDEX, columns=["row", "subject_id", *columns])
    masks: dict[bytes, list[str]] = {}
    for name, column in zip(variants or [""], columns, strict=True):
        mask = np.array([split == TEST for split in table[column].to_pylist()], np.bool_)
        if mask.any():
            masks.setdefault(mask.tobytes(), []).append(name)
    for packed, names in masks.items():
        mask = np.frombuffer(packed, np.bool_)
        chosen = table.filter(pa.array(mask))
        yield KnownTest(
            prepared, tuple(filter(None, names)), chosen["row"].to_numpy(), patients(prepared, chosen["subject_id"])
        )
