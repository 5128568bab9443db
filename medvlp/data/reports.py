"""The reports of a run, which tasks read before training: to check them, and to embed them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import lightning as L
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medvlp.data.sentences import ReportSentences
from medvlp.data.triplets import ReportTriplets
from medvlp.prepared import TRIPLETS, Prepared


class ReportDataModule(L.LightningDataModule):
    """A data module that knows the reports of its splits.

    Attributes:
        root: The prepared folder.
        splits: The splits of `train`, `validate` and `test`.
        split: Name of the split variant; None for the first.
    """

    root: Path
    splits: Mapping[str, Sequence[str]]
    split: str | None

    def reports(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return Findings and Impressions, empty if missing, of some of `train`, `validate` and `test`."""
        index = self._index(names, ["findings", "impression"])
        return index["findings"].fill_null("").to_pylist(), index["impression"].fill_null("").to_pylist()

    def region_sentences(self, names: Sequence[str]) -> list[str]:
        """Return the distinct sentences about regions in some of `train`, `validate` and `test`."""
        triplets = self._triplets(names)
        return triplets.texts if triplets else []

    def sentences(self, names: Sequence[str], placed: bool = False) -> list[str]:
        """Return the distinct sentences of the reports in some of `train`, `validate` and `test`.

        Args:
            names: The names.
            placed: Only those that mention a region.
        """
        index = self._index(names, ["study_id", "findings", "impression"])
        findings, impression = (index[name].fill_null("").combine_chunks() for name in ("findings", "impression"))
        return ReportSentences(index["study_id"].to_pylist(), findings, impression, self._triplets(names)).texts(placed)

    def existences(self, names: Sequence[str]) -> npt.NDArray[np.int8] | None:
        """Return the findings of reports, int8 (N, F), see `Batch.existence`; None if there are no triplets."""
        triplets = self._triplets(names, sentences=False)
        return triplets.existence if triplets else None

    def _triplets(self, names: Sequence[str], sentences: bool = True) -> ReportTriplets | None:
        studies = self._index(names, ["study_id"])["study_id"].to_pylist()
        path = Path(self.root) / TRIPLETS
        return ReportTriplets(path, studies, sentences) if studies and path.exists() else None

    def _index(self, names: Sequence[str], columns: Sequence[str]) -> pa.Table:
        splits = [split for name in names for split in self.splits[name]]
        return Prepared.open(self.root).of_splits(splits, columns, self.split)
