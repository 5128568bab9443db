"""The share of the training images: nested, deterministic, a function of names alone; and the split variants."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.data import CXRDataModule
from medvlp.data.subset import Subset
from medvlp.errors import UserError
from tests.support.tiny import make_prepared

NAMES = [f"image{i}" for i in range(200)]
NONE = np.zeros(200, np.bool_)


def chosen(names, positive=None, **options):
    positive = np.zeros(len(names), np.bool_) if positive is None else positive
    return [names[i] for i in Subset(**options).choose(names, positive)]


@given(st.lists(st.text(), unique=True, min_size=1, max_size=60), st.integers(0, 5), st.randoms())
@settings(max_examples=50, deadline=None)
def test_nested_and_independent_of_the_order(names, seed, random):
    shuffled = random.sample(names, len(names))
    sets = []
    for fraction in (0.01, 0.1, 0.5, 1):
        subset = chosen(names, fraction=fraction, seed=seed)
        assert len(subset) == max(1, int(fraction * len(names)))
        assert set(chosen(shuffled, fraction=fraction, seed=seed)) == set(subset)
        sets.append(set(subset))
    assert sets == sorted(sets, key=len)
    assert all(small <= large for small, large in pairwise(sets))


@pytest.mark.parametrize(
    ("total", "fraction", "count"), [(16010, 0.01, 160), (18678, 0.1, 1867), (100, 0.29, 29), (5, 0.1, 1)]
)
def test_counts_are_the_published_ones(total, fraction, count):
    names = [str(i) for i in range(total)]
    assert len(chosen(names, fraction=fraction)) == count


def test_another_seed_chooses_others():
    first, second = (set(chosen(NAMES, fraction=0.1, seed=seed)) for seed in (0, 1))
    assert len(first & second) < 10


def test_the_order_of_the_index_is_kept():
    assert chosen(NAMES, fraction=0.5) == [name for name in NAMES if name in set(chosen(NAMES, fraction=0.5))]


def test_balance_takes_all_positives_and_as_many_negatives():
    positive = np.arange(200) < 30
    whole = Subset(balance=True).choose(NAMES, positive)
    assert (whole < 30).sum() == 30
    assert (whole >= 30).sum() == 30
    half = Subset(0.5, balance=True).choose(NAMES, positive)
    assert len(half) == 30
    assert set(half) < set(whole)
    few = Subset(balance=True).choose(NAMES, ~positive)
    assert len(few) == 200  # fewer negatives than positives
    with pytest.raises(UserError, match="balance=True, but no training image"):
        Subset(balance=True).choose(NAMES, NONE)


@pytest.mark.parametrize("fraction", [0, -0.1, 10])
def test_a_fraction_is_a_share(fraction):
    with pytest.raises(UserError, match=f"fraction={fraction}"):
        CXRDataModule(fraction=fraction)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("data") / "prepared", 48, 40)


def module(root, **options):
    return CXRDataModule(root, **{"batch_size": 8, "crop": 32, "num_workers": 0, "views": 1, **options})


def test_only_training_is_reduced(root):
    data = module(root, fraction=0.25, drop_last=False)
    whole = module(root).subset
    assert len(data.subset) == 6
    assert set(data.subset) < set(whole)
    assert sum(len(batch["index"]) for batch in data.train_dataloader()) == 6
    assert sum(len(batch["index"]) for batch in data.val_dataloader()) == 12
    assert sum(len(batch["index"]) for batch in data.test_dataloader()) == 12
    with pytest.raises(UserError, match=r"6 images per process.*--data.drop_last false"):
        module(root, fraction=0.25).train_dataloader()


def test_the_variant_of_the_split_is_chosen(root):
    data = module(root, split="halves")
    assert data.subset == [f"image{i}" for i in range(0, 48, 2)]
    assert data.dataset("test").image_id.to_pylist() == [f"image{i}" for i in range(1, 48, 2)]
    assert module(root, split="quarters").subset == module(root).subset
    assert len(data.reports(["test"])[0]) == 24
    with pytest.raises(UserError, match=r"splits=\['validate'\].*splits there: test, train"):
        data.val_dataloader()
    with pytest.raises(UserError, match=r"'thirds'.*quarters, halves"):
        module(root, split="thirds").train_dataloader()
