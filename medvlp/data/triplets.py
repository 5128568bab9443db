"""The triplets of reports, as training reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medvlp.errors import UserError
from medvlp.parse import FINDINGS, REGIONS
from medvlp.types import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN

# Where a report contradicts itself, the later of these counts.
PRECEDENCE = {"absent": ABSENT, "uncertain": UNCERTAIN, "present": PRESENT}
SECTIONS = ["findings", "impression"]
COLUMNS = ["id", "section", "sentence", "text", "region", "finding", "existence"]


class RegionSentence(NamedTuple):
    """A sentence that speaks of regions.

    Attributes:
        section: findings or impression.
        text: The sentence.
        regions: Positions in `medvlp.parse.REGIONS`, int64.
    """

    section: str
    text: str
    regions: npt.NDArray[np.int64]


class ReportTriplets:
    """What some reports say of findings and regions, from a triplets table (see `medvlp.parse`).

    Args:
        path: The table.
        ids: The reports' ids; one may come several times.

    Attributes:
        finding: What each report says of each finding, int8 (N, F): PRESENT, ABSENT, UNCERTAIN or NOT_MENTIONED.

    Raises:
        UserError: If the table names findings or regions that the vocabulary lacks.
    """

    def __init__(self, path: Path, ids: Sequence[str]) -> None:
        distinct = pa.array(dict.fromkeys(ids), pa.string())
        table = pq.read_table(path, columns=COLUMNS, filters=pc.is_in(pc.field("id"), distinct))
        report = pc.index_in(table["id"], distinct).to_numpy()
        finding = _codes(table["finding"], FINDINGS, path, "finding")
        region = _codes(table["region"], REGIONS, path, "region")
        rank = pc.index_in(table["existence"], pa.array(PRECEDENCE)).to_numpy()

        ranks = np.zeros((len(distinct), len(FINDINGS)), np.int8)
        np.maximum.at(ranks, (report, finding), (rank + 1).astype(np.int8))
        row = pc.index_in(pa.array(ids, pa.string()), distinct).to_numpy()
        self.finding = np.array([NOT_MENTIONED, *PRECEDENCE.values()], np.int8)[ranks][row]

        # Pairs of a sentence and a region, sorted by report, section, sentence and region, each once.
        placed = np.flatnonzero(region >= 0)
        section = pc.index_in(table["section"], pa.array(SECTIONS)).to_numpy()
        keys = np.stack([report, section, table["sentence"].to_numpy(), region])[:, placed].astype(np.int64)
        keys, first = np.unique(keys, axis=1, return_index=True)
        self._pairs = keys[1:]
        self._text = table["text"].take(pa.array(placed[first])).combine_chunks()
        self._offsets = np.searchsorted(keys[0], np.arange(len(distinct) + 1))
        self._row = row

    @property
    def texts(self) -> list[str]:
        """The distinct sentences that speak of a region."""
        return list(self._text.unique().to_pylist())

    def sentences(self, i: int) -> list[RegionSentence]:
        """Return the sentences of report i that speak of a region, in their order."""
        start, stop = self._offsets[self._row[i]], self._offsets[self._row[i] + 1]
        section, number, region = self._pairs[:, start:stop]
        begins = np.flatnonzero(np.diff(section * (1 << 32) + number, prepend=-1))
        return [
            RegionSentence(SECTIONS[section[b]], self._text[int(start + b)].as_py(), regions)
            for b, regions in zip(begins, np.split(region, begins)[1:], strict=True)
        ]


def _codes(column: pa.ChunkedArray, names: Sequence[str], path: Path, what: str) -> npt.NDArray[Any]:
    """Return positions in names, -1 where null."""
    codes = pc.index_in(column, pa.array(names, pa.string()))
    unknown = column.filter(pc.and_(pc.is_null(codes), pc.is_valid(column)))
    if len(unknown):
        raise UserError(
            f"'{path}' has the {what} '{unknown[0]}', which the vocabulary of this medvlp lacks: it was parsed with "
            "another. Parse the reports again with 'medvlp parse'."
        )
    return np.asarray(codes.fill_null(-1).to_numpy())
