import csv
import gzip
import json
import shutil
import zipfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split

from medvlp.errors import UserError
from medvlp.prepare.datasets.rsna import COLUMNS, Rsna, rsna
from medvlp.prepared import SYNTHETIC, Prepared

NEGATIVE, POSITIVE = ["", "", "", "", "0"], ["20.0", "10.0", "30.0", "40.0", "1"]


class RawRsna:
    """Eight images in the layout of the challenge, every second with a box, `p1` with two."""

    def __init__(self, root, dicom, write_csv):
        self.root, self.dicom, self.write_csv = root, dicom, write_csv
        (root / "stage_2_train_images").mkdir(parents=True)
        self.rows = []
        for number in range(8):
            self.image(f"p{number}", seed=number)
            self.rows.append([f"p{number}", *(POSITIVE if number % 2 else NEGATIVE)])
        self.rows.append(["p1", "60", "50", "20", "30", "1"])

    def path(self, name):
        return self.root / f"stage_2_train_images/{name}.dcm"

    def image(self, name, seed=0):
        pixels = np.random.default_rng(seed).integers(0, 255, (100, 100)).astype(np.uint8)
        self.path(name).write_bytes(self.dicom(pixels, "MONOCHROME1" if seed == 3 else "MONOCHROME2"))

    def table(self, header=COLUMNS, suffix=""):
        self.write_csv(self.root / f"stage_2_train_labels.csv{suffix}", header, self.rows)
        return self


@pytest.fixture
def raw(tmp_path, dicom, write_csv):
    return RawRsna(tmp_path / "rsna", dicom, write_csv)


def run(raw, out, **options):
    rsna(raw.root, out, size=50, workers=1, **options)
    return Prepared.open(out)


def test_prepared(raw, tmp_path):
    (raw.root / SYNTHETIC).touch()
    prepared = run(raw.table(), tmp_path / "out")
    assert prepared.labels == ["Pneumonia"]
    assert prepared.synthetic
    index = prepared.index
    assert index["image_id"].to_pylist() == index["subject_id"].to_pylist() == [f"p{number}" for number in range(8)]
    assert index["label/Pneumonia"].to_pylist() == [0, 1] * 4
    assert set(index["view"].to_pylist()) == {"FRONTAL"}
    assert index["boxes"][0].as_py() == []
    assert index["boxes"][1].as_py() == [
        {"name": "Pneumonia", "x1": 10, "y1": 5, "x2": 25, "y2": 25, "phrase": None},
        {"name": "Pneumonia", "x1": 30, "y1": 25, "x2": 40, "y2": 40, "phrase": None},
    ]
    expected = np.zeros((50, 50), np.uint8)
    expected[5:25, 10:25] = expected[25:40, 30:40] = 255
    np.testing.assert_array_equal(prepared.masks[1], expected)
    assert not prepared.masks[0].any()
    assert prepared.manifest["counts"]["skipped"] == {}
    assert list(prepared.split_variants) == ["mgca_16010", "70_15_15"]


def test_images_in_other_formats(raw, tmp_path):
    raw.path("p0").unlink()
    Image.new("L", (100, 100), 7).save(raw.path("p0").with_suffix(".png"))
    raw.path("p1").rename(raw.path("p1").with_suffix(".DCM"))
    prepared = run(raw.table(suffix=".gz"), tmp_path / "out")
    assert len(prepared.index) == 8
    assert (prepared.images[0] == 7).all()


def test_boxes_of_images_of_another_size(raw, tmp_path):
    prepared = run(raw.table(), tmp_path / "out", annotation_size=200)
    assert prepared.index["boxes"][3].as_py() == [
        {"name": "Pneumonia", "x1": 5, "y1": 2.5, "x2": 12.5, "y2": 12.5, "phrase": None}
    ]
    assert prepared.manifest["options"]["annotation_size"] == 200
    with pytest.raises(UserError, match="--annotation_size=0"):
        run(raw, tmp_path / "other", annotation_size=0)


def test_copies_of_a_size_that_was_not_given(raw, tmp_path, skipped):
    """A box that is partly in the image would be at a wrong place there; a pixel too much is only cut."""
    raw.rows[3][1:] = ["50", "20", "60", "20", "1"]
    raw.rows[5][1:] = ["50", "20", "51", "20", "1"]
    prepared = run(raw.table(), tmp_path / "out")
    assert skipped(tmp_path / "out") == [("p3", "box beyond the image; see --annotation_size")]
    assert prepared.index["boxes"][4].as_py() == [
        {"name": "Pneumonia", "x1": 25, "y1": 10, "x2": 50, "y2": 20, "phrase": None}
    ]
    assert len(run(raw, tmp_path / "given", annotation_size=110).index) == 8


# Damage.


def test_unknown_images(raw, tmp_path, skipped):
    """A row without an image, and an image without a row."""
    raw.rows.append(["unknown", *POSITIVE])
    raw.image("extra")
    prepared = run(raw.table(), tmp_path / "out")
    assert set(skipped(tmp_path / "out")) == {("unknown", "missing file"), ("extra", "not in the label table")}
    assert len(prepared.index) == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (["20", "10", "x", "40", "1"], "box or Target"),
        (["20", "10", "nan", "40", "1"], "box or Target"),
        (["20", "10", "0", "40", "1"], "box or Target"),
        (["20", "10", "inf", "40", "1"], "box or Target"),
        (["20", "10", "30", "40", "0"], "box or Target"),
        (["", "", "", "", "1"], "box or Target"),
        (["20", "10", "30", "40", "2"], "box or Target"),
        (NEGATIVE, "contradicts one above it"),
    ],
)
def test_an_image_with_an_unreadable_row_is_left_out(raw, tmp_path, skipped, fields, reason):
    """For a box of it may be missing. The splits of the others stay as they are."""
    raw.rows.append(["p3", *fields])
    prepared = run(raw.table(), tmp_path / "out")
    assert skipped(tmp_path / "out") == [
        ("stage_2_train_labels.csv:11", f"unreadable row: {reason}"),
        ("p3", "a row of it is unreadable"),
    ]
    raw.rows.pop()
    whole = run(raw.table(), tmp_path / "whole").index.to_pylist()
    assert [row["split"] for row in whole if row["image_id"] != "p3"] == prepared.index["split"].to_pylist()


def test_rows_of_the_wrong_length(raw, tmp_path, skipped):
    raw.rows += [["p9", "1"], ["", *NEGATIVE]]
    run(raw.table(), tmp_path / "out")
    assert [reason for _, reason in skipped(tmp_path / "out")] == [
        "unreadable row: 2 fields, not 6",
        "unreadable row: no image",
    ]


# The patients of NIH ChestX-ray14.


def mappings(path, names):
    entries = [{"subset_img_id": image, "img_id": name, "orig_labels": ["Mass"]} for image, name in names.items()]
    path.write_text(json.dumps(entries))
    return path


def test_patients_by_the_names_in_nih(raw, tmp_path, skipped):
    names = {f"p{number}": f"0000133{number // 2}_00{number}.png" for number in range(8)}
    file = mappings(tmp_path / "mappings.json", {**names, "of the test images": "00000001_000.png"})
    prepared = run(raw.table(), tmp_path / "out", mappings=file)
    assert prepared.index["subject_id"].to_pylist() == [f"133{number // 2}" for number in range(8)]
    assert list(prepared.split_variants) == ["mgca_16010", "70_15_15", "patients"]
    rows = prepared.index.to_pylist()
    # 5,337 of 26,684 images are 1.6 of 8: one patient with two images.
    assert sorted(row["split/patients"] for row in rows) == ["test"] * 2 + ["train"] * 4 + ["validate"] * 2
    assert len({(row["subject_id"], row["split/patients"]) for row in rows}) == 4
    without = run(raw, tmp_path / "without")
    assert without.index["split"] == prepared.index["split"]
    assert prepared.manifest["options"] == {**without.manifest["options"], "patients": "nih"}
    assert skipped(tmp_path / "out") == []


def test_damaged_mappings(raw, tmp_path, skipped):
    """An image of an unknown patient could be of one in another split."""
    entries = [{"subset_img_id": f"p{number}", "img_id": f"0000000{number}_000.png"} for number in range(2, 8)]
    entries += [
        {"subset_img_id": "p0", "img_id": "scan.png"},
        {"img_id": "00000001_000.png"},
        {"subset_img_id": "p7", "img_id": "00000007_001.png"},
        {"subset_img_id": "p6", "img_id": "00000001_001.png"},
        7,
    ]
    (tmp_path / "m.json").write_text(json.dumps(entries))
    prepared = run(raw.table(), tmp_path / "out", mappings=tmp_path / "m.json")
    assert prepared.index["subject_id"].to_pylist() == ["2", "3", "4", "5", "7"]
    unknown = "not in the mappings: its patient is unknown"
    assert dict(skipped(tmp_path / "out")) == {
        "m.json:entry 7": "unreadable entry: subset_img_id or img_id",
        "m.json:entry 8": "unreadable entry: subset_img_id or img_id",
        "m.json:entry 10": "unreadable entry: another img_id than above",
        "m.json:entry 11": "unreadable entry: no object",
        **dict.fromkeys(("p0", "p1", "p6"), unknown),
    }
    whole = run(raw, tmp_path / "whole").index.to_pylist()
    kept = set(prepared.index["image_id"].to_pylist())
    assert [row["split"] for row in whole if row["image_id"] in kept] == prepared.index["split"].to_pylist()
    (tmp_path / "m.json").write_text(json.dumps(entries)[:-9])
    with pytest.raises(UserError, match=r"m\.json' cannot be read as JSON"):
        run(raw, tmp_path / "other", mappings=tmp_path / "m.json")
    with pytest.raises(
        UserError, match=r"--mappings='.*none' is not there\. Download .*mappings_2018\.json from https://www\.rsna"
    ):
        run(raw, tmp_path / "other", mappings=tmp_path / "none")


@pytest.mark.slow
def test_patients_by_the_names_in_nih_at_full_size(real, tmp_path):
    """With invented names for the real images: the sizes of the published split, and no patient in two splits."""
    ids = [study.study_id for study in Rsna(real, None).studies(lambda *_: None)]
    file = mappings(tmp_path / "m.json", {name: f"{i // 3:08}_{i % 3:03}.png" for i, name in enumerate(ids)})
    studies = list(Rsna(real, None, file).studies(lambda *_: None))
    sizes = Counter(study.other_splits["patients"] for study in studies)
    # A patient with three images may not fit into the last place.
    assert all(5_337 - 2 <= sizes[split] <= 5_337 for split in ("validate", "test"))
    assert sum(sizes.values()) == 26_684
    assert len({(study.subject_id, study.other_splits["patients"]) for study in studies}) == len(ids) // 3 + 1


# The real tables.


@pytest.fixture
def real(shared_data, tmp_path):
    """The labels of the challenge, without the images."""
    with zipfile.ZipFile(shared_data / "labels/kaggle_stage_2_train_labels.csv.zip") as archive:
        archive.extract("stage_2_train_labels.csv", tmp_path)
    (tmp_path / "stage_2_train_images").mkdir()
    return tmp_path


@pytest.mark.slow
def test_published_sizes(real):
    data, skips = Rsna(real, None), []
    studies = list(data.studies(lambda *skip: skips.append(skip)))
    assert not skips
    assert data.rows == len(studies) == data.documented == 26_684
    assert Counter(study.split for study in studies) == {"train": 16_010, "validate": 5_337, "test": 5_337}
    other = Counter(study.other_splits["70_15_15"] for study in studies)
    assert other == {"train": 18_678, "validate": 4_003, "test": 4_003}
    for variant, sizes in ((Counter(study.split for study in studies), "mgca_16010"), (other, "70_15_15")):
        assert variant == data.splits[sizes].documented
    assert sum(study.labels == [1] for study in studies) == 6_012
    boxes = [data.annotations.read(study.pictures[0].annotation, 1024, 1024).boxes for study in studies]
    assert Counter(map(len, boxes)) == {0: 20_672, 1: 2_614, 2: 3_266, 3: 119, 4: 13}


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "size"), [("mgca_16010", 5337 * 2), ("70_15_15", 0.15 * 2)])
def test_splits_are_those_of_mgca(real, variant, size):
    """Its code with scikit-learn itself; pandas' groupby has sorted the patients there, which the table does not."""
    studies = list(Rsna(real, None).studies(lambda *skip: None))
    names = [study.study_id for study in studies]
    assert names != sorted(names)
    train, rest = train_test_split(sorted(names), test_size=size, random_state=0)
    test, validate = train_test_split(rest, test_size=0.5, random_state=0)
    for split, names in (("train", train), ("validate", validate), ("test", test)):
        found = {study.study_id for study in studies if {variant: study.split, **study.other_splits}[variant] == split}
        assert found == set(names)


def test_real_images_and_boxes(shared_data, tmp_path, write_csv):
    """The images of NIH that were annotated for RSNA: 109 of them, half as large as their boxes say."""
    with open(shared_data / "nih-mini/rsna_boxes.csv", newline="") as file:
        images = list(csv.DictReader(file))
    rows = []
    (tmp_path / "raw/stage_2_train_images").mkdir(parents=True)
    for image in images:
        name = image["rsna_patientId"]
        source = shared_data / "nih-mini/images" / image["image_index"].replace(".png", ".jpg")
        shutil.copyfile(source, tmp_path / f"raw/stage_2_train_images/{name}.jpg")
        boxes = image["boxes(x,y,w,h in 1024px)"]
        rows += [[name, *box.split(","), 1] for box in boxes.split(";")] if boxes else [[name, *NEGATIVE]]
    write_csv(tmp_path / "raw/stage_2_train_labels.csv", COLUMNS, rows)
    names = mappings(tmp_path / "m.json", {image["rsna_patientId"]: image["image_index"] for image in images})
    rsna(tmp_path / "raw", tmp_path / "out", annotation_size=1024, mappings=names, size=128, workers=1)
    prepared = Prepared.open(tmp_path / "out")
    # The same patients as `nih` names, by the official table.
    with gzip.open(shared_data / "labels/Data_Entry_2017_v2020.csv.gz", "rt", newline="") as file:
        patients = {row["Image Index"]: row["Patient ID"] for row in csv.DictReader(file)}
    assert prepared.index["subject_id"].to_pylist() == [patients[image["image_index"]] for image in images]
    assert prepared.manifest["counts"]["skipped"] == {}
    assert len(prepared.index) == len(images) == 109
    assert sum(prepared.index["label/Pneumonia"].to_pylist()) == sum(image["target"] == "1" for image in images) == 40
    assert prepared.manifest["counts"]["boxes"] == sum(len(row[1]) > 0 for row in rows)
    for row, image in zip(prepared.index.to_pylist(), images, strict=True):
        texts = filter(None, image["boxes(x,y,w,h in 1024px)"].split(";"))
        expected = np.array([[float(value) for value in text.split(",")] for text in texts]).reshape(-1, 4) / 8
        boxes = np.array([[box["x1"], box["y1"], box["x2"], box["y2"]] for box in row["boxes"]]).reshape(-1, 4)
        np.testing.assert_allclose(boxes[:, :2], expected[:, :2])
        np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], expected[:, 2:])
        area = (prepared.masks[row["row"]] / 255).sum()
        assert area <= (expected[:, 2] * expected[:, 3]).sum() * 1.01 + 1
        assert (area > 0) == bool(len(boxes))
