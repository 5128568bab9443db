from collections import Counter

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from medvlp.prepare.datasets.object_cxr import ObjectCxr, object_cxr
from medvlp.prepared import Prepared

HEADER = ["image_name", "annotation"]
ANNOTATIONS = ["", "0 20 10 40 30", "1 20 10 40 30;2 60 50 80 50 80 70 60 70"]


class RawObjectCxr:
    """Ten images of train.csv and five of dev.csv, two in three with objects."""

    def __init__(self, root, jpeg, write_csv):
        self.root, self.jpeg, self.write_csv = root, jpeg, write_csv
        self.rows = {part: [] for part in ("train", "dev")}
        for number in range(15):
            part = "dev" if number >= 10 else "train"
            self.rows[part].append([f"{number:05}.jpg", ANNOTATIONS[number % 3]])
            self.image(part, number)

    def path(self, part, number):
        return self.root / f"{part}/{number:05}.jpg"

    def image(self, part, number):
        self.path(part, number).parent.mkdir(parents=True, exist_ok=True)
        self.path(part, number).write_bytes(self.jpeg(100, 100, number))

    def tables(self, header=HEADER):
        for part, rows in self.rows.items():
            self.write_csv(self.root / f"{part}.csv", header, rows)
        return self


@pytest.fixture
def raw(tmp_path, jpeg, write_csv):
    return RawObjectCxr(tmp_path / "object", jpeg, write_csv)


def run(raw, out):
    object_cxr(raw.root, out, size=50, workers=1)
    return Prepared.open(out)


def test_prepared(raw, tmp_path):
    prepared = run(raw.tables(), tmp_path / "out")
    rows = {row["image_id"]: row for row in prepared.index.to_pylist()}
    assert prepared.labels == ["Foreign Object"]
    assert [rows[f"{number:05}.jpg"]["label/Foreign Object"] for number in range(15)] == [0, 1, 1] * 5
    assert rows["00000.jpg"]["boxes"] == []
    (box,) = rows["00001.jpg"]["boxes"]
    assert box == {"name": "Foreign Object", "x1": 10, "y1": 5, "x2": 20, "y2": 15, "phrase": None}
    assert len(rows["00002.jpg"]["boxes"]) == 2
    areas = {name: prepared.masks[row["row"]].sum() / 255 for name, row in rows.items()}
    assert areas["00000.jpg"] == 0
    assert areas["00001.jpg"] == 100
    assert areas["00002.jpg"] == pytest.approx(100 * np.pi / 4 + 100, rel=0.02)
    assert Counter(row["split"] for row in rows.values()) == {"train": 8, "validate": 2, "test": 5}
    assert Counter(row["split/official_code"] for row in rows.values()) == {"train": 9, "validate": 1, "test": 5}
    assert {name for name, row in rows.items() if row["split"] == "test"} == {name for name, _ in raw.rows["dev"]}


def test_images_are_squashed_as_mgca_does_unless_told_otherwise(raw, tmp_path):
    raw.path("train", 1).write_bytes(raw.jpeg(100, 200, 1))
    prepared = run(raw.tables(), tmp_path / "out")
    assert prepared.manifest["options"]["resize"] == "squash"
    (box,) = next(row for row in prepared.index.to_pylist() if row["image_id"] == "00001.jpg")["boxes"]
    assert (box["x1"], box["y1"], box["x2"], box["y2"]) == (5, 5, 10, 15)
    object_cxr(raw.root, tmp_path / "padded", size=50, resize="pad", workers=1)
    assert Prepared.open(tmp_path / "padded").manifest["options"]["resize"] == "pad"


def test_folders_of_another_name(raw, tmp_path):
    raw.tables()
    (raw.root / "train").rename(raw.root / "train_image")
    assert len(run(raw, tmp_path / "out").index) == 15


# Damage.


def test_unknown_images(raw, tmp_path, skipped):
    raw.rows["train"].append(["99999.jpg", ""])
    raw.image("dev", 77)
    assert len(run(raw.tables(), tmp_path / "out").index) == 15
    assert set(skipped(tmp_path / "out")) == {("99999.jpg", "missing file"), ("dev/00077", "not in the label table")}


def test_duplicate_ids(raw, tmp_path, skipped):
    """An image in both tables is tested on, not trained on."""
    raw.rows["train"] += [["00001.jpg", ""], ["00011.jpg", ""], ["", "0 1 2 3 4"]]
    prepared = run(raw.tables(), tmp_path / "out")
    assert len(prepared.index) == 15
    assert skipped(tmp_path / "out") == [
        ("train.csv:12", "duplicate id"),
        ("train.csv:13", "duplicate id"),
        ("train.csv:14", "unreadable row: image_name"),
    ]


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/x.jpg"])
def test_names_that_lead_elsewhere(raw, tmp_path, skipped, name):
    raw.rows["train"].append([name, ""])
    assert len(run(raw.tables(), tmp_path / "out").index) == 15
    ((what, reason),) = skipped(tmp_path / "out")
    assert what == name
    assert reason in ("escapes root", "missing file")


@pytest.mark.parametrize("annotation", ["0 1 2 3", "7 1 2 3 4", "0 a b c d", "0 500 500 600 600"])
def test_annotations_that_cannot_be_read(raw, tmp_path, skipped, annotation):
    raw.rows["train"][5][1] = annotation
    assert len(run(raw.tables(), tmp_path / "out").index) == 14
    ((what, reason),) = skipped(tmp_path / "out")
    assert what == "00005.jpg"
    assert reason in ("unreadable shape", "box without area in the image")


def test_published_sizes(tmp_path, write_csv):
    names = [f"{number:05}.jpg" for number in range(9_000)]
    for part, chosen in (("train", names[:8_000]), ("dev", names[8_000:])):
        (tmp_path / part).mkdir()
        write_csv(tmp_path / f"{part}.csv", HEADER, [[name, ""] for name in chosen])
    data, skips = ObjectCxr(tmp_path), []
    studies = list(data.studies(lambda *skip: skips.append(skip)))
    assert not skips
    assert data.rows == len(studies) == data.documented == 9_000
    sizes = Counter(study.split for study in studies)
    assert sizes == data.splits["mgca"].documented == {"train": 6_400, "validate": 1_600, "test": 1_000}
    sizes = Counter(study.other_splits["official_code"] for study in studies)
    assert sizes == data.splits["official_code"].documented == {"train": 7_200, "validate": 800, "test": 1_000}
    train, validate = train_test_split(names[:8_000], test_size=0.2, random_state=0)
    assert {study.study_id for study in studies if study.split == "train"} == set(train)
    assert {study.study_id for study in studies if study.split == "validate"} == set(validate)
