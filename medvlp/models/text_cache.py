"""Cache of text embeddings on disk, so that a frozen text encoder reads each text once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from medvlp.types import DIGEST_BYTES, text_digest


class TextCache:
    """Embeddings of one encoder in two append-only files: digests of the texts, and float32 rows.

    An interrupted write loses only incomplete rows. Several processes may fill a cache. At width 768, the 450,000
    sections of MIMIC-CXR take about 1.4 GB, its whole reports 0.7 GB, and each distinct region sentence 3 KB. The rows
    are memory-mapped, not loaded.

    Args:
        folder: Folder of the files; `add` creates it.
        width: Width of the embeddings.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder, self.width = folder, width
        self._rows: dict[bytes, int] = {}
        self._embeddings: npt.NDArray[np.float32] = np.empty((0, width), np.float32)
        self._open()

    def missing(self, texts: Iterable[str]) -> list[str]:
        """Return the distinct texts without an embedding, in the order of their first appearance."""
        return [text for text in dict.fromkeys(texts) if text_digest(text) not in self._rows]

    def add(self, texts: Sequence[str], embeddings: npt.NDArray[np.float32]) -> None:
        """Append distinct texts and their embeddings (M, width); texts in the cache are skipped."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            self._open()
            rows = [i for i, text in enumerate(texts) if text_digest(text) not in self._rows]
            start = len(self._embeddings)
            # Truncation removes the rest of an interrupted write. Digests come last, because they make a row count.
            for path, data, size in (
                (self._rows_file, np.ascontiguousarray(embeddings[rows], np.float32).tobytes(), 4 * self.width),
                (self._digests_file, b"".join(text_digest(texts[i]) for i in rows), DIGEST_BYTES),
            ):
                with path.open("ab") as file:
                    file.truncate(start * size)
                    file.write(data)
            self._open()

    def lookup(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the embeddings (M, width) of texts in the cache.

        Raises:
            KeyError: If a text is missing.
        """
        return self._embeddings[[self._rows[text_digest(text)] for text in texts]]

    def _open(self) -> None:
        if not (self._digests_file.exists() and self._rows_file.exists()):
            return
        start = len(self._embeddings)
        with self._digests_file.open("rb") as file:
            # Complete rows are never removed, so only new digests are read.
            file.seek(start * DIGEST_BYTES)
            new = file.read()
        count = min(start + len(new) // DIGEST_BYTES, self._rows_file.stat().st_size // (4 * self.width))
        if count > start:
            digests = (new[i * DIGEST_BYTES : (i + 1) * DIGEST_BYTES] for i in range(count - start))
            self._rows |= {key: row for row, key in enumerate(digests, start)}
            self._embeddings = np.memmap(self._rows_file, np.float32, "r", shape=(count, self.width))

    @property
    def _digests_file(self) -> Path:
        return self.folder / "digests.bin"

    @property
    def _rows_file(self) -> Path:
        return self.folder / "embeddings.f32"
