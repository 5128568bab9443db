"""ChestX-Det10: lists in JSON, images in folders of its own or in those of NIH ChestX-ray14."""

import json

import pytest

from medvlp.data.datamodule import CXRDataModule
from medvlp.errors import NotFoundError, UserError
from medvlp.phantom import phantom
from medvlp.prepare.datasets.chestx_det10 import FINDINGS, ChestXDet10, chestx_det10
from medvlp.prepared import Prepared

TRAIN = [
    {"file_name": "00000001_000.png", "syms": ["Effusion", "Nodule"], "boxes": [[64, 128, 256, 512], [0, 0, 32, 32]]},
    {"file_name": "00000001_001.png", "syms": [], "boxes": []},
    {"file_name": "00000012_003.png", "syms": ["Mass", "Mass"], "boxes": [[0, 0, 64, 64], [512, 0, 1024, 1024]]},
    {"file_name": "36199.png", "syms": ["Fracture"], "boxes": [[10.5, 20, 30, 40]]},
]
TEST = [{"file_name": "00000012_007.png", "syms": ["Calcification"], "boxes": [[100, 100, 200, 200]]}]


class RawLists:
    def __init__(self, root, jpeg):
        self.root, self.jpeg = root, jpeg
        self.lists = {"train": [*TRAIN], "test": [*TEST]}
        for part, entries in self.lists.items():
            (root / f"{part}_data").mkdir(parents=True)
            for number, entry in enumerate(entries):
                (root / f"{part}_data" / entry["file_name"]).write_bytes(jpeg(512, 512, seed=number))

    def write(self):
        for part, entries in self.lists.items():
            (self.root / f"{part}.json").write_text(json.dumps(entries))
        return self


@pytest.fixture
def raw(tmp_path, jpeg):
    return RawLists(tmp_path / "raw", jpeg)


def run(raw, out, **options):
    chestx_det10(raw.root, out, size=64, workers=1, **options)
    prepared = Prepared.open(out)
    return prepared, {row["image_id"]: row for row in prepared.index.to_pylist()}


def test_prepared(raw, tmp_path, skipped):
    prepared, rows = run(raw.write(), tmp_path / "out")
    assert prepared.labels == ["Pleural Effusion" if word == "Effusion" else word for word in FINDINGS]
    assert list(FINDINGS) == sorted(FINDINGS)
    assert len(FINDINGS) == 10
    present = {name: [label for label in prepared.labels if row[f"label/{label}"]] for name, row in rows.items()}
    assert present == {
        "00000012_007.png": ["Calcification"],
        "00000001_000.png": ["Pleural Effusion", "Nodule"],
        "00000001_001.png": [],
        "00000012_003.png": ["Mass"],
        "36199.png": ["Fracture"],
    }
    # From 1024 pixels to 64, though the files have 512.
    assert rows["00000001_000.png"]["boxes"] == [
        {"name": "Pleural Effusion", "x1": 4, "y1": 8, "x2": 16, "y2": 32, "phrase": None},
        {"name": "Nodule", "x1": 0, "y1": 0, "x2": 2, "y2": 2, "phrase": None},
    ]
    assert rows["00000001_001.png"]["boxes"] == []
    subjects = {name: row["subject_id"] for name, row in rows.items()}
    assert subjects["00000001_000.png"] == subjects["00000001_001.png"] == "1"
    assert subjects["00000012_003.png"] == subjects["00000012_007.png"] == "12"
    assert subjects["36199.png"] == "36199.png"
    assert {name: row["split/patients"] for name, row in rows.items() if subjects[name] == "12"} == {
        "00000012_003.png": "",
        "00000012_007.png": "test",
    }
    assert {row["split"] for name, row in rows.items() if name != "00000012_007.png"} <= {"train", "validate"}
    documented = {"train": 2_701, "validate": 300, "test": 542}
    assert prepared.split_variants["official"]["documented"] == documented
    assert prepared.manifest["documented"] == 3_543
    assert skipped(tmp_path / "out") == []


def test_published_sizes(tmp_path):
    """The very number of images in each split, if the lists are complete; no patient of train is in validate, too."""
    (tmp_path / "train_data").mkdir()
    # Of each patient two images in train, and of some one in test.
    names = {
        "train": [f"{i // 2:08}_{i % 2:03}.png" for i in range(3_001)],
        "test": [f"{3 * i:08}_009.png" for i in range(542)],
    }
    for part, files in names.items():
        entries = [{"file_name": name, "syms": [], "boxes": []} for name in files]
        (tmp_path / f"{part}.json").write_text(json.dumps(entries))
    data = ChestXDet10(tmp_path)
    studies = list(data.studies(lambda *_: None))
    assert data.rows == len(studies) == data.documented
    splits = [study.split for study in studies]
    assert {name: splits.count(name) for name in set(splits)} == data.splits["official"].documented
    patients = {name: {s.subject_id for s in studies if s.split == name} for name in ("train", "validate")}
    assert not patients["train"] & patients["validate"]
    tested = {study.subject_id for study in studies if study.split == "test"}
    assert {s.other_splits["patients"] for s in studies if s.split != "test" and s.subject_id in tested} == {""}


def test_images_in_the_folders_of_nih(raw, tmp_path, skipped):
    raw.write()
    nih = tmp_path / "nih"
    (nih / "images_001/images").mkdir(parents=True)
    (nih / "images_002/images").mkdir(parents=True)
    for number, path in enumerate([*raw.root.glob("train_data/*"), *raw.root.glob("test_data/*")]):
        path.rename(nih / f"images_00{1 + number % 2}/images/{path.name}")
    _, rows = run(raw, tmp_path / "out", images=nih)
    assert len(rows) == 5
    assert rows["00000012_007.png"]["path"].startswith("images_00")
    assert skipped(tmp_path / "out") == []
    with pytest.raises(NotFoundError, match=r"--images='.*none' is not there\. Download"):
        ChestXDet10(raw.root, tmp_path / "none")


# Damage.


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"syms": ["Cough"], "boxes": [[0, 0, 9, 9]]}, "unreadable entry: finding 'Cough'"),
        ({"syms": ["Mass"], "boxes": []}, "unreadable entry: syms or boxes"),
        ({"syms": "Mass", "boxes": [[0, 0, 9, 9]]}, "unreadable entry: syms or boxes"),
        ({"syms": [["Mass"]], "boxes": [[0, 0, 9, 9]]}, "unreadable entry: finding '['Mass']'"),
        ({"syms": ["Mass"], "boxes": [[0, 0, 9]]}, "unreadable entry: not a box"),
        ({"syms": ["Mass"], "boxes": [[9, 0, 0, 9]]}, "unreadable entry: not a box"),
        ({"syms": ["Mass"], "boxes": [[0, 0, float("nan"), 9]]}, "unreadable entry: not a box"),
        ({"syms": ["Mass"], "boxes": [[0, 0, 10**400, 9]]}, "unreadable entry: not a box"),
        ({"syms": ["Mass"], "boxes": [7]}, "unreadable entry: not a box"),
        ({}, "unreadable entry: syms or boxes"),
    ],
)
def test_entries_that_cannot_be_read(raw, entry, reason):
    raw.lists["train"][2] = {"file_name": "00000012_003.png", **entry}
    skips = []
    studies = list(ChestXDet10(raw.write().root).studies(lambda *skip: skips.append(skip)))
    assert skips == [("00000012_003.png", reason)]
    assert len(studies) == 4


def test_other_damage(raw, tmp_path, skipped):
    raw.lists["train"] += [
        TRAIN[0],
        TEST[0],
        "text",
        {"file_name": 7, "syms": [], "boxes": []},
        {"file_name": "00000099_000.png", "syms": [], "boxes": []},
        {"file_name": "../../secret.png", "syms": [], "boxes": []},
    ]
    (tmp_path / "secret.png").write_bytes(raw.jpeg())
    path = raw.root / "train_data/36199.png"
    path.write_bytes(path.read_bytes()[:-300])
    _, rows = run(raw.write(), tmp_path / "out")
    assert set(rows) == {entry["file_name"] for entry in (*TRAIN, *TEST)} - {"36199.png"}
    assert rows["00000012_007.png"]["split"] == "test"
    assert dict(skipped(tmp_path / "out")) == {
        "train.json:entry 5": "duplicate id",
        "train.json:entry 6": "duplicate id",
        "train.json:entry 7": "unreadable entry: no object",
        "train.json:entry 8": "unreadable entry: file_name",
        "00000099_000.png": "missing file",
        "../../secret.png": "escapes root",
        "36199.png": "truncated image",
    }


@pytest.mark.parametrize("content", ['[{"file_name": "a', '{"images": []}', "", "<html>", "[" * 100_000])
def test_lists_that_cannot_be_read(raw, content):
    raw.write()
    (raw.root / "train.json").write_text(content)
    with pytest.raises(UserError, match=r"train\.json' (cannot be read as JSON|holds no JSON list)"):
        list(ChestXDet10(raw.root).studies(lambda *_: None))


def test_missing_list(raw):
    raw.write()
    (raw.root / "test.json").unlink()
    with pytest.raises(NotFoundError, match=r"neither test\.json nor test\.json\.gz\. Download .*Deepwise"):
        ChestXDet10(raw.root)


def test_to_a_batch_and_the_patients_of_nih(tmp_path):
    phantom(tmp_path / "phantom", studies=16, seed=1, size=64, workers=1, layouts="nih, chestx_det10")
    chestx_det10(tmp_path / "phantom/chestx-det10", tmp_path / "out", size=48, workers=1)
    with open(tmp_path / "phantom/nih/Data_Entry_2017_v2020.csv") as file:
        patients = {line.split(",")[0]: line.split(",")[3] for line in file}
    rows = Prepared.open(tmp_path / "out").index.to_pylist()
    assert all(row["subject_id"] == patients[row["image_id"]] for row in rows)
    data = CXRDataModule(tmp_path / "out", batch_size=4, num_workers=0, targets="box", crop=32, views=1)
    data.setup("fit")
    assert next(iter(data.train_dataloader()))["label"].shape == (4, 10)
