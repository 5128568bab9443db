"""MS-CXR: tables of several versions, boxes in shares of the image, what cannot be used."""

import pytest

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Box
from medvlp.prepare.datasets.ms_cxr import CATEGORIES, ms_cxr, read_box
from medvlp.prepared import Prepared

NEW, OLD = "MS_CXR_Local_Alignment_v1.1.0.csv", "MS_CXR_Local_Alignment_v1.0.0.csv"
# As the table has it, with columns that are not read, in an order of its own.
HEADER = ["category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height", "dicom_id", "split"]


def line(image, name="Edema", phrase="mild edema", box=(10, 15, 20, 30), size=(40, 60), split="test"):
    return [name, phrase, "../../escape.jpg", *box, *size, image, split]


@pytest.fixture
def rows():
    return [
        line("a", "Pleural Effusion", "small bilateral effusions", (0, 30, 10, 30)),
        line("a", "Pleural Effusion", "small bilateral effusions", (20, 30, 20, 30)),
        line("a", "Cardiomegaly", "large heart", (20, 60, 20, 60), (80, 120)),
        line("b", "Edema", " mild edema ", split="train"),
        line("d", split="val"),
    ]


@pytest.fixture
def root(tmp_path, rows, write_csv):
    (tmp_path / "ms").mkdir()
    write_csv(tmp_path / "ms" / NEW, HEADER, rows)
    return tmp_path / "ms"


def run(root, mimic, out, **options):
    ms_cxr(root, mimic.images, out, **{"size": 30, "workers": 1, **options})
    return Prepared.open(out)


def corners(box):
    return tuple(box[key] for key in ("x1", "y1", "x2", "y2"))


def test_end_to_end(root, mimic, tmp_path, skipped):
    prepared = run(root, mimic, tmp_path / "out")
    rows = prepared.index.to_pylist()
    assert [row["image_id"] for row in rows] == ["a", "b", "d"]
    assert [(row["subject_id"], row["study_id"], row["view"]) for row in rows] == [
        ("10000032", "50000001", "AP"),
        ("10000032", "50000002", "PA"),
        ("11000000", "50000003", "AP"),
    ]
    # 60x40 becomes 30x20 with 5 pixels of padding on the left; the heart was boxed in a copy of twice the size.
    assert [(box["name"], box["phrase"], corners(box)) for box in rows[0]["boxes"]] == [
        ("Pleural Effusion", "small bilateral effusions", (5, 15, 10, 30)),
        ("Pleural Effusion", "small bilateral effusions", (15, 15, 25, 30)),
        ("Cardiomegaly", "large heart", (10, 15, 15, 30)),
    ]
    assert rows[1]["boxes"][0]["phrase"] == "mild edema"
    assert prepared.labels == CATEGORIES
    assert [name for name in CATEGORIES if rows[0][f"label/{name}"] == 1] == ["Cardiomegaly", "Pleural Effusion"]
    assert {rows[0][f"label/{name}"] for name in CATEGORIES} == {1, None}
    assert [row["split"] for row in rows] == ["test", "train", "validate"]
    assert [row["split/all"] for row in rows] == ["test"] * 3
    assert skipped(tmp_path / "out") == []
    assert prepared.manifest["options"]["table"] == NEW
    assert not prepared.synthetic
    assert prepared.manifest["counts"]["boxes"] == 5


def test_versions(root, mimic, tmp_path, rows, write_csv):
    without = [[*row[:-1]] for row in rows]
    (root / NEW).unlink()
    write_csv(root / f"{OLD}.gz", HEADER[:-1], without)
    prepared = run(root, mimic, tmp_path / "old")
    assert prepared.index["split"].to_pylist() == ["test"] * 3
    assert prepared.manifest["options"]["table"] == OLD
    (root / "1.1.0").mkdir()
    write_csv(root / "1.1.0" / NEW, HEADER, rows[:1])
    assert len(run(root, mimic, tmp_path / "new").index) == 1


def test_bad_rows(root, mimic, tmp_path, rows, write_csv, skipped):
    rows += [
        rows[0],
        line("f", box=(1, 1, 0, 5)),
        line("elsewhere"),
        line("c", split="train"),
        line("d", phrase="another split", split="test"),
        line("b", phrase="no split", split="holdout"),
    ]
    write_csv(root / NEW, HEADER, rows)
    prepared = run(root, mimic, tmp_path / "out")
    assert prepared.index["image_id"].to_pylist() == ["a", "b", "d"]
    assert prepared.index["split"].to_pylist() == ["test", "train", "validate"]
    assert skipped(tmp_path / "out") == [
        (f"{NEW}:7", "duplicate id"),
        (f"{NEW}:8", "unreadable row: box or size"),
        ("f", "a row of it is unreadable"),
        (f"{NEW}:11", "unreadable row: another split than above"),
        (f"{NEW}:12", "unreadable row: split 'holdout'"),
        ("elsewhere", "not in the metadata table"),
        ("c", "view LATERAL"),
    ]
    assert prepared.manifest["counts"]["table"] == 6


def test_boxes_are_shares_of_the_image():
    fields = ["Edema", "mild edema", "10", "-20", "30", "40", "100", "200"]
    assert read_box(fields) == Box("Edema", 0.1, -0.1, 0.4, 0.1, "mild edema")


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        *((i, value, "box or size") for i in (4, 5, 6, 7) for value in ("0", "-1", "inf", "nan", "", "x")),
        *((i, value, "box or size") for i in (2, 3) for value in ("inf", "nan", "", "x")),
        (0, "Nodule", "category 'Nodule'"),
        (1, " ", "no label_text"),
    ],
)
def test_rows_that_are_no_boxes(position, value, message):
    fields = ["Edema", "mild edema", "10", "20", "30", "40", "100", "200"]
    fields[position] = value
    with pytest.raises(LeftOutError, match=message):
        read_box(fields)
