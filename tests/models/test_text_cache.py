"""The text cache: what was written is found again, whatever happened in between."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.models.text_cache import TextCache

WIDTH = 3
TEXTS = st.lists(st.text(), max_size=8)


def rows(texts):
    """An embedding that the text determines."""
    return np.array([[len(text), sum(map(ord, text)), hash(text) % 1000] for text in texts], np.float32).reshape(
        -1, WIDTH
    )


def fill(cache, texts):
    missing = cache.missing(texts)
    cache.add(missing, rows(missing))


@settings(max_examples=50, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_what_was_added_is_found(tmp_path_factory, batches):
    folder = tmp_path_factory.mktemp("cache") / "made" / "later"
    cache = TextCache(folder, WIDTH)
    for texts in batches:
        fill(cache, texts)
        assert cache.missing(texts) == []
    everything = [text for texts in batches for text in texts]
    for reader in (cache, TextCache(folder, WIDTH)):
        found = reader.lookup(everything)
        assert found.dtype == np.float32
        assert found.shape == (len(everything), WIDTH)
        np.testing.assert_array_equal(found, rows(everything))


def test_missing_texts_come_once_in_their_order(tmp_path):
    cache = TextCache(tmp_path, WIDTH)
    fill(cache, ["b"])
    assert cache.missing(["c", "a", "b", "c", ""]) == ["c", "a", ""]


def test_lookup_of_a_missing_text(tmp_path):
    cache = TextCache(tmp_path, WIDTH)
    fill(cache, ["a"])
    with pytest.raises(KeyError):
        cache.lookup(["a", "b"])


def test_nothing_is_written_before_something_is_added(tmp_path):
    cache = TextCache(tmp_path / "cache", WIDTH)
    assert cache.missing(["a"]) == ["a"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("file", ["digests.bin", "embeddings.f32"])
@pytest.mark.parametrize("lost", [1, 5, 16, 21, 10**6])
def test_a_torn_write_is_repaired(tmp_path, file, lost):
    texts = ["a", "b", "c", "d"]
    fill(TextCache(tmp_path, WIDTH), texts)
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[:-lost])
    cache = TextCache(tmp_path, WIDTH)
    kept = [text for text in texts if text not in cache.missing(texts)]
    assert len(kept) < 4
    np.testing.assert_array_equal(cache.lookup(kept), rows(kept))
    fill(cache, [*texts, "e"])
    for reader in (cache, TextCache(tmp_path, WIDTH)):
        np.testing.assert_array_equal(reader.lookup(["e", *texts]), rows(["e", *texts]))
    assert path.stat().st_size == 5 * {"digests.bin": 16, "embeddings.f32": 4 * WIDTH}[file]


def test_embeddings_whose_digests_were_never_written_do_not_count(tmp_path):
    fill(TextCache(tmp_path, WIDTH), ["a"])
    with (tmp_path / "embeddings.f32").open("ab") as file:
        file.write(b"\x7f" * 30)
    cache = TextCache(tmp_path, WIDTH)
    fill(cache, ["b", "a"])
    np.testing.assert_array_equal(TextCache(tmp_path, WIDTH).lookup(["a", "b"]), rows(["a", "b"]))


def test_two_writers_share_their_work(tmp_path):
    first, second = TextCache(tmp_path, WIDTH), TextCache(tmp_path, WIDTH)
    fill(first, ["a", "b"])
    # It opened the files before: what it believes to be missing is there by now.
    second.add(["b", "c"], rows(["b", "c"]))
    first.add(["c", "d"], rows(["c", "d"]))
    for cache in (first, second, TextCache(tmp_path, WIDTH)):
        texts = cache.missing(["a", "b", "c", "d"])
        assert texts == (["d"] if cache is second else [])
    np.testing.assert_array_equal(first.lookup(["d", "c", "b", "a"]), rows(["d", "c", "b", "a"]))
    assert (tmp_path / "digests.bin").stat().st_size == 4 * 16


def test_writers_at_the_same_time(tmp_path):
    def write(number):
        cache = TextCache(tmp_path, WIDTH)
        for start in range(0, 40, 5):
            fill(cache, [f"text {(start + number + i) % 40}" for i in range(10)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    texts = [f"text {i}" for i in range(40)]
    np.testing.assert_array_equal(TextCache(tmp_path, WIDTH).lookup(texts), rows(texts))
    assert (tmp_path / "digests.bin").stat().st_size == 40 * 16


def test_embeddings_are_mapped_not_loaded(tmp_path):
    cache = TextCache(tmp_path, WIDTH)
    fill(cache, ["a", "b"])
    assert isinstance(cache._embeddings, np.memmap)
    assert not cache._embeddings.flags.writeable
    # A copy, which torch may own.
    assert cache.lookup(["a"]).flags.writeable
