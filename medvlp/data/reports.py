"""The reports of a run, which tasks read before training: to check them, and to embed them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import lightning as L
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medvlp.data.roots import Roots
from medvlp.data.selection import Rows
from medvlp.data.sentences import ReportSentences
from medvlp.data.triplets import ReportTriplets
from medvlp.parse import FINDINGS
from medvlp.prepared import TRIPLETS, Prepared
from medvlp.types import NOT_MENTIONED


class ReportDataModule(L.LightningDataModule):
    """A data module that knows the reports of its splits.

    Attributes:
        roots: The prepared folders.
        splits: The splits of `train`, `validate` and `test`.
        split: Name of the split variant; None for the first.
        left_out: Rows of images.npy of each folder that are not trained on, by its number.
    """

    roots: Roots
    splits: Mapping[str, Sequence[str]]
    split: str | None
    left_out: Mapping[int, Rows]

    def reports(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return Findings and Impressions, empty if missing, of some of `train`, `validate` and `test`."""
        findings: list[str] = []
        impression: list[str] = []
        for _, index in self.indices(names, ["findings", "impression"]):
            findings += index["findings"].fill_null("").to_pylist()
            impression += index["impression"].fill_null("").to_pylist()
        return findings, impression

    def region_sentences(self, names: Sequence[str]) -> list[str]:
        """Return the distinct sentences about regions in some of `train`, `validate` and `test`."""
        read = (_triplets(root, index["study_id"]) for root, index in self.indices(names, ["study_id"]))
        return list(dict.fromkeys(text for triplets in read if triplets for text in triplets.texts))

    def sentences(self, names: Sequence[str], placed: bool = False) -> list[str]:
        """Return the distinct sentences of the reports in some of `train`, `validate` and `test`.

        Args:
            names: The names.
            placed: Only those that mention a region.
        """
        texts: dict[str, None] = {}
        for root, index in self.indices(names, ["study_id", "findings", "impression"]):
            findings, impression = (index[name].fill_null("").combine_chunks() for name in ("findings", "impression"))
            studies = index["study_id"]
            read = ReportSentences(studies.to_pylist(), findings, impression, _triplets(root, studies))
            texts |= dict.fromkeys(read.texts(placed))
        return list(texts)

    def existences(self, names: Sequence[str]) -> npt.NDArray[np.int8] | None:
        """Return the findings of reports, int8 (N, F), see `Batch.existence`; None if there are no triplets."""
        read = [
            (len(index), _triplets(root, index["study_id"], sentences=False))
            for root, index in self.indices(names, ["study_id"])
        ]
        if not any(triplets for _, triplets in read):
            return None
        silent = (len(FINDINGS),)
        return np.concatenate([t.existence if t else np.full((n, *silent), NOT_MENTIONED, np.int8) for n, t in read])

    def indices(self, names: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[Path, pa.Table]]:
        """Yield each folder with columns of its images in some of `train`, `validate` and `test`.

        Args:
            names: The names. Of `train` alone, the images that are left out are missing.
            columns: Columns of the index; `row` is always there.
        """
        splits = [split for name in names for split in self.splits[name]]
        for number, path in enumerate(self.roots.paths):
            index = Prepared.open(path).of_splits(splits, ["row", *columns], self.split)
            left_out = self.left_out.get(number)
            if [*names] == ["train"] and left_out is not None:
                index = index.filter(pa.array(~np.isin(index["row"].to_numpy(), left_out)))
            yield path, index


def _triplets(root: Path, studies: pa.ChunkedArray, sentences: bool = True) -> ReportTriplets | None:
    path = root / TRIPLETS
    return ReportTriplets(path, studies.to_pylist(), sentences) if len(studies) and path.exists() else None
