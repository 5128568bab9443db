import csv
import gzip
import shutil
from collections import Counter

import pytest
from sklearn.model_selection import train_test_split

from medvlp.errors import UserError
from medvlp.prepare.annotations import Box
from medvlp.prepare.datasets.nih import FINDINGS, Nih, nih, parse_box
from medvlp.prepare.layouts.nih_images import patient_of
from medvlp.prepared import Prepared

TABLES = ("Data_Entry_2017_v2020.csv", "BBox_List_2017.csv", "train_val_list.txt", "test_list.txt")
ENTRY = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
IMAGES = {
    "00000001_000.png": ("Cardiomegaly|Effusion", "PA"),
    "00000001_001.png": ("No Finding", "AP"),
    "00000002_000.png": ("Infiltration", "PA"),
    "00000003_000.png": ("Pleural_Thickening|Mass", "PA"),
}


def entry(name, findings, view="PA"):
    number, follow_up = int(name[:8]), int(name[9:12])
    return f"{name},{findings},{follow_up},{number},58,M,{view},2682,2749,0.143,0.143"


def read(data):
    skips = []
    return list(data.studies(lambda what, reason: skips.append((what, reason)))), skips


def write_lines(path, lines):
    path.write_text("\n".join(lines))


@pytest.fixture
def raw(tmp_path, jpeg):
    """Four images in two folders, the first three to train on, one of them with the suffix of a copy."""
    root = tmp_path / "raw"
    for number, name in enumerate(IMAGES):
        folder = root / f"images_{number // 2 + 1:03}/images"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(512, 512, seed=number))
    (root / "images_001/images/00000001_001.png").rename(root / "images_001/images/00000001_001.jpg")
    boxes = [
        BOXES,
        "00000001_000.png,Effusion,100.5,200,300,400",
        "00000003_000.png,Mass,0,0,1024,1024,,,",
        "00000001_000.png,Infiltrate,0,512,64,128",
    ]
    write_lines(root / TABLES[0], [ENTRY, *(entry(name, *fields) for name, fields in IMAGES.items())])
    write_lines(root / TABLES[1], boxes)
    write_lines(root / TABLES[2], list(IMAGES)[:3])
    write_lines(root / TABLES[3], list(IMAGES)[3:])
    return root


def test_end_to_end(raw, tmp_path, skipped):
    nih(raw, tmp_path / "out", size=64, workers=1)
    prepared = Prepared.open(tmp_path / "out")
    assert prepared.labels[:3] == ["Atelectasis", "Cardiomegaly", "Pleural Effusion"]
    assert prepared.labels[-2:] == ["Hernia", "No Finding"]
    rows = prepared.index.to_pylist()
    assert [row["image_id"] for row in rows] == list(IMAGES)
    assert [row["view"] for row in rows] == ["PA", "AP", "PA", "PA"]
    assert [row["subject_id"] for row in rows] == ["1", "1", "2", "3"]
    assert [row["split"] for row in rows] == ["train"] * 3 + ["test"]
    assert rows[1]["path"] == "images_001/images/00000001_001.jpg"
    present = [[name for name in prepared.labels if row[f"label/{name}"]] for row in rows]
    assert present == [
        ["Cardiomegaly", "Pleural Effusion"],
        ["No Finding"],
        ["Infiltration"],
        ["Mass", "Pleural Thickening"],
    ]
    # From 1024 pixels to 64, though the file has 512.
    assert rows[0]["boxes"] == [
        {"name": "Pleural Effusion", "x1": 6.28125, "y1": 12.5, "x2": 25.03125, "y2": 37.5, "phrase": None},
        {"name": "Infiltration", "x1": 0, "y1": 32, "x2": 4, "y2": 40, "phrase": None},
    ]
    assert rows[1]["boxes"] is None
    assert rows[3]["boxes"] == [{"name": "Mass", "x1": 0, "y1": 0, "x2": 64, "y2": 64, "phrase": None}]
    assert [*prepared.split_variants] == ["kad", "patients"]
    assert prepared.masks is None
    assert skipped(tmp_path / "out") == []


def test_the_copy_of_kaggle(raw, tmp_path, capsys, skipped):
    """Its table is older, and each line ends with a comma."""
    nih(raw, tmp_path / "v2020", size=64, workers=1)
    assert "earlier version" not in capsys.readouterr().out
    lines = [ENTRY, *(entry(name, *fields) for name, fields in IMAGES.items())]
    lines[1] = lines[1].replace("Cardiomegaly|Effusion", "Cardiomegaly")
    write_lines(raw / "Data_Entry_2017.csv", [f"{line}," for line in lines])
    # Where both are there, the later one counts.
    nih(raw, tmp_path / "both", size=64, workers=1)
    assert "earlier version" not in capsys.readouterr().out
    later, both = (Prepared.open(tmp_path / name) for name in ("v2020", "both"))
    assert both.manifest["options"] == later.manifest["options"]
    assert both.index.equals(later.index)

    (raw / TABLES[0]).unlink()
    nih(raw, tmp_path / "kaggle", size=64, workers=1)
    out = capsys.readouterr().out
    assert "Data_Entry_2017.csv, an earlier version than Data_Entry_2017_v2020.csv" in out
    kaggle = Prepared.open(tmp_path / "kaggle")
    assert kaggle.manifest["options"] == {**later.manifest["options"], "table": "Data_Entry_2017.csv"}
    assert skipped(tmp_path / "kaggle") == []
    assert kaggle.index["image_id"] == later.index["image_id"]
    assert kaggle.index["label/Pleural Effusion"].to_pylist() == [0, 0, 0, 0]
    assert later.index["label/Pleural Effusion"].to_pylist() == [1, 0, 0, 0]
    # It says so each time, and what was begun with one table is not gone on with with the other.
    nih(raw, tmp_path / "kaggle", size=64, workers=1)
    assert "earlier version" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"table is None there and Data_Entry_2017\.csv now"):
        nih(raw, tmp_path / "v2020", size=64, workers=1)


def test_the_folders_of_kaggle(raw, tmp_path, skipped):
    """Twelve folders; patients and splits are those of the official download with one."""
    nih(raw, tmp_path / "two", size=32, workers=1)
    images = sorted(raw.glob("images_*/images/*"))
    for number in range(3, 13):
        (raw / f"images_{number:03}/images").mkdir(parents=True)
    images[0].rename(raw / "images_012/images" / images[0].name)
    nih(raw, tmp_path / "twelve", size=32, workers=1)
    (raw / "images").mkdir()
    for path in raw.glob("images_*/images/*"):
        path.rename(raw / "images" / path.name)
    for folder in raw.glob("images_*"):
        shutil.rmtree(folder)
    nih(raw, tmp_path / "one", size=32, workers=1)
    two, twelve, one = (Prepared.open(tmp_path / name).index.drop(["path"]) for name in ("two", "twelve", "one"))
    assert two.equals(twelve)
    assert two.equals(one)
    assert skipped(tmp_path / "twelve") == skipped(tmp_path / "one") == []


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("00001335_006.png", "1335"),
        ("00000001_000.JPG", "1"),
        ("36199.png", None),
        ("00001335_006", None),
        ("a1_0.png", None),
        ("../00000001_000.png", None),
        ("000000001_000.png", None),
        ("٣_0.png", None),
        (7, None),
    ],
)
def test_patients_by_names(name, patient):
    assert patient_of(name) == patient


def test_packed_tables_of_either_version(raw, tmp_path):
    with gzip.open(raw / "Data_Entry_2017.csv.gz", "wt") as file:
        file.write((raw / TABLES[0]).read_text())
    assert Nih(raw).table.name == "Data_Entry_2017_v2020.csv"
    (raw / TABLES[0]).unlink()
    data = Nih(raw)
    assert (data.table.name, data.options["table"]) == ("Data_Entry_2017.csv.gz", "Data_Entry_2017.csv")
    assert len(read(data)[0]) == 4


def test_damaged_rows_and_images(raw, tmp_path, skipped):
    first = next(iter(IMAGES))
    entries = [
        (raw / TABLES[0]).read_text(),
        entry(first, "Mass"),
        entry("00000009_000.png", "Mass"),
        entry("00000008_000.png", "Mass"),
        entry("00000007_000.png", "Cough|Mass"),
        "00000006_000.png,Mass",
        entry("00000005_000.png", ""),
    ]
    write_lines(raw / TABLES[0], entries)
    boxes = [
        (raw / TABLES[1]).read_text(),
        "00000004_000.png,Mass,1,1,1,1",
        f"{first},Mass,1,1,x,1",
        f"{first},Mass,1,1,0,1",
        f"{first},Mass,1,nan,1,1",
        f"{first},Cough,1,1,1,1",
        f"{first},Mass,1,1",
    ]
    write_lines(raw / TABLES[1], boxes)
    write_lines(raw / TABLES[2], [*list(IMAGES)[:3], "00000009_000.png", "00000003_000.png", first, "99.png"])
    path = raw / "images_002/images/00000002_000.png"
    path.write_bytes(path.read_bytes()[:-300])
    nih(raw, tmp_path / "out", size=32, workers=1)
    assert sorted(skipped(tmp_path / "out")) == [
        ("00000002_000.png", "truncated image"),
        ("00000008_000.png", "not in the split table"),
        ("00000009_000.png", "missing file"),
        ("99.png", "not in the label table"),
        ("BBox_List_2017.csv:10", "unreadable row: 4 fields, not 6"),
        ("BBox_List_2017.csv:5", "box of an unknown image"),
        ("BBox_List_2017.csv:6", "unreadable row: not a box"),
        ("BBox_List_2017.csv:7", "unreadable row: not a box"),
        ("BBox_List_2017.csv:8", "unreadable row: not a box"),
        ("BBox_List_2017.csv:9", "unreadable row: finding 'Cough'"),
        ("Data_Entry_2017_v2020.csv:10", "unreadable row: 2 fields, not 11"),
        ("Data_Entry_2017_v2020.csv:11", "unreadable row: finding ''"),
        ("Data_Entry_2017_v2020.csv:6", "duplicate id"),
        ("Data_Entry_2017_v2020.csv:9", "unreadable row: finding 'Cough'"),
        ("train_val_list.txt:5", "duplicate id"),
        ("train_val_list.txt:6", "duplicate id"),
    ]
    prepared = Prepared.open(tmp_path / "out")
    rows = {row["image_id"]: row for row in prepared.index.to_pylist()}
    assert rows["00000003_000.png"]["split"] == "test"
    assert len(rows[first]["boxes"]) == 2
    assert prepared.manifest["counts"]["table"] == 10


def test_boxes_have_exclusive_ends():
    assert parse_box(["Infiltrate", "1.5", "2", "10", "20"]) == Box("Infiltration", 1.5, 2, 11.5, 22)


@pytest.fixture(scope="module")
def complete(shared_data, tmp_path_factory):
    """The studies of the real tables, without images."""
    root = tmp_path_factory.mktemp("nih")
    (root / "images").mkdir()
    for name in TABLES:
        shutil.copy(shared_data / f"labels/{name}.gz", root)
    data = Nih(root)
    studies, skips = read(data)
    assert skips == []
    assert data.rows == len(studies) == data.documented == 112_120
    return data, studies


@pytest.mark.slow
def test_real_tables(complete):
    _, studies = complete
    # What `patient_of` says for data sets that name images of NIH without their patients.
    assert all(patient_of(study.study_id) == study.subject_id for study in studies)
    assert len({study.subject_id for study in studies}) == 30_805
    assert Counter(study.pictures[0].view for study in studies) == {"PA": 67_310, "AP": 44_810}
    counts = [sum(values) for values in zip(*(study.labels for study in studies), strict=True)]
    assert dict(zip(FINDINGS, counts, strict=True)) == {
        "No Finding": 60_361,
        "Infiltration": 19_894,
        "Effusion": 13_317,
        "Atelectasis": 11_559,
        "Nodule": 6_331,
        "Mass": 5_782,
        "Pneumothorax": 5_302,
        "Consolidation": 4_667,
        "Pleural_Thickening": 3_385,
        "Cardiomegaly": 2_776,
        "Emphysema": 2_516,
        "Edema": 2_303,
        "Fibrosis": 1_686,
        "Pneumonia": 1_431,
        "Hernia": 227,
    }


def test_real_boxes(complete):
    data, studies = complete
    texts = [study.pictures[0].annotation for study in studies if study.pictures[0].annotation]
    assert len(texts) == 880
    boxes = [box for text in texts for box in data.annotations.read(text, 1024, 1024).boxes]
    assert Counter(name for name, *_ in boxes) == {
        "Atelectasis": 180,
        "Pleural Effusion": 153,
        "Cardiomegaly": 146,
        "Infiltration": 123,
        "Pneumonia": 120,
        "Pneumothorax": 98,
        "Mass": 85,
        "Nodule": 79,
    }


def test_real_splits(complete, shared_data):
    data, studies = complete
    kad = {study.study_id: study.split for study in studies}
    patients = {study.study_id: study.other_splits["patients"] for study in studies}
    for variant, split_of in (("kad", kad), ("patients", patients)):
        assert Counter(split_of.values()) == data.splits[variant].documented
        assert data.splits[variant].documented == {"train": 77_872, "validate": 8_652, "test": 25_596}
    with gzip.open(shared_data / "labels/test_list.txt.gz", "rt") as file:
        test = set(file.read().split())
    assert {name for name, split in kad.items() if split == "test"} == test
    assert {name for name, split in patients.items() if split == "test"} == test
    _, validate = train_test_split(sorted(kad.keys() - test), test_size=8_652, random_state=0)
    assert {name for name, split in kad.items() if split == "validate"} == set(validate)
    # No patient is in two splits.
    pairs = {(study.subject_id, patients[study.study_id]) for study in studies}
    assert len(pairs) == 30_805


@pytest.mark.slow
def test_real_images(shared_data, tmp_path, skipped):
    """The 358 images of nih-mini with their part of the official tables give what its own manifest says."""
    with open(shared_data / "nih-mini/manifest.csv", newline="") as file:
        expected = {row["image_index"]: row for row in csv.DictReader(file)}
    root = tmp_path / "raw"
    (root / "images_001").mkdir(parents=True)
    (root / "images_001/images").symlink_to(shared_data / "nih-mini/images")
    for name in TABLES:
        with gzip.open(shared_data / f"labels/{name}.gz", "rt") as file:
            header = [next(file)] if name.endswith(".csv") else []
            lines = [line for line in file if line.strip().partition(",")[0] in expected]
        (root / name).write_text("".join(header + lines))
    nih(root, tmp_path / "out", size=64, workers=1)
    prepared = Prepared.open(tmp_path / "out")
    assert skipped(tmp_path / "out") == []
    rows = prepared.index.to_pylist()
    assert [row["image_id"] for row in rows] == sorted(expected)
    assert len(rows) == 358
    for row in rows:
        about = expected[row["image_id"]]
        found = [word for word, name in FINDINGS.items() if row[f"label/{name}"]]
        assert sorted(found) == sorted(about["finding_labels"].split("|"))
        assert (row["split"] == "test") == (about["official_split"] == "test")
        assert (row["height"], row["width"]) == (512, 512)
        boxes = [text.split(",") for text in about["bboxes(label,x,y,w,h in 1024px)"].split(";") if text]
        assert [box["name"] for box in row["boxes"] or ()] == [parse_box(box)[0] for box in boxes]
        for box, text in zip(row["boxes"] or (), boxes, strict=True):
            corners = parse_box(text)[1:5]
            # The manifest is rounded to tenths of a pixel, of which 16 become one.
            assert list(box.values())[1:5] == pytest.approx([corner / 16 for corner in corners], abs=0.1 / 16 + 1e-4)
    assert any(row["boxes"] for row in rows)
    assert all(image.std() > 20 for image in prepared.images)
