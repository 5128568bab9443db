"""The cost of late interaction on images from disk, for `medvlp bench`: seconds per million pairs, and memory."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.losses import attended_cosine
from medvlp.objectives.similarity import BLOCK, blockwise

GRID, WIDTH, TEXTS, TEMPERATURE = 37, 768, 200, 0.07
# Images that are drawn; the file repeats them, and all of it is read.
DRAWN = 8
# Copies of a block that the computation may hold at once, of four bytes a value.
COPIES = 8
MEMORY = re.compile(r"RssAnon:\s+(\d+) kB")


def pair_rows(folder: Path, images: int, rounds: int) -> tuple[dict[str, list[float]], int]:
    """Return seconds per million pairs of an image with a text, and the most memory of a similarity in bytes.

    Images are 37 x 37 normalised patches of width 768, in half precision in a memory map (2.1 MB each), as retrieval
    and zero-shot classification keep them; there are 200 texts. All contestants read the images block by block.

    Args:
        folder: Folder for the memory map.
        images: Number of images.
        rounds: Number of turns of every contestant.

    Raises:
        RuntimeError: If the memory grows beyond a few blocks.
    """
    noise = torch.Generator().manual_seed(0)
    rows = write_images(folder / "patches", images, noise)
    text = F.normalize(torch.randn(TEXTS, WIDTH, generator=noise), dim=1)
    used: list[int] = []

    def product(image: Tensor, some: Tensor) -> Tensor:
        return (image @ some.T)[:, 0]

    def interaction(image: Tensor, some: Tensor) -> Tensor:
        similarity = attended_cosine(image, some, TEMPERATURE)
        used.append(own_memory())
        return similarity

    contestants: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "matrix product of patches and texts, a million pairs": product,
        "similarity of sentences and patches (RadZero)": interaction,
    }
    before = own_memory()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, similarity in contestants.items():
            start = time.perf_counter()
            blockwise(similarity, rows, text)
            times[name].append((time.perf_counter() - start) / (images * TEXTS) * 1e6)
    memory = max(used) - before
    if memory > 4 * COPIES * BLOCK:
        raise RuntimeError(f"the similarity of {images} images took {memory:,} bytes: it should take a few blocks.")
    return times, memory


def write_images(path: Path, images: int, noise: torch.Generator) -> Tensor:
    """Write normalised patches of images, (N, 1369, 768) in half precision, and return them as a tensor on disk."""
    drawn = F.normalize(torch.randn(DRAWN, GRID * GRID, WIDTH, generator=noise), dim=2).half().numpy()
    shape = (images, *drawn.shape[1:])
    rows = np.memmap(path, np.float16, "w+", shape=shape)
    for start in range(0, images, DRAWN):
        rows[start : start + DRAWN] = drawn[: images - start]
    rows.flush()
    return torch.from_numpy(np.memmap(path, np.float16, "r+", shape=shape))


def own_memory() -> int:
    """Return the memory of this process without what it has read from files, in bytes; 0 where /proc does not say."""
    status = Path("/proc/self/status")
    found = MEMORY.search(status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else 0
