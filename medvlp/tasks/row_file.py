"""Rows of tensors in a temporary file that all processes of a run share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medvlp.distributed import gather_objects, rank
from medvlp.errors import UserError

HALF = np.dtype(np.float16)


class RowFile:
    """A file with a row of equal shape for each sample, in half precision; each process writes its own samples.

    All processes create, write and read it together. It has no name once they have opened it, so that an interrupted
    run leaves nothing of patients' images behind; its room is free again when the tensor that `read` returns is gone.

    Args:
        folder: Folder of the file; of several processes, one that all of them see.

    Raises:
        UserError: If the file cannot be made, or another process does not see it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            if rank() == 0:
                folder.mkdir(parents=True, exist_ok=True)
                descriptor, name = tempfile.mkstemp(".rows", ".medvlp-", folder)
            else:
                descriptor, name = -1, ""
            # The processes wait here for the first one, which has made the file.
            name = gather_objects(name)[0]
            self._descriptor = descriptor if rank() == 0 else os.open(name, os.O_RDWR)
            gather_objects(None)  # all processes have opened it
            if rank() == 0:
                os.unlink(name)
        except OSError as error:
            raise UserError(
                f"image tokens cannot be stored in '{folder}': {error.strerror}. Pass a --trainer.default_root_dir "
                "with room that all processes see."
            ) from error
        self._folder = folder
        self._shape: tuple[int, ...] = ()

    def write(self, index: Tensor, rows: Tensor) -> None:
        """Write the rows (B, ...) of samples `index` (B,).

        Raises:
            UserError: If the disk is full.
        """
        self._shape = tuple(rows.shape[1:])
        content = rows.detach().half().cpu().contiguous().numpy()
        try:
            for number, row in zip(index.tolist(), content, strict=True):
                os.pwrite(self._descriptor, row, number * row.nbytes)
        except OSError as error:
            raise UserError(
                f"image tokens cannot be written to '{self._folder}': {error.strerror}. Pass a "
                "--trainer.default_root_dir with more room."
            ) from error

    def read(self, index: Tensor) -> Tensor:
        """Return the rows (N, ...) of samples, ascending, float16, as a tensor on disk, and give up the file.

        Args:
            index: Numbers of the samples, int64 (N,). If some are left out, the rows are copied to memory.
        """
        gather_objects(None)  # all processes have written
        count = int(index[-1]) + 1
        with os.fdopen(self._descriptor, "r+b") as file:
            mapped = np.memmap(file, HALF, "r+", shape=(count, *self._shape))
        rows = torch.from_numpy(mapped)
        return rows if len(index) == count else rows[index]
