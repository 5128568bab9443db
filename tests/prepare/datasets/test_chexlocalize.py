"""CheXlocalize: the official test set with its masks, its names beside CheXpert's, and damaged files."""

import json
import shutil

import cv2
import numpy as np
import pytest

from medvlp.data import CXRDataModule
from medvlp.errors import LeftOutError, NotFoundError, UserError
from medvlp.phantom import phantom
from medvlp.prepare.annotations.coco_masks import CocoMasks
from medvlp.prepare.datasets.chexlocalize import OUTLINED, WORDS, CheXlocalize, chexlocalize
from medvlp.prepare.layouts.chexpert_table import LABELS, image_name, view_of
from medvlp.prepared import Prepared
from medvlp.run_lengths import encode_coco
from tests.support.raw import read_lines, write_lines

pytestmark = pytest.mark.slow
SIZE = 32


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "p"
    phantom(out, studies=40, seed=1, size=64, workers=1, layouts="chexlocalize")
    return out / "chexlocalize"


@pytest.fixture
def raw(drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "raw")
    return tmp_path / "raw"


def prepare(raw, out, **options):
    chexlocalize(raw, out, **{"size": SIZE, "workers": 1, **options})
    return Prepared.open(out)


def masks_of(raw):
    """The masks of all images, as in the files."""
    return {
        key: {name: code for name, code in codes.items()}
        for part in ("val", "test")
        for key, codes in json.loads((raw / f"CheXlocalize/gt_segmentations_{part}.json").read_text()).items()
    }


def key_of(image_id):
    return "_".join(image_id.removesuffix(".jpg").split("/")[1:])


def test_end_to_end(raw, tmp_path, skipped):
    prepared = prepare(raw, tmp_path / "out", views="FRONTAL,LATERAL")
    rows, masks = prepared.index.to_pylist(), masks_of(raw)
    assert skipped(prepared.root) == []
    assert {row["image_id"].split("/")[0] for row in rows} == {"valid", "test"}
    assert all((row["split"] == "test") == row["image_id"].startswith("test/") for row in rows)
    assert {row["subject_id"] for row in rows} == {row["image_id"].split("/")[1] for row in rows}
    with_masks = 0
    for row in rows:
        codes = masks.pop(key_of(row["image_id"]), None)
        if codes is None:
            # No finding is outlined: either there is none, or nobody knows where.
            assert row["boxes"] == [] or any(row[f"label/{name}"] for name in OUTLINED)
            continue
        with_masks += 1
        sizes = {name: cv2.connectedComponents(decoded(code).astype(np.uint8))[0] - 1 for name, code in codes.items()}
        names = [box["name"] for box in row["boxes"]]
        assert {name: names.count(WORDS[name]) for name in sizes} == sizes
        assert set(names) <= set(OUTLINED)
        share = np.mean(np.any([decoded(code) for code in codes.values()], axis=0))
        inner = prepared.masks[row["row"]].sum() / 255 / SIZE**2
        assert abs(inner - share * min(row["height"], row["width"]) / max(row["height"], row["width"])) < 0.01
    assert masks == {}
    assert with_masks > 3
    assert prepared.split_variants["official"]["documented"] == {"train": 0, "validate": 202, "test": 518}


def decoded(code):
    from pycocotools import mask as coco

    return coco.decode({**code, "counts": code["counts"].encode()}).astype(bool)


def test_a_batch_with_boxes(raw, tmp_path):
    prepare(raw, tmp_path / "out")
    module = CXRDataModule(tmp_path / "out", resize=SIZE, crop=SIZE, batch_size=4, num_workers=0, targets="box")
    module.setup("test")
    batch = next(iter(module.test_dataloader()))
    assert batch["image"].shape[1:] == (1, SIZE, SIZE)
    assert sum(map(len, batch["box"])) > 0
    assert batch["label"].shape[1] == len(LABELS)


def test_one_frontal_image_a_study(raw, tmp_path):
    table = raw / "CheXpert/test_labels.csv"
    header, first, *lines = read_lines(table)
    (more,) = (raw / "CheXpert" / first.split(",")[0]).parent.glob("view1_frontal.jpg")
    shutil.copy(more, more.with_name("view9_frontal.jpg"))
    write_lines(table, [header, first, first.replace("view1", "view9"), *lines])
    rows = prepare(raw, tmp_path / "out").index.to_pylist()
    of_study = [row for row in rows if row["study_id"] == "/".join(first.split("/")[1:3])]
    assert [(row["split"], row["split/studies"]) for row in of_study] == [("test", "test"), ("test", "")]
    assert {row["split/studies"] for row in rows if row["split"] == "validate"} == {"validate"}


def test_masks_of_one_finding(raw, tmp_path):
    both = [prepare(raw, tmp_path / str(name), finding=name) for name in (None, "Pleural Effusion")]
    whole, part = (prepared.masks[:].astype(int) for prepared in both)
    assert 0 < part.sum() < whole.sum()
    assert (part <= whole).all()
    assert both[0].index["boxes"] == both[1].index["boxes"]
    with pytest.raises(UserError, match=r"--finding='Pleural Effusio' has no masks\. Did you mean 'Pleural Effusion'"):
        CheXlocalize(raw, "Pleural Effusio")
    with pytest.raises(UserError, match="has no masks"):
        CheXlocalize(raw, "Fracture")


def edit(path, change):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content)))


def test_damaged_masks(raw, tmp_path, skipped):
    clean = prepare(raw, tmp_path / "clean", views="FRONTAL,LATERAL")
    path = raw / "CheXlocalize/gt_segmentations_val.json"
    keys = [*json.loads(path.read_text())]
    faults = {
        "finding 'Gout'": {"Gout": {"size": [4, 4], "counts": "@"}},
        "Edema, ends at pixel 4 of 16": {"Edema": {"size": [4, 4], "counts": "13"}},
        "Edema, size 99999999 x 99999999": {"Edema": {"size": [99999999, 99999999], "counts": "13"}},
    }
    assert len(keys) > len(faults)

    def change(content):
        for key, codes in zip(keys, faults.values(), strict=False):
            content[key] = codes
        content["patient1_study1_view1_frontal"] = {}
        return content

    edit(path, change)
    prepared = prepare(raw, tmp_path / "out", views="FRONTAL,LATERAL")
    news = dict(set(skipped(prepared.root)) - set(skipped(clean.root)))
    assert news.pop("gt_segmentations_val.json:patient1_study1_view1_frontal") == "masks of an unknown image"
    assert {key_of(name): reason for name, reason in news.items()} == {
        key: f"unreadable mask: {fault}" for key, fault in zip(keys, faults, strict=False)
    }
    assert len(prepared.index) == len(clean.index) - len(faults)


def test_a_positive_image_without_masks_is_not_empty(raw, tmp_path):
    path = raw / "CheXlocalize/gt_segmentations_val.json"
    key = next(key for key, codes in json.loads(path.read_text()).items() if decoded(codes["Support Devices"]).any())
    edit(path, lambda content: {name: codes for name, codes in content.items() if name != key})
    rows = prepare(raw, tmp_path / "out").index.to_pylist()
    (row,) = [row for row in rows if key_of(row["image_id"]) == key]
    assert row["label/Support Devices"] == 1
    assert row["boxes"] is None


@pytest.mark.parametrize("content", ['{"a": ', "[]", ""])
def test_files_of_masks_that_cannot_be_read(raw, tmp_path, content):
    path = raw / "CheXlocalize/gt_segmentations_test.json"
    path.write_text(content)
    with pytest.raises(UserError, match=f"'{path}' .* Download it again"):
        prepare(raw, tmp_path / "out")


def test_missing_files(raw, tmp_path):
    (raw / "CheXlocalize/gt_segmentations_test.json").unlink()
    with pytest.raises(NotFoundError, match=r"holds no gt_segmentations_test\.json\. Download the folders"):
        CheXlocalize(raw, None)


def test_labels_may_have_the_word_of_the_masks(raw, tmp_path):
    expected = prepare(raw, tmp_path / "expected").index
    for path in (raw / "CheXpert").glob("*.csv"):
        path.write_text(path.read_text().replace("Lung Opacity", "Airspace Opacity"))
    assert prepare(raw, tmp_path / "out").index.equals(expected)


def test_the_folder_of_an_earlier_description(raw, tmp_path):
    """Its valid.csv has CheXpert's columns, and 'valid' is written out."""
    expected = prepare(raw, tmp_path / "expected").index.drop_columns(["path"])
    (raw / "CheXpert").rename(raw / "CheXpert-v1.0")
    (raw / "CheXpert-v1.0/val").rename(raw / "CheXpert-v1.0/valid")
    header, *lines = read_lines(raw / "CheXpert-v1.0/val_labels.csv")
    name, *columns = header.split(",")
    lines = [line.replace("val/", "CheXpert-v1.0/valid/").split(",", 1) for line in lines]
    lines = [f"{path},Male,60,Frontal,AP,{rest}" for path, rest in lines]
    write_lines(raw / "CheXpert-v1.0/valid.csv", [",".join([name, "Sex,Age,Frontal/Lateral,AP/PA", *columns]), *lines])
    assert prepare(raw, tmp_path / "out").index.drop_columns(["path"]).equals(expected)


def test_names_and_views():
    assert image_name("CheXpert-v1.0-small/train/patient1/study1/view1_frontal.jpg") == image_name(
        "train/patient1/study1/view1_frontal.jpg"
    )
    assert image_name("val/p/s/v.jpg") == image_name("CheXpert-v1.0/valid/p/s/v.jpg") == "valid/p/s/v.jpg"
    assert image_name("view1_frontal.jpg") == ""
    assert [view_of(f"test/lateral/{name}") for name in ("view1_frontal.jpg", "view2_lateral.jpg", "view3.jpg")] == [
        "FRONTAL",
        "LATERAL",
        "",
    ]


def test_boxes_and_masks_of_a_smaller_copy():
    mask = np.zeros((100, 200), bool)
    mask[10:20, 40:80], mask[50:90, 120:130] = True, True
    text = json.dumps({"Airspace Opacity": {"size": [100, 200], "counts": encode_coco(mask)}})
    annotation = CocoMasks(WORDS).read(text, 50, 101)
    assert [box.name for box in annotation.boxes] == ["Lung Opacity"] * 2
    np.testing.assert_allclose([box[1:5] for box in annotation.boxes], [[20.2, 5, 40.4, 10], [60.6, 25, 65.65, 45]])
    np.testing.assert_array_equal(annotation.mask, mask)
    with pytest.raises(LeftOutError, match="mask of another image: 200 x 100 pixels, image of 100 x 100"):
        CocoMasks(WORDS).read(text, 100, 100)
    two = json.dumps({name: {"size": [n, n], "counts": [n * n]} for name, n in (("Edema", 4), ("Cardiomegaly", 5))})
    with pytest.raises(LeftOutError, match="two sizes in one image"):
        CocoMasks(WORDS).read(two, 8, 8)
    with pytest.raises(LeftOutError, match="unreadable masks"):
        CocoMasks(WORDS).read("[1]", 8, 8)
    assert CocoMasks(WORDS).read("{}", 8, 8).boxes == []
