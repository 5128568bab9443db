"""Reads the triplets of reports for training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medvlp.data.statements import SIDES, Statements
from medvlp.errors import UserError
from medvlp.parse import FINDINGS, REGIONS
from medvlp.parse.labels import STRENGTH
from medvlp.prepared import INDEX
from medvlp.types import PRECEDENCE

# Other sections hold history or questions, not findings. RadGraph's table has only the report as a whole.
SECTIONS = ["findings", "impression", "report"]
ALWAYS = ["id", "section", "finding", "existence"]
OF_SENTENCES = ["text", "region", "side"]

AGAIN = (
    "Parse the reports again: 'medvlp parse --input {root}/index.parquet --id study_id --out {root}/triplets.parquet'."
)


class StatedSentence(NamedTuple):
    """A sentence that states findings.

    Attributes:
        section: findings, impression or report.
        number: Number of the sentence in its section, from 0.
        text: The sentence.
        statement: What it states, a row of `ReportTriplets.statements`.
    """

    section: str
    number: int
    text: str
    statement: int


class ReportTriplets:
    """The findings and the sentences of some reports, from a triplets table (see `medvlp.parse`).

    Args:
        path: The table.
        ids: Ids of the N reports; an id may repeat.
        sentences: Whether to load what sentences state; without it, only `existence` is there.

    Attributes:
        existence: State of each finding in each report, int8 (N, F): PRESENT, ABSENT, UNCERTAIN or NOT_MENTIONED.
        statements: The distinct statements of the sentences.

    Raises:
        UserError: If the table has findings or regions that the vocabulary lacks, or no study of the folder.
    """

    def __init__(self, path: Path, ids: Sequence[str], sentences: bool = True) -> None:
        columns = [*ALWAYS, *(["sentence", *OF_SENTENCES] if sentences else [])]
        # Dictionaries store the strings of MIMIC-CXR's 3.5 million rows as numbers.
        table = pq.read_table(path, columns=columns, read_dictionary=[*ALWAYS, *OF_SENTENCES]).combine_chunks()
        distinct = list(dict.fromkeys(ids))
        report, section = _codes(table, "id", distinct), _codes(table, "section", SECTIONS)
        # Reports without triplets have no rows either, so that only the ids of the whole folder tell an error.
        if len(table) and not (report >= 0).any() and not _of_studies(table["id"], path.parent):
            raise UserError(
                f"'{path}' holds no triplets of these reports: its ids are like '{table['id'][0]}', those of the "
                f"studies like '{distinct[0]}'. {AGAIN.format(root=path.parent)}"
            )
        taken = np.flatnonzero((report >= 0) & (section >= 0))
        table, report, section = table.take(pa.array(taken)), report[taken], section[taken]
        for name, vocabulary in (("finding", FINDINGS), ("region", REGIONS))[: 1 + sentences]:
            if unknown := sorted({*pc.unique(table[name]).to_pylist()} - {*vocabulary, None}):
                raise UserError(
                    f"'{path}' has the {name} '{unknown[0]}', which is not in the vocabulary of this medvlp: "
                    f"another version wrote the file. {AGAIN.format(root=path.parent)}"
                )
        # PRECEDENCE is NOT_MENTIONED, followed by STRENGTH.
        rank = 1 + _codes(table, "existence", STRENGTH)
        finding = _codes(table, "finding", FINDINGS)
        ranks = np.zeros((len(distinct), len(FINDINGS)), np.int8)
        np.maximum.at(ranks, (report, finding), rank.astype(np.int8))
        row = {study: row for row, study in enumerate(distinct)}
        self._row = np.array([row[study] for study in ids])
        self.existence = np.array(PRECEDENCE, np.int8)[ranks][self._row]
        if not sentences:
            return

        # One number for each sentence and one for each part of a statement: 3.5 million rows are sorted twice.
        line = 1 << 32
        sentence = (report * len(SECTIONS) + section) * line + table["sentence"].to_numpy()
        keys, first, number = np.unique(sentence, return_index=True, return_inverse=True)
        region, side = _codes(table, "region", REGIONS), _codes(table, "side", SIDES)
        self.statements, statement = Statements.of(number, finding, rank, region, side)
        self._statement = statement.astype(np.int32)
        self._section = (keys // line % len(SECTIONS)).astype(np.int8)
        self._number = (keys % line).astype(np.int32)
        self._text = table["text"].take(pa.array(first)).combine_chunks()
        self._offsets = np.searchsorted(keys, np.arange(len(distinct) + 1) * len(SECTIONS) * line)

    @property
    def texts(self) -> list[str]:
        """The distinct sentences that mention a region."""
        placed = self.statements.region[self._statement].any(1)
        return list(pc.unique(self._text.filter(pa.array(placed))).to_pylist())

    def stated(self, i: int) -> list[StatedSentence]:
        """Return the sentences of report i that state findings, in their order."""
        rows = slice(self._offsets[self._row[i]], self._offsets[self._row[i] + 1])
        columns = (self._section[rows].tolist(), self._number[rows].tolist(), self._statement[rows].tolist())
        texts = self._text[rows].to_pylist()
        return [
            StatedSentence(SECTIONS[section], number, text, statement)
            for section, number, statement, text in zip(*columns, texts, strict=True)
        ]


def _of_studies(ids: pa.ChunkedArray, root: Path) -> bool:
    """Return whether a prepared folder has a study with any of the ids."""
    studies = pq.read_table(root / INDEX, columns=["study_id"])["study_id"]
    return bool(pc.any(pc.is_in(ids.cast(pa.string()).unique(), studies.combine_chunks())).as_py())


def _codes(table: pa.Table, column: str, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the positions of a column's strings in `names`, -1 for strings that are not in it."""
    encoded = table[column].combine_chunks()
    position = {name: i for i, name in enumerate(names)}
    codes = np.array([*(position.get(value, -1) for value in encoded.dictionary.to_pylist()), -1])
    return np.asarray(codes[encoded.indices.fill_null(len(codes) - 1).to_numpy()])
