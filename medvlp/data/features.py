"""Features of a frozen encoder on disk: each image is encoded once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from filelock import FileLock
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from medvlp.data.dataset import PreparedDataset, collate
from medvlp.errors import UserError
from medvlp.types import Batch

FOLDER = "features"
# Images that the encoder sees at once.
CHUNK = 64
Rows = npt.NDArray[np.int64]


class FeatureStore:
    """Float16 features of the images of a prepared folder, each computed when it is first wanted.

    One file for each tensor, (N, ...) with a row for each row of images.npy, and one that says which rows are there;
    rows that are not take no space. It can be interrupted while writing, and several processes may fill it.

    Args:
        root: The prepared folder.
        settings: Everything that decides the features; other settings have their own folder.
        rows: Number N of rows.
        advice: What to do where the disk has no room for them.

    Attributes:
        folder: Where the files lie.
    """

    def __init__(
        self,
        root: Path,
        settings: Mapping[str, Any],
        rows: int,
        advice: str = "pass --model.cache_features false",
    ) -> None:
        self._settings = json.dumps(settings, indent=1, sort_keys=True)
        self.folder = Path(root) / FOLDER / hashlib.sha256(self._settings.encode()).hexdigest()[:16]
        self._count, self._advice = rows, advice
        self._maps: list[npt.NDArray[np.float16]] = []

    def missing(self, rows: Rows) -> Rows:
        """Return the distinct rows that are not there yet, ascending."""
        rows = np.unique(rows)
        return rows[~np.load(self._done)[rows]] if self._done.exists() else rows

    def fill(self, rows: Rows, encode: Callable[[Rows], Sequence[Tensor]], chunk: int = CHUNK) -> None:
        """Compute what is missing of some rows.

        Args:
            rows: Rows of images.npy.
            encode: Returns the tensors (M, ...) of M rows.
            chunk: Number of images that are encoded at once, and lost by an interruption.

        Raises:
            UserError: If the disk has no room for them.
        """
        if not len(self.missing(rows)):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            # Another process may have computed them meanwhile.
            missing = self.missing(rows)
            if not len(missing):
                return
            (self.folder / "settings.json").write_text(self._settings)
            maps: list[Any] = []
            for start in track(range(0, len(missing), chunk), f"Encoding {len(missing):,} images"):
                some = missing[start : start + chunk]
                tensors = [tensor.half().cpu().numpy() for tensor in encode(some)]
                if not maps:
                    self._make_room(sum(tensor[0].nbytes for tensor in tensors) * len(missing))
                    maps = [self._open(self._map(i), np.float16, x.shape[1:]) for i, x in enumerate(tensors)]
                    done = self._open(self._done, np.bool_, ())
                for array, tensor in zip(maps, tensors, strict=True):
                    array[some] = tensor
                    array.flush()
                # Last, since a row counts once it is marked.
                done[some] = True
                done.flush()

    def read(self, rows: Rows) -> list[Tensor]:
        """Return the tensors (M, ...) of M rows that are all there, float16."""
        if not self._maps:
            count = len(list(self.folder.glob("features-*.npy")))
            self._maps = [np.load(self._map(i), mmap_mode="r") for i in range(count)]
        return [torch.from_numpy(array[rows]) for array in self._maps]

    def _make_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise UserError(
                f"the features of the images need {needed / 1e9:.1f} GB in '{self.folder}', where {free / 1e9:.1f} GB "
                f"are free. Make room, or {self._advice}."
            )

    def _open(self, path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> Any:
        if not path.exists():
            unfinished = path.with_suffix(".new")
            np.lib.format.open_memmap(unfinished, "w+", dtype, (self._count, *shape))
            unfinished.rename(path)
        return np.lib.format.open_memmap(path, "r+")

    def _map(self, number: int) -> Path:
        return self.folder / f"features-{number}.npy"

    @property
    def _done(self) -> Path:
        return self.folder / "done.npy"


class FeatureDataset(Dataset[Batch]):
    """A data set whose batches hold stored features in place of images; one indexing a batch.

    Args:
        samples: The data set, whose images are seen as in evaluation.
        store: Their features.
    """

    def __init__(self, samples: PreparedDataset, store: FeatureStore) -> None:
        self.samples, self.store = samples, store
        self.image_id, self.study_id, self.rows = samples.image_id, samples.study_id, samples.rows

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        """Return a batch of one; the key is that of a `PreparedDataset`."""
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """Return a batch."""
        index = np.array([i for _, i in keys])
        # Targets are cut as their image is; a classifier has none, and is fed as fast as its arrays can be indexed.
        batch = collate([self.samples[i] for i in index.tolist()]) if self.samples.targets else self._labelled(index)
        batch["image"] = torch.empty((len(index), 1, 0, 0), dtype=torch.uint8)
        batch["feature"] = self.store.read(self.rows[index])
        return batch

    def _labelled(self, index: Rows) -> Batch:
        samples, chosen = self.samples, pa.array(index)
        findings, impression = samples.findings.take(chosen), samples.impression.take(chosen)
        return Batch(
            image=torch.empty(0),
            findings=findings.to_pylist(),
            impression=impression.to_pylist(),
            findings_mask=torch.tensor(pc.not_equal(findings, "").to_pylist()),
            impression_mask=torch.tensor(pc.not_equal(impression, "").to_pylist()),
            label=torch.from_numpy(samples.label[index]),
            existence=torch.from_numpy(samples.existence[index]),
            index=torch.from_numpy(index),
            source=torch.zeros(len(index), dtype=torch.int64),
            sentence=None,
            region=None,
            mask=None,
            box=None,
            feature=None,
        )


def is_writable(folder: Path) -> bool:
    """Return whether a folder can be written to, or made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return os.access(there, os.W_OK)


def as_it_is(batch: Any) -> Any:
    """Return a batch unchanged."""
    return batch
