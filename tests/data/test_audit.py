"""The leak audit finds all patients and images of known test sets in the training data, and none else."""

import csv

import numpy as np
import pytest

from medvlp.data import CXRDataModule
from medvlp.data.audit import compare
from medvlp.data.audit_report import audit, describe_overlaps
from medvlp.data.known_tests import folders_beside
from medvlp.errors import NotFoundError
from tests.support.radiographs import make_folder, radiograph

TRAIN = 20


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Training folders of two families, and test sets that hold some of their patients and images.

    - mimic: patients 10000000 to 10000019; its variant `other` tests on the last four.
    - ms: patients p10000003 and p10000007, with pictures of their own, and two strangers.
    - plus: patients patient00000 to patient00019. lists: train/patient00005 under another name, and a stranger.
    - copies: a data set of its own, with copies of pictures 0 of mimic and 2 of plus in its test split, and one of
      picture 1 of mimic in its train split.
    - invented: patient 10000001 of MIMIC-CXR, who is invented.
    """
    place = tmp_path_factory.mktemp("audit")
    mimic = [radiograph(i) for i in range(TRAIN)]
    plus = [radiograph(100 + i) for i in range(TRAIN)]
    names = [f"{10_000_000 + i}" for i in range(TRAIN)]
    other = ["train"] * (TRAIN - 4) + ["test"] * 4
    make_folder(place / "mimic", mimic, "mimic_cxr", names, others={"other": other})
    strangers = [radiograph(200 + i) for i in range(4)]
    tested = ["p10000003", "p10000007", "p10009999", "10008888"]
    make_folder(place / "ms", strangers, "ms_cxr", tested, ["test"] * 4, size=96)
    make_folder(place / "plus", plus, "chexpert_plus", [f"patient{i:05d}" for i in range(TRAIN)])
    pictures = [radiograph(300 + i) for i in range(2)]
    make_folder(place / "lists", pictures, "chexpert", ["train/patient00005", "patient64541"], ["test"] * 2)
    pictures = [mimic[0], plus[2], mimic[1], radiograph(400)]
    make_folder(place / "copies", pictures, "vindr", None, ["test", "test", "train", "test"], size=96, fit="squash")
    make_folder(place / "invented", [radiograph(410)], "mimic_cxr", ["10000001"], ["test"], synthetic=True)
    return place


def data_of(place, root, **options):
    root = [str(place / name) for name in root] if isinstance(root, list) else place / root
    return CXRDataModule(root, **{"crop": 32, "num_workers": 0, **options})


def overlaps(result, source=0):
    """Return what an audit has found by folder and variants: patients, images and rows."""
    return {
        (one.folder, *one.splits): (one.patients_seen, one.images_seen, one.training)
        for one in result.overlaps
        if one.source == source
    }


def test_all_planted_patients_and_images_are_found_and_none_else(place):
    result = audit(data_of(place, ["mimic", "plus"]), place)
    assert overlaps(result, 0) == {
        ("mimic", "other"): (4, 4, [16, 17, 18, 19]),
        ("ms", "official"): (2, 0, [3, 7]),
        ("lists", "official"): (0, 0, []),
        ("copies", "official"): (0, 1, [0]),
        ("invented", "official"): (0, 0, []),
    }
    assert overlaps(result, 1) == {
        ("mimic", "other"): (0, 0, []),
        ("ms", "official"): (0, 0, []),
        ("lists", "official"): (1, 0, [5]),
        ("copies", "official"): (0, 1, [2]),
        ("invented", "official"): (0, 0, []),
    }
    assert result.rows(0).tolist() == [0, 3, 7, 16, 17, 18, 19]
    assert result.rows(1).tolist() == [2, 5]
    assert result.twice == {(0, 1): 0}


def test_counts_say_how_many_are_known(place):
    result = audit(data_of(place, "mimic"), place)
    ms = next(one for one in result.overlaps if one.folder == "ms")
    assert (ms.patients, ms.patients_seen, ms.images, ms.images_seen) == (4, 2, 4, 0)
    kept = next(one for one in describe_overlaps(result, 0, True) if one["folder"] == "ms")
    assert kept["training"] == 2
    assert kept["left_out"] is True
    assert kept["splits"].keys() == {"official"}


def test_only_the_training_split_counts(place):
    result = audit(data_of(place, "mimic", split="other"), place)
    assert overlaps(result)["mimic", "other"] == (0, 0, [])
    assert overlaps(result)["ms", "official"] == (2, 0, [3, 7])


def test_what_was_found_is_said_and_listed(place):
    with pytest.warns(UserWarning, match=r"leave_out_known_tests true"):
        audit(data_of(place, "mimic", fraction=0.9999), place)
    with (next((place / "mimic" / "audit").glob("*.csv"))).open() as file:
        header, *rows = csv.reader(file)
    assert header == ["folder", "image_id", "subject_id", "known_test"]
    assert [str(place / "mimic"), "mimic-3", "10000003", "ms/official"] in rows


def test_images_in_two_training_folders_are_counted(place):
    result = audit(data_of(place, ["mimic", "copies"], train_splits=["train", "test"], known_tests=[]), place)
    # Pictures 0 and 1 of mimic; its own test split is known, too.
    assert result.twice == {(0, 1): 2}


def test_named_folders_take_the_place_of_those_beside(place, tmp_path):
    result = audit(data_of(place, "mimic", known_tests=[place / "ms"]), place)
    assert overlaps(result).keys() == {("mimic", "other"), ("ms", "official")}
    assert overlaps(audit(data_of(place, "mimic", known_tests=[]), place)).keys() == {("mimic", "other")}
    with pytest.raises(NotFoundError, match="is not a prepared folder"):
        audit(data_of(place, "mimic", known_tests=[tmp_path / "absent"]), place)


def test_the_result_is_kept_until_a_folder_changes(place, tmp_path, monkeypatch):
    data = data_of(place, "plus")
    expected = audit(data, place)
    monkeypatch.setattr("medvlp.data.audit_report.compare", None)
    assert audit(data, place) == expected
    monkeypatch.setattr("medvlp.data.audit_report.compare", compare)
    new = make_folder(place / "new", [radiograph(500)], "chexpert", ["patient00011"], ["test"])
    try:
        assert overlaps(audit(data, place))["new", "official"] == (1, 0, [11])
    finally:
        for path in new.iterdir():
            if path.is_file():
                path.unlink()


def test_a_folder_that_cannot_be_read_is_named(place, tmp_path):
    make_folder(tmp_path / "train", [radiograph(0), radiograph(1)])
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "manifest.json").write_text('{"format_version": 1}')
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "manifest.json").write_text("[]")
    with pytest.warns(UserWarning, match="old' is not compared"):
        result = audit(CXRDataModule(tmp_path / "train", crop=32), tmp_path)
    assert result.overlaps == []


def test_own_tables_share_patients_with_no_other_folder(tmp_path):
    for name in ("one", "two"):
        splits = ["train", "train", "test"]
        make_folder(tmp_path / name, [radiograph(len(name) + i) for i in range(3)], "table", ["1", "2", "1"], splits)
    make_folder(tmp_path / "three", [radiograph(60 + i) for i in range(2)], "table", ["1", "2"], ["test", "test"])
    result = audit(CXRDataModule(tmp_path / "one", crop=32), tmp_path)
    assert overlaps(result)["one", "official"] == (1, 0, [0])
    assert overlaps(result)["three", "official"] == (0, 0, [])
    # It holds the same pictures, but tests on one that is tested here, too.
    assert overlaps(result)["two", "official"] == (0, 0, [])


@pytest.mark.parametrize("fraction", [0.3, 0.6])
def test_no_other_images_take_the_places_of_those_left_out(place, fraction):
    data = data_of(place, "mimic", fraction=fraction)
    chosen = {*data.dataset("train").rows.tolist()}
    found = audit(data, place)
    data.leave_out([found.rows(0)])
    left = {*data.dataset("train").rows.tolist()}
    assert left == chosen - {0, 3, 7, 16, 17, 18, 19}
    assert chosen - left == {*found.rows(0).tolist()} != set()


@pytest.mark.parametrize(("dataset", "known"), [("nih", 1), ("chestx_det10", 1), ("rsna", 0), ("siim", 0)])
def test_numbers_are_patients_of_nih_only_where_they_are_known_to_be(tmp_path, dataset, known):
    make_folder(tmp_path / "train", [radiograph(i) for i in range(2)], "nih", ["13", "14"])
    make_folder(tmp_path / "test", [radiograph(50 + i) for i in range(2)], dataset, ["00000013", "x.png"], ["test"] * 2)
    result = audit(CXRDataModule(tmp_path / "train", crop=32), tmp_path)
    assert overlaps(result)["test", "official"] == (known, 0, [0] * known)
    if dataset == "rsna":
        manifest = tmp_path / "test" / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"rsna"', '"rsna", "patients": "nih"'))
        result = audit(CXRDataModule(tmp_path / "train", crop=32), tmp_path)
        assert overlaps(result)["test", "official"] == (1, 0, [0])


def test_a_training_folder_among_the_named_ones_is_compared_once(place):
    named = [place / "ms", place / "mimic", place / "ms"]
    assert overlaps(audit(data_of(place, "mimic", known_tests=named), place)).keys() == {
        ("mimic", "other"),
        ("ms", "official"),
    }


def test_copies_of_a_url_are_compared_with_nothing_beside_them(tmp_path):
    for name in ("now", "before"):
        make_folder(tmp_path / name, [radiograph(0)])
    assert folders_beside([tmp_path / "now"]) == [tmp_path / "before"]
    (tmp_path / "now" / "origin.txt").write_text("s3://bucket/now")
    assert folders_beside([tmp_path / "now"]) == []


def test_leaving_out(place):
    data = data_of(place, ["mimic", "plus"])
    found = audit(data, place)
    data.leave_out([found.rows(0), found.rows(1)])
    mimic, plus = data.datasets("train")
    assert mimic.rows.tolist() == [i for i in range(16) if i not in (0, 3, 7)]
    assert plus.rows.tolist() == [i for i in range(TRAIN) if i not in (2, 5)]
    assert len(data.subset) == len(mimic) + len(plus)
    assert [len(index) for _, index in data.indices(["train"], [])] == [len(mimic), len(plus)]
    assert np.intersect1d(mimic.rows, data.left_out[0]).size == 0
