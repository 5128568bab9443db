"""Similarities in blocks equal those in one piece, from memory and from disk, in constant memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from medvlp.objectives.similarity import blockwise, cosine, join, joined, one_vector


def best_patch(image, text):
    """A late interaction: each word's best patch, and the mean over the words; zeros are padding."""
    if text.ndim == 2:
        text = text[:, None]
    pairs = torch.einsum("npd,mld->nmlp", image, text).amax(3)
    words = text.any(2)
    return (pairs * words).sum(2) / words.sum(1).clamp(min=1)


def slow(image, text):
    table = []
    for patches in image.tolist():
        row = []
        for words in text.tolist():
            words = words if isinstance(words[0], list) else [words]
            best = [
                max(sum(a * b for a, b in zip(patch, word, strict=True)) for patch in patches)
                for word in words
                if any(word)
            ]
            row.append(sum(best) / max(len(best), 1))
        table.append(row)
    return table


def tokens(*shape, seed=0):
    rows = torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=-1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(1, 7), st.integers(1, 5), st.integers(0, 4), st.integers(1, 300))
def test_any_block_size_gives_the_same(images, texts, patches, words, block):
    image, text = tokens(images, patches, 6), tokens(texts, *([words] if words else []), 6, seed=1)
    got = blockwise(best_patch, image, text, block)
    assert got.shape == (images, texts)
    np.testing.assert_allclose(got, np.array(slow(image, text)).reshape(images, texts), atol=1e-12)


def test_no_block_is_larger_than_asked_and_each_pair_is_compared_once():
    seen = []

    def watched(image, text):
        seen.append(len(image) * len(text) * image.shape[1])
        return best_patch(image, text)

    blockwise(watched, tokens(10, 4, 6), tokens(7, 6), 40)
    assert max(seen) <= 40
    assert sum(seen) == 10 * 7 * 4


def test_vectors_are_one_product():
    image, text = tokens(5, 6), tokens(3, 6, seed=1)
    assert torch.equal(blockwise(cosine, image, text, 1), image @ text.T)


def test_images_on_disk_in_half_precision(tmp_path):
    image, text = tokens(9, 4, 6), tokens(5, 6, seed=1)
    mapped = np.memmap(tmp_path / "images", np.float16, "w+", shape=(9, 4, 6))
    mapped[:] = image
    rows = torch.from_numpy(mapped)
    torch.testing.assert_close(blockwise(best_patch, rows, text, 8), blockwise(best_patch, rows.double(), text, 10_000))


def test_shorter_texts_are_padded():
    short, long = tokens(2, 3, 6), tokens(1, 5, 6, seed=1)
    rows = join([short, long])
    assert rows.shape == (3, 5, 6)
    assert torch.equal(rows[:2, :3], short)
    assert not rows[:2, 3:].any()
    image = tokens(4, 7, 6, seed=2)
    apart = torch.cat([best_patch(image, short), best_patch(image, long)], 1)
    torch.testing.assert_close(best_patch(image, rows), apart)


def test_one_vector_for_tokens_is_their_mean():
    rows = tokens(4, 3, 6)
    torch.testing.assert_close(one_vector(rows), F.normalize(rows.mean(1), dim=1))
    assert one_vector(rows[:, 0]) is not None
    torch.testing.assert_close(joined([rows[:, 0], rows[:, 1]]).norm(dim=1), torch.ones(4, dtype=torch.double))


PEAK = """
import re, sys, numpy as np, torch
from medvlp.objectives.similarity import blockwise
torch.set_num_threads(1)
count = int(sys.argv[1])
rows = torch.from_numpy(np.memmap(sys.argv[2], np.float16, "r+", shape=(count, 400, 64)))
text = torch.randn(50, 64)
def memory():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) * 1024
seen = []
def compare(image, text):
    pairs = (image @ text.T).amax(1)
    seen.append(memory())
    return pairs
before = memory()
assert blockwise(compare, rows, text, 1 << 20).shape == (count, 50)
print(max(seen) - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_holds_neither_all_images_nor_all_pairs(tmp_path):
    """4,000 images of 400 patches with 50 texts: 410 MB in single precision, and 320 MB of products."""
    path, count = tmp_path / "rows", 4000
    with path.open("wb") as file:
        file.truncate(count * 400 * 64 * 2)
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(count), str(path)], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 100e6
