"""VinDr-CXR: votes of three readers, boxes fused, the consensus of test, and Kaggle's table."""

import shutil

import numpy as np
import pytest
import torch

from medvlp.data.datamodule import CXRDataModule
from medvlp.errors import NotFoundError, UserError
from medvlp.phantom import phantom
from medvlp.prepare.datasets.vindr import Vindr, vindr
from medvlp.prepare.layouts.vindr_tables import CHALLENGE, FINDINGS, LABELS
from medvlp.prepare.splits import by_patient
from medvlp.prepared import Prepared

CORNERS = ["x_min", "y_min", "x_max", "y_max"]
NONE = ["", "", "", ""]


class RawVindr:
    """Four images of train, each with three readers, and one of test."""

    def __init__(self, root, dicom, write_csv):
        self.root, self.dicom, self.write_csv = root, dicom, write_csv
        readings = {
            "a": [{"Cardiomegaly", "COPD"}, {"Cardiomegaly"}, {"No finding"}],
            "b": [{"No finding"}] * 3,
            "c": [{"Nodule/Mass"}, {"No finding"}, {"No finding"}],
            "d": [{"Lung Opacity", "Other diseases"}, {"Lung Opacity", "Other diseases"}, {"Lung Opacity"}],
        }
        self.labels = [
            [name, f"R{n}", *(int(f in found) for f in FINDINGS)]
            for name, r in readings.items()
            for n, found in enumerate(r)
        ]
        self.boxes = [
            ["a", "R0", "Cardiomegaly", 10, 20, 50, 60],
            ["a", "R1", "Cardiomegaly", 14, 20, 54, 60],
            ["a", "R2", "No finding", *NONE],
            *(["b", f"R{n}", "No finding", *NONE] for n in range(3)),
            ["c", "R0", "Nodule/Mass", 5, 5, 9, 9],
            ["c", "R1", "No finding", *NONE],
            ["c", "R2", "No finding", *NONE],
            ["d", "R0", "Lung Opacity", 0, 0, 10, 10],
            ["d", "R1", "Lung Opacity", 0, 0, 10, 10],
            ["d", "R2", "Lung Opacity", 60, 70, 80, 100],
        ]
        self.test_labels = [["t", *(int(f in {"Pleural effusion", "Other diseases"}) for f in FINDINGS)]]
        self.test_boxes = [["t", "Pleural effusion", 1, 2, 3.5, 4], ["t", "Pleural effusion", 1, 2, 3.5, 5]]
        for part, names in (("train", "abcd"), ("test", "t")):
            (root / part).mkdir(parents=True)
            for name in names:
                self.image(part, name)

    def image(self, part, name):
        pixels = np.random.default_rng(ord(name[-1])).integers(0, 255, (100, 80)).astype(np.uint8)
        (self.root / part / f"{name}.dicom").write_bytes(self.dicom(pixels))

    def tables(self, suffix=""):
        folder = self.root / "annotations"
        folder.mkdir(exist_ok=True)
        in_test = [name.replace("diseases", "disease") for name in FINDINGS]
        for name, header, rows in (
            ("image_labels_train", ["image_id", "rad_id", *FINDINGS], self.labels),
            ("image_labels_test", ["image_id", *in_test], self.test_labels),
            ("annotations_train", ["image_id", "rad_id", "class_name", *CORNERS], self.boxes),
            ("annotations_test", ["image_id", "class_name", *CORNERS], self.test_boxes),
        ):
            self.write_csv(folder / f"{name}.csv{suffix}", header, rows)
        return self


@pytest.fixture
def raw(tmp_path, dicom, write_csv):
    return RawVindr(tmp_path / "vindr", dicom, write_csv)


def run(raw, out):
    vindr(raw.root, out, size=100, workers=1)
    prepared = Prepared.open(out)
    return prepared, {row["image_id"]: row for row in prepared.index.to_pylist()}


def present(row):
    return {name for name in LABELS.values() if row[f"label/{name}"]}


def corners(row):
    return [(box["name"], box["x1"], box["y1"], box["x2"], box["y2"]) for box in row["boxes"]]


def test_two_of_three_readers_and_the_consensus(raw, tmp_path, skipped):
    prepared, rows = run(raw.tables(), tmp_path / "out")
    assert len(prepared.labels) == 28
    assert {name: present(row) for name, row in rows.items()} == {
        "a": {"Cardiomegaly"},
        "b": {"No Finding"},
        "c": {"No Finding"},
        "d": {"Lung Opacity", "Other Diseases"},
        "t": {"Pleural Effusion", "Other Diseases"},
    }
    # Boxes lie in 80 x 100 pixels between black bars of 10. Two of the same thing are one.
    assert corners(rows["a"]) == [("Cardiomegaly", 22, 20, 62, 60)]
    assert corners(rows["b"]) == corners(rows["c"]) == []
    assert corners(rows["d"]) == [("Lung Opacity", 10, 0, 20, 10), ("Lung Opacity", 70, 70, 90, 100)]
    assert corners(rows["t"]) == [("Pleural Effusion", 11, 2, 13.5, 4), ("Pleural Effusion", 11, 2, 13.5, 5)]
    assert {row["view"] for row in rows.values()} == {"PA"}
    assert rows["t"]["split"] == "test"
    (validate,) = by_patient({name: name for name in "abcd"}, 1, "vindr")
    assert {name for name, row in rows.items() if row["split"] == "validate"} == {validate}
    assert prepared.split_variants["official"]["documented"] == {"train": 12_000, "validate": 3_000, "test": 3_000}
    assert prepared.manifest["documented"] == 18_000
    assert prepared.manifest["counts"]["table"] == 5
    assert skipped(tmp_path / "out") == []


def test_labels_that_depend_on_a_reader_whose_row_is_missing_are_unknown(raw, tmp_path):
    raw.labels = [row for row in raw.labels if row[:2] not in (["a", "R1"], ["d", "R2"])]
    _, rows = run(raw.tables(), tmp_path / "out")
    assert rows["a"]["label/Cardiomegaly"] is None
    assert rows["a"]["label/Edema"] == 0
    assert rows["a"]["boxes"] == []
    assert rows["d"]["label/Lung Opacity"] == 1


def test_the_challenge_of_kaggle(raw, tmp_path, skipped):
    """One table; its test images have no labels and are not read."""
    header = ["image_id", "class_name", "class_id", "rad_id", *CORNERS]
    raw.write_csv(raw.root / "train.csv", header, [[r[0], r[2], 0, r[1], *r[3:]] for r in raw.boxes])
    prepared, rows = run(raw, tmp_path / "out")
    assert set(rows) == set("abcd")
    assert present(rows["a"]) == {"Cardiomegaly"}
    assert present(rows["c"]) == {"No Finding"}
    assert corners(rows["a"]) == [("Cardiomegaly", 22, 20, 62, 60)]
    named = {*CHALLENGE, "No finding"}
    assert all((rows["b"][f"label/{LABELS[f]}"] is None) == (f not in named) for f in FINDINGS)
    assert len(named) == 15
    assert prepared.manifest["options"]["table"] == "train.csv"
    assert prepared.manifest["documented"] == 15_000
    assert prepared.split_variants["official"]["documented"] == {"train": 12_000, "validate": 3_000, "test": 0}
    assert skipped(tmp_path / "out") == []


# Damage.


def test_a_reader_who_contradicts_himself(raw, tmp_path, skipped):
    raw.labels.append([*raw.labels[0][:-1], 1])
    _, rows = run(raw.tables(), tmp_path / "out")
    assert set(rows) == set("bcdt")
    assert skipped(tmp_path / "out") == [
        ("image_labels_train.csv:14", "unreadable row: contradicts one above it"),
        ("a", "a row of it is unreadable"),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["a", "R0", "Cough", 1, 1, 2, 2], "unreadable row: finding 'Cough'"),
        (["a", "R0", "Edema", *NONE], "unreadable row: not a box"),
        (["a", "R0", "Edema", 5, 5, 5, 9], "unreadable row: not a box"),
        (["a", "R0", "Edema", "nan", 5, 7, 9], "unreadable row: not a box"),
    ],
)
def test_an_image_with_an_unreadable_box_is_left_out(raw, tmp_path, skipped, row, reason):
    raw.boxes.append(row)
    _, rows = run(raw.tables(), tmp_path / "out")
    assert set(rows) == set("bcdt")
    assert skipped(tmp_path / "out") == [("annotations_train.csv:14", reason), ("a", "a row of it is unreadable")]


def test_other_damage(raw, tmp_path, skipped):
    raw.labels[3][2] = "perhaps"  # of b
    raw.labels += [["", "R1", *[0] * 28], raw.labels[0], ["gone", "R0", *[0] * 28], ["../../up", "R0", *[0] * 28]]
    raw.labels.append(["t", "R0", *[0] * 28])  # an image of test
    raw.boxes += [["unknown", "R0", "Edema", 1, 1, 2, 2], raw.boxes[0], ["d", "R2", "Lung Opacity", 70, 70, 90, 100]]
    raw.image("train", "extra")
    (raw.root / "train/c.dicom").write_bytes((raw.root / "train/c.dicom").read_bytes()[:900])
    _, rows = run(raw.tables(), tmp_path / "out")
    assert set(rows) == set("at")
    found = dict(skipped(tmp_path / "out"))
    reason = found.pop("c")
    assert "image" in reason
    assert found == {
        "image_labels_train.csv:5": "unreadable row: label 'perhaps'",
        "image_labels_train.csv:14": "unreadable row: image_id or rad_id",
        "image_labels_train.csv:15": "duplicate id",
        "annotations_train.csv:14": "box of an unknown image",
        "annotations_train.csv:15": "duplicate id",
        "b": "a row of it is unreadable",
        "d": "box beyond the image; the boxes are of the original images",
        "gone": "missing file",
        "../../up": "escapes root",
        "train/t": "duplicate id",
        "train/extra": "not in the label table",
    }


def test_missing_and_truncated_tables(raw, tmp_path):
    with pytest.raises(NotFoundError, match=r"neither image_labels_test\.csv .*physionet"):
        Vindr(raw.root)
    raw.tables(".gz")
    table = raw.root / "annotations/image_labels_train.csv.gz"
    table.write_bytes(table.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"image_labels_train\.csv\.gz' cannot be read"):
        run(raw, tmp_path / "out")
    shutil.rmtree(raw.root / "test")
    with pytest.raises(NotFoundError, match="no folder 'test'"):
        Vindr(raw.root)


def test_to_a_batch(tmp_path):
    phantom(tmp_path / "phantom", studies=16, seed=1, size=64, workers=1, layouts="vindr")
    vindr(tmp_path / "phantom/vindr", tmp_path / "out", size=48, workers=1)
    data = CXRDataModule(tmp_path / "out", batch_size=4, num_workers=0, targets="box", crop=32, views=1)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["label"].shape == (4, 28)
    assert set(torch.unique(batch["label"]).tolist()) <= {0, 1}
