import gzip
import json
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split

from medvlp.errors import LeftOutError, UserError
from medvlp.prepare.annotations import Box
from medvlp.prepare.annotations.named_masks import NamedMasks
from medvlp.prepare.datasets.siim import Siim, siim
from medvlp.prepared import Prepared
from medvlp.run_lengths import encode

HEADER = ["ImageId", " EncodedPixels"]
SHAPE = (90, 100)


def square(y1, x1, y2, x2):
    mask = np.zeros(SHAPE, bool)
    mask[y1:y2, x1:x2] = True
    return mask


PARTS = [square(10, 20, 30, 40), square(50, 60, 80, 64)]


class RawSiim:
    """Eight images in folders of their studies and series; `i1` has two parts, `i3` one."""

    def __init__(self, root, dicom, write_csv):
        self.root, self.dicom, self.write_csv = root, dicom, write_csv
        self.rows = [[f"i{number}", " -1"] for number in range(8)]
        self.rows[1][1], self.rows[3][1] = map(encode, PARTS)
        self.rows.append(["i1", encode(PARTS[1])])
        for number in range(8):
            self.image(f"i{number}")

    def path(self, name):
        return self.root / f"dicom-images-train/study{name}/series/{name}.dcm"

    def image(self, name):
        self.path(name).parent.mkdir(parents=True)
        self.path(name).write_bytes(self.dicom(np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)))

    def table(self, header=HEADER):
        self.write_csv(self.root / "train-rle.csv", header, self.rows)
        return self


@pytest.fixture
def raw(tmp_path, dicom, write_csv):
    return RawSiim(tmp_path / "siim", dicom, write_csv)


def run(raw, out, **options):
    siim(raw.root, out, size=50, workers=1, **options)
    return Prepared.open(out)


def test_prepared(raw, tmp_path):
    prepared = run(raw.table(), tmp_path / "out")
    index = prepared.index
    assert prepared.labels == ["Pneumothorax"]
    assert index["image_id"].to_pylist() == [f"i{number}" for number in range(8)]
    assert index["label/Pneumothorax"].to_pylist() == [0, 1, 0, 1, 0, 0, 0, 0]
    assert list(map(len, index["boxes"])) == [0, 2, 0, 1, 0, 0, 0, 0]
    # 90 x 100 in 45 x 50, below two rows of black.
    first, second = index["boxes"][1].as_py()
    assert first == {"name": "Pneumothorax", "x1": 10, "y1": 7, "x2": 20, "y2": 17, "phrase": None}
    assert second == {"name": "Pneumothorax", "x1": 30, "y1": 27, "x2": 32, "y2": 42, "phrase": None}
    expected = np.zeros((50, 50), np.uint8)
    expected[7:17, 10:20] = expected[27:42, 30:32] = 255
    np.testing.assert_array_equal(prepared.masks[1], expected)
    assert not prepared.masks[[0, 2, 4, 5, 6, 7]].any()


def test_flat_folder_of_copies_of_another_size(raw, tmp_path):
    shutil.rmtree(raw.root / "dicom-images-train")
    (raw.root / "dicom-images-train").mkdir()
    for number in range(8):
        Image.new("L", (45, 45), 9).save(raw.root / f"dicom-images-train/i{number}.png")
    raw.rows = [["i0", "0 450"], *([f"i{number}", "-1"] for number in range(1, 8))]
    prepared = run(raw.table(), tmp_path / "out", annotation_size=90)
    # Five columns of 90.
    assert prepared.masks[0].sum() / 255 == pytest.approx(50 * 50 * 5 / 90, rel=0.01)
    (box,) = prepared.index["boxes"][0].as_py()
    assert [box[key] for key in ("x1", "y1", "x2", "y2")] == pytest.approx([0, 0, 50 * 5 / 90, 50])
    with pytest.raises(UserError, match="--annotation_size=-1"):
        run(raw, tmp_path / "other", annotation_size=-1)


# Damage.


def test_unknown_images(raw, tmp_path, skipped):
    raw.rows.append(["unknown", "-1"])
    raw.image("extra")
    assert len(run(raw.table(), tmp_path / "out").index) == 8
    assert set(skipped(tmp_path / "out")) == {("unknown", "missing file"), ("extra", "not in the label table")}


@pytest.mark.parametrize(("name", "code"), [("i1", "-1"), ("i0", "1 5"), ("i0", " ")])
def test_an_image_whose_rows_contradict_is_left_out(raw, tmp_path, skipped, name, code):
    raw.rows.append([name, code])
    prepared = run(raw.table(), tmp_path / "out")
    assert name not in prepared.index["image_id"].to_pylist()
    (place, reason), last = skipped(tmp_path / "out")
    assert place == "train-rle.csv:11"
    assert reason.startswith("unreadable row")
    assert last == (name, "a row of it is unreadable")


@pytest.mark.slow
@pytest.mark.parametrize("code", ["1 2 3", "a b", "0 9001", "-1 -1", "1;2", "5 0"])
def test_codes_that_cannot_be_read(raw, tmp_path, skipped, code):
    raw.rows[5][1] = code
    prepared = run(raw.table(), tmp_path / "out")
    assert len(prepared.index) == 7
    ((what, reason),) = skipped(tmp_path / "out")
    assert what == "i5"
    assert reason.startswith("unreadable run-length code: ")


def read_codes(codes, shape=SHAPE):
    return NamedMasks(None).read(NamedMasks.write({"Pneumothorax": codes}), *shape)


def test_run_lengths():
    annotation = read_codes([*map(encode, PARTS)])
    assert annotation.boxes == [Box("Pneumothorax", 20, 10, 40, 30), Box("Pneumothorax", 60, 50, 64, 80)]
    np.testing.assert_array_equal(annotation.mask, PARTS[0] | PARTS[1])
    assert not read_codes([]).mask.any()
    with pytest.raises(LeftOutError, match="unreadable run-length code: ends at pixel 9001 of 9000"):
        read_codes(["0 9001"])


# The real table.


@pytest.mark.slow
def test_published_sizes(shared_data, tmp_path):
    shutil.copyfile(shared_data / "labels/siim-pneumothorax-train-rle.csv.gz", tmp_path / "train-rle.csv.gz")
    (tmp_path / "dicom-images-train").mkdir()
    data, skips = Siim(tmp_path, None), []
    studies = list(data.studies(lambda *skip: skips.append(skip)))
    assert not skips
    assert data.rows == len(studies) == data.documented == 12_047
    sizes = Counter(study.split for study in studies)
    assert sizes == data.splits["images"].documented == {"train": 8_433, "validate": 1_807, "test": 1_807}
    assert Counter(study.labels[0] for study in studies) == {0: 9_378, 1: 2_669}
    parts = Counter(
        len(json.loads(study.pictures[0].annotation)["Pneumothorax"]) for study in studies if study.labels == [1]
    )
    assert (parts[1], parts[2], parts[3], sum(parts[n] for n in parts if n > 3)) == (2_045, 447, 112, 65)
    train, rest = train_test_split([study.study_id for study in studies], test_size=3_614, random_state=0)
    test, _ = train_test_split(rest, test_size=1_807, random_state=0)
    assert {study.study_id for study in studies if study.split == "train"} == set(train)
    assert {study.study_id for study in studies if study.split == "test"} == set(test)


def test_real_masks(shared_data, tmp_path):
    """All pixels that the codes of an image say, if their parts do not overlap."""
    with gzip.open(shared_data / "labels/siim-pneumothorax-train-rle.csv.gz", "rt") as lines:
        codes = [line.split(",")[1].strip() for line in lines][1:]
    for code in [code for code in codes if code != "-1"][:40]:
        annotation = read_codes([code], (1024, 1024))
        assert annotation.mask.sum() == sum(int(length) for length in code.split()[1::2])
        ((_, x1, y1, x2, y2, _),) = annotation.boxes
        rows, columns = np.nonzero(annotation.mask)
        assert (x1, y1, x2, y2) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_real_image_with_its_code(shared_data, tmp_path, write_csv):
    """An image of SIIM by its real DICOM; the table says that it has no pneumothorax."""
    name = "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819"
    folder = tmp_path / "raw/dicom-images-train/study/series"
    folder.mkdir(parents=True)
    shutil.copyfile(shared_data / f"dicom/{name}.dcm", folder / f"{name}.dcm")
    with gzip.open(shared_data / "labels/siim-pneumothorax-train-rle.csv.gz", "rt") as lines:
        rows = [line.strip().split(",") for line in lines if line.startswith(name)]
    write_csv(tmp_path / "raw/train-rle.csv", HEADER, rows)
    siim(tmp_path / "raw", tmp_path / "out", size=64, workers=1)
    prepared = Prepared.open(tmp_path / "out")
    assert prepared.index["label/Pneumothorax"].to_pylist() == [0]
    assert prepared.index["boxes"].to_pylist() == [[]]
    assert prepared.images[0].std() > 30


def test_stage_2(raw, tmp_path):
    """One table, and the test images of stage 1 in a folder of their own."""
    raw.table(["ImageId", "EncodedPixels"])
    first = run(raw, tmp_path / "first")
    (raw.root / "train-rle.csv").rename(raw.root / "stage_2_train.csv")
    for name in ("i6", "i7"):
        other = raw.root / f"dicom-images-test/{name}.dcm"
        other.parent.mkdir(exist_ok=True)
        shutil.move(raw.path(name), other)
    second = run(raw, tmp_path / "second")
    assert [row["image_id"] for row in second.index.to_pylist()] == [row["image_id"] for row in first.index.to_pylist()]
    assert second.manifest["counts"]["decoded"] == 8
    assert second.manifest["options"] == {**first.manifest["options"], "table": "stage_2_train.csv"}


def test_a_folder_without_tables_says_which_will_do(tmp_path):
    with pytest.raises(UserError, match=r"train-rle\.csv or stage_2_train\.csv and the images"):
        Siim(tmp_path, None)


def test_one_table_of_stage_1_names_the_images_of_both_folders(raw, tmp_path, skipped):
    first = run(raw.table(), tmp_path / "first")
    for name in ("i6", "i7"):
        other = raw.root / f"dicom-images-test/{name}/{name}.dcm"
        other.parent.mkdir(parents=True)
        shutil.move(raw.path(name), other)
    second = run(raw, tmp_path / "second")
    assert second.index.drop(["path"]).equals(first.index.drop(["path"]))
    assert skipped(tmp_path / "second") == []


def test_the_test_images_of_stage_1_are_labelled_by_stage_2(raw, tmp_path, skipped):
    """The table of stage 1 has the images to train on alone; where both name an image, that of stage 2 counts."""
    whole = run(raw.table(), tmp_path / "whole")
    complete = raw.rows
    raw.rows = [row for row in complete if row[0] not in ("i6", "i7")]
    for name in ("i6", "i7"):
        other = raw.root / f"dicom-images-test/{name}.dcm"
        other.parent.mkdir(exist_ok=True)
        shutil.move(raw.path(name), other)
    run(raw.table(), tmp_path / "stage 1")
    unlabelled = [(name, "not in the label table") for name in ("i6", "i7")]
    assert sorted(skipped(tmp_path / "stage 1")) == unlabelled
    (raw.root / "train-rle.csv").rename(tmp_path / "train-rle.csv")
    raw.rows = [row for row in complete[::-1] if row[0] != "i3"] + [["i3", "-1"]]
    raw.table(["ImageId", "EncodedPixels"])
    (raw.root / "train-rle.csv").rename(raw.root / "stage_2_train.csv")
    (tmp_path / "train-rle.csv").rename(raw.root / "train-rle.csv")
    both = run(raw, tmp_path / "both")
    rows = {row["image_id"]: row for row in both.index.to_pylist()}
    # The order is that of the table of stage 1, and then of the other one.
    assert [*rows] == ["i0", "i1", "i2", "i3", "i4", "i5", "i7", "i6"]
    assert rows["i3"]["label/Pneumothorax"] == 0
    assert [*map(len, (rows["i1"]["boxes"], rows["i3"]["boxes"]))] == [2, 0]
    assert both.manifest["options"]["table"] == "train-rle.csv, stage_2_train.csv"
    assert both.manifest["counts"]["decoded"] == whole.manifest["counts"]["decoded"] == 8
    assert skipped(tmp_path / "both") == []
    # An image that the first table damages stays out.
    with open(raw.root / "train-rle.csv", "a") as file:
        file.write("i4,1 2 x\ni0,5 5\n")
    damaged = run(raw, tmp_path / "damaged")
    assert not {"i0", "i4"} & set(damaged.index["image_id"].to_pylist())
    assert len(damaged.index) == 6


class RawPng:
    """Six images of the copy in png, the last two of test; the second and the last have a pneumothorax."""

    def __init__(self, root, write_csv):
        self.root, self.write_csv = root, write_csv
        self.rows = {"train": [], "test": []}
        for folder in ("png_images", "png_masks"):
            (root / folder).mkdir(parents=True)
        for number in range(6):
            present, part = int(number in (1, 5)), "test" if number > 3 else "train"
            name = f"{number}_{part}_{present}_.png"
            self.rows[part].append([name, f"1.2.{number}", present])
            pixels = np.random.default_rng(number).integers(0, 255, (90, 100)).astype(np.uint8)
            Image.fromarray(pixels).save(root / "png_images" / name)
            mask = PARTS[0] | PARTS[1] if present else np.zeros(SHAPE, bool)
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / "png_masks" / name)

    def tables(self):
        for part, rows in self.rows.items():
            self.write_csv(self.root / f"stage_1_{part}_images.csv", ["new_filename", "ImageId", "has_pneumo"], rows)
        return self


@pytest.fixture
def png(tmp_path, write_csv):
    return RawPng(tmp_path / "png", write_csv)


def test_the_copy_in_png(png, tmp_path, skipped):
    prepared = run(png.tables(), tmp_path / "out")
    assert prepared.index["image_id"].to_pylist() == [f"1.2.{number}" for number in range(6)]
    assert prepared.index["label/Pneumothorax"].to_pylist() == [0, 1, 0, 0, 0, 1]
    assert sorted(prepared.index["split"].to_pylist()) == ["test", "train", "train", "train", "train", "validate"]
    first, second = prepared.index["boxes"][5].as_py()
    assert first == {"name": "Pneumothorax", "x1": 10, "y1": 7, "x2": 20, "y2": 17, "phrase": None}
    assert second == {"name": "Pneumothorax", "x1": 30, "y1": 27, "x2": 32, "y2": 42, "phrase": None}
    expected = np.zeros((50, 50), np.uint8)
    expected[7:17, 10:20] = expected[27:42, 30:32] = 255
    np.testing.assert_array_equal(prepared.masks[1], expected)
    assert prepared.manifest["documented"] == 12_047
    assert prepared.split_variants["images"]["documented"] == {"train": 8_433, "validate": 1_807, "test": 1_807}
    assert skipped(tmp_path / "out") == []
    with pytest.raises(UserError, match="--annotation_size does not go with 'png_images'"):
        run(png, tmp_path / "other", annotation_size=1024)


def test_masks_of_another_size_and_of_ones(png, tmp_path):
    mask = np.zeros((180, 200), np.uint8)
    mask[20:60, 40:80] = 1
    Image.fromarray(mask).save(png.root / "png_masks/1_train_1_.png")
    prepared = run(png.tables(), tmp_path / "out")
    (box,) = prepared.index["boxes"][1].as_py()
    assert box == {"name": "Pneumothorax", "x1": 10, "y1": 7, "x2": 20, "y2": 17, "phrase": None}
    assert prepared.masks[1].sum() == 100 * 255


def test_damage_of_the_copy_in_png(png, tmp_path, skipped):
    png.rows["train"] += [["x.png", "1.2.9", "maybe"], ["x.png", "", 0], png.rows["train"][0], ["../../s.png", "s", 0]]
    for number, content in ((0, None), (1, b""), (2, b"\x89PNG\r\n"), (3, None)):
        path = png.root / "png_masks" / png.rows["train"][number][0]
        path.unlink()
        if content is not None:
            path.write_bytes(content)
    Image.new("L", (100, 90), 255).save(png.root / "png_masks" / png.rows["train"][3][0])
    (png.root / "png_images/4_test_0_.png").unlink()
    prepared = run(png.tables(), tmp_path / "out")
    assert prepared.index["image_id"].to_pylist() == ["1.2.5"]
    assert dict(skipped(tmp_path / "out")) == {
        "stage_1_train_images.csv:6": "unreadable row: new_filename, ImageId or has_pneumo",
        "stage_1_train_images.csv:7": "unreadable row: new_filename, ImageId or has_pneumo",
        "stage_1_train_images.csv:8": "duplicate id",
        "s": "escapes root",
        "1.2.0": "missing mask",
        "1.2.1": "unreadable mask: the file is damaged",
        "1.2.2": "unreadable mask: the file is damaged",
        "1.2.3": "the mask contradicts the table",
        "1.2.4": "missing file",
    }
    (png.root / "stage_1_test_images.csv").unlink()
    with pytest.raises(UserError, match=r"neither stage_1_test_images\.csv"):
        run(png, tmp_path / "other")
