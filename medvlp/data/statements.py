"""What sentences state: findings with their existence and their regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from medvlp.parse import FINDINGS, REGIONS, Side
from medvlp.types import NOT_MENTIONED, PRECEDENCE, text_ids

SIDES = list(get_args(Side))
NO_SIDE = -1
# Regions that are themselves on a side: the side of a finding there says nothing more.
SIDED = np.array([name.startswith(("left ", "right ")) for name in REGIONS] + [False])

Codes = npt.NDArray[np.int64]


@dataclass
class Statements:
    """Distinct statements, of which the first states nothing. Few are distinct: arrays of all sentences need no more.

    Attributes:
        id: A number for each, int64 (U,): equal for equal statements in every folder and process; 0 for the first.
        existence: State of each finding of `medvlp.parse.FINDINGS`, int8 (U, F); see `Batch.existence`.
        region: Mask of the regions of `medvlp.parse.REGIONS` that the sentence mentions, bool (U, 29).
    """

    id: npt.NDArray[np.int64]
    existence: npt.NDArray[np.int8]
    region: npt.NDArray[np.bool_]

    @classmethod
    def nothing(cls) -> Statements:
        """Return the statement that states nothing."""
        existence = np.full((1, len(FINDINGS)), NOT_MENTIONED, np.int8)
        return cls(np.zeros(1, np.int64), existence, np.zeros((1, len(REGIONS)), np.bool_))

    @classmethod
    def of(cls, sentence: Codes, finding: Codes, rank: Codes, region: Codes, side: Codes) -> tuple[Statements, Codes]:
        """Return the distinct statements of S sentences, and the statement of each sentence.

        A statement is the set of its parts, each a finding with its existence in one region; a side belongs to the
        part only where the region has none (the right of two broken ribs). Effusions on both sides are a bilateral
        effusion. A part may be given several times.

        Args:
            sentence: The sentence of each part, 0 to S - 1, int64 (T,). Each sentence has a part.
            finding: Position of its finding in `FINDINGS`.
            rank: Position of its existence in `PRECEDENCE`.
            region: Position of its region in `REGIONS`; -1 for none.
            side: Position of its side in `SIDES`; -1 for none.
        """
        if not len(sentence):
            return cls.nothing(), np.zeros(0, np.int64)
        side = np.where(SIDED[region], NO_SIDE, side)
        shape = (len(FINDINGS), len(PRECEDENCE), len(REGIONS) + 1, len(SIDES) + 1)
        parts, part = np.unique(np.ravel_multi_index((finding, rank, region + 1, side + 1), shape), return_inverse=True)
        codes = np.stack(np.unravel_index(parts, shape))
        names = (FINDINGS, PRECEDENCE, ("", *REGIONS), ("", *SIDES))
        texts = ["|".join(str(n[c]) for n, c in zip(names, code, strict=True)) for code in codes.T.tolist()]
        pairs = np.unique(sentence * len(parts) + part)
        sentence, part = np.divmod(pairs, len(parts))
        # The sum of random numbers of 56 bits tells sets of parts apart, whatever the order.
        total = np.add.reduceat(text_ids(texts).numpy()[part], np.flatnonzero(np.diff(sentence, prepend=-1)))
        ids, first, statement = np.unique(total, return_index=True, return_inverse=True)
        row = np.full(len(total), -1)
        row[first] = np.arange(len(ids))
        described = row[sentence] >= 0
        row, (finding, rank, region, _) = row[sentence[described]], codes[:, part[described]]
        ranks = np.zeros((len(ids) + 1, len(FINDINGS)), np.int8)
        np.maximum.at(ranks, (row + 1, finding), rank.astype(np.int8))
        mentioned = np.zeros((len(ids) + 1, len(REGIONS) + 1), np.bool_)
        mentioned[row + 1, region] = True
        existence = np.array(PRECEDENCE, np.int8)[ranks]
        return cls(np.concatenate([[0], ids]), existence, mentioned[:, 1:]), statement + 1
