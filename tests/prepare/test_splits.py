import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from medvlp.prepare.splits import SplitVariant, by_patient, describe_splits, mgca_split, scaled, shuffled


def names(count):
    return [f"image{number}" for number in range(count)]


def of_split(splits, split):
    return [name for name in splits if splits[name] == split]


@pytest.mark.parametrize(("count", "rest"), [(10, 4), (101, 33), (26684, 10674), (12047, 3614), (3, 2)])
def test_mgca_split_is_that_of_scikit_learn(count, rest):
    train, others = train_test_split(names(count), test_size=rest, random_state=0)
    test, validate = train_test_split(others, test_size=0.5, random_state=0)
    splits = mgca_split(names(count), rest)
    assert [of_split(splits, split) for split in ("train", "test", "validate")] == [train, test, validate]
    assert splits == mgca_split(names(count), rest)


@pytest.mark.parametrize("seed", [0, 7])
def test_shuffled_is_a_chain(seed):
    first, rest = train_test_split(names(50), test_size=20, random_state=seed)
    assert shuffled(names(50), [30, 20], seed) == [first, rest]
    assert shuffled(names(50), [30, 15, 5], seed) == [first, *train_test_split(rest, test_size=5, random_state=seed)]


@pytest.mark.parametrize("count", range(4))
def test_splits_of_hardly_any_images(count):
    assert set(mgca_split(names(count), scaled(2, 4, count))) == set(names(count))


@given(st.dictionaries(st.text(max_size=3), st.sampled_from("abcdefgh")), st.integers(0, 30))
def test_whole_patients(patients, count):
    chosen = by_patient(patients, count, "salt")
    of_chosen = {patients[image] for image in chosen}
    assert chosen == {image for image in patients if patients[image] in of_chosen}
    assert len(chosen) <= count
    # No other patient would still have fitted.
    for patient in set(patients.values()) - of_chosen:
        assert len(chosen) + list(patients.values()).count(patient) > count


def test_patients_fill_the_count_and_do_not_depend_on_the_order():
    patients = {f"{number}": f"p{number // 3 if number < 90 else number}" for number in range(150)}
    chosen = by_patient(patients, 50, "a")
    assert len(chosen) == 50
    assert chosen == by_patient(dict(reversed(patients.items())), 50, "a")
    assert chosen != by_patient(patients, 50, "b")


def test_scaled():
    assert scaled(5_337, 26_684, 26_684) == 5_337
    assert scaled(5_337, 26_684, 100) == 20
    assert scaled(5, 10, 0) == 0


def test_description(tmp_path):
    splits = {"z": "train", "a,": "test", "a": "train", "b": "", "c": "5x200", "\u00e9": "validate"}
    table = pa.table({"image_id": [*splits], "split/one": [*splits.values()], "split/two": ["train"] * 6})
    pq.write_table(table, tmp_path / "index.parquet")
    variants = {"one": SplitVariant("by hand", {"train": 3}), "two": SplitVariant("all")}
    one, two = describe_splits(tmp_path / "index.parquet", variants).values()
    lines = "".join(sorted(f"{name},{split}\n" for name, split in splits.items() if split not in ("", "5x200")))
    assert one == {
        "rule": "by hand",
        "counts": {"train": 2, "validate": 1, "test": 1},
        "documented": {"train": 3},
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }
    assert two["counts"] == {"train": 6, "validate": 0, "test": 0}
    assert two["documented"] == {}
