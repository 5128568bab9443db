"""Boxes in columns, in lists and in a file of COCO, and masks: to the pixels of the prepared folder, and damaged."""

import json

import numpy as np
import pytest
from PIL import Image

from medvlp.__main__ import main
from medvlp.errors import NotFoundError, UserError
from medvlp.prepared import Prepared
from tests.support.strangers import picture, write_csv

SIDE = 48


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    for name in "abcd":
        Image.fromarray(picture(ord(name), SIDE)).save(tmp_path / "images" / f"{name}.png")
    return tmp_path / "images"


@pytest.fixture
def prepare(images, tmp_path):
    def prepare(rows=None, **options):
        if rows:
            options["table"] = write_csv(tmp_path / "t.csv", rows)
        words = [f"--{name}={value}" for name, value in options.items()]
        main(
            [
                "prepare",
                "table",
                f"--images={images}",
                f"--out={tmp_path / 'out'}",
                f"--size={SIDE}",
                "--workers=1",
                *words,
            ]
        )
        return Prepared.open(tmp_path / "out")

    return prepare


def boxes_of(prepared):
    return {
        row["image_id"]: row["boxes"] and [(b["name"], b["x1"], b["y1"], b["x2"], b["y2"]) for b in row["boxes"]]
        for row in prepared.index.to_pylist()
    }


EXPECTED = {"a.png": [("Nodule", 4, 5, 14, 25), ("Mass", 20, 20, 30, 30)], "b.png": []}


@pytest.mark.parametrize("form", ["xywh", "xyxy", "shares", "list", "list of shares"])
def test_rows_of_one_image_add_up(form, prepare):
    table = []
    for image, label, box in (
        ("a", "Nodule", (4, 5, 14, 25)),
        ("a", "Mass", (20, 20, 30, 30)),
        ("b", "No finding", None),
    ):
        x1, y1, x2, y2 = box or ("",) * 4
        row = {"image": f"{image}.png", "class_name": label}
        if form == "xywh":
            row |= {"x": x1, "y": y1, "width": box and x2 - x1, "height": box and y2 - y1}
        elif form == "xyxy":
            row |= {"x_min": x1, "y_min": y1, "x_max": x2, "y_max": y2}
        elif form == "shares":
            row |= dict(zip(("x1", "y1", "x2", "y2"), (box and v / SIDE for v in (box or [None] * 4)), strict=True))
        else:
            scale = SIDE if "shares" in form else 1
            row |= {"bbox": box and str([x1 / scale, y1 / scale, (x2 - x1) / scale, (y2 - y1) / scale])}
        table.append({name: "" if value is None else value for name, value in row.items()})
    prepared = prepare(table, **({"box_format": "xywh"} if "list" in form else {}))
    found = boxes_of(prepared)
    assert found.keys() == EXPECTED.keys()
    for image, boxes in EXPECTED.items():
        assert [name for name, *_ in found[image]] == [name for name, *_ in boxes]
        assert [pytest.approx(corners, abs=1e-3) for _, *corners in found[image]] == [corners for _, *corners in boxes]
    labels = {row["image_id"]: [row[f"label/{name}"] for name in prepared.labels] for row in prepared.index.to_pylist()}
    assert prepared.labels == ["Mass", "No Finding", "Nodule"]
    assert labels == {"a.png": [1, 0, 1], "b.png": [0, 1, 0]}


def test_a_list_that_may_be_of_either_format(prepare, capsys):
    with pytest.raises(SystemExit):
        prepare([{"image": "a.png", "bbox": "[4, 5, 14, 25]"}])
    assert (
        "may be x, y, width, height or x1, y1, x2, y2: say --box_format xywh or --box_format xyxy"
        in capsys.readouterr().err
    )
    found = boxes_of(prepare([{"image": "a.png", "bbox": "[20, 5, 14, 25]"}]))
    assert found == {"a.png": [("object", 20, 5, 34, 30)]}


@pytest.mark.parametrize(
    "text",
    ["20 5 14 25", "20,5,14,25", "[[20, 5, 14, 25]]", "20,5,14,25;1,2,10,12", "{'x': 20, 'y': 5, 'w': 14, 'h': 25}"],
)
def test_ways_to_write_a_list(text, prepare):
    found = boxes_of(prepare([{"image": "a.png", "bbox": text}]))
    assert found["a.png"][0] == ("object", 20, 5, 34, 30)
    assert found["a.png"][1:] == [("object", 1, 2, 11, 14)] * (";" in text)


def test_damaged_boxes(prepare, skipped):
    table = [
        {"image": name, "label": label, "x1": x1, "y1": 5, "x2": 20, "y2": 20}
        for name, label, x1 in (
            ("a.png", "Mass", 4),
            ("a.png", "Mass", 4),  # the same box
            ("b.png", "Mass", 4),
            ("b.png", "Mass", "four"),  # b may lack a box
            ("b.png", "Nodule", 6),
            ("c.png", "Mass", 30),  # its right is left of its left
            ("d.png", "Mass", 4),
        )
    ]
    table.append({"image": "d.png", "label": "No finding", "x1": "", "y1": "", "x2": "", "y2": ""})
    prepared = prepare(table)
    assert [*boxes_of(prepared)] == ["a.png", "d.png"]
    assert [row for row in skipped(prepared.root) if not row[0].startswith("regions of ")] == [
        ("t.csv:3", "duplicate id"),
        ("t.csv:5", "unreadable row: box four,5,20,20"),
        ("b.png", "a row of it is unreadable"),
        ("t.csv:6", "a row of it is unreadable"),
        ("t.csv:7", "unreadable row: box 30,5,20,20"),
        ("t.csv:9", "unreadable row: contradicts an earlier row of its image"),
    ]
    counts = prepared.manifest["counts"]
    assert counts["table"] == 8 == counts["decoded"] + 6


def test_boxes_beyond_the_image(prepare, skipped):
    table = [{"image": "a.png", "x": 4, "y": 5, "w": 90, "h": 10}, {"image": "b.png", "x": 4, "y": 5, "w": 9, "h": 10}]
    prepared = prepare(table)
    assert ("a.png", "box beyond the image; see --annotation_size") in skipped(prepared.root)
    assert boxes_of(prepared) == {"b.png": [("object", 4, 5, 13, 15)]}


COCO = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}, {"id": 3, "file_name": "zz.png"}],
    "annotations": [{"image_id": 1, "bbox": [4, 5, 10, 20], "category_id": 7}],
    "categories": [{"id": 7, "name": "nodule"}, {"id": 8, "name": "Mass"}],
}


@pytest.mark.parametrize("with_table", [False, True])
def test_coco(with_table, prepare, tmp_path, skipped):
    (tmp_path / "coco.json").write_text(json.dumps(COCO))
    rows = [{"image": f"{name}.png", "patient": name} for name in "abc"] if with_table else None
    prepared = prepare(rows, coco=tmp_path / "coco.json")
    found = boxes_of(prepared)
    assert found["a.png"] == [("Nodule", 4, 5, 14, 25)]
    assert found["b.png"] == []
    if with_table:
        assert found["c.png"] is None
    else:
        assert ("zz.png", "missing file") in skipped(prepared.root)
    assert prepared.labels == ["Nodule"]


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", json.dumps({**COCO, "annotations": [{"image_id": 9, "bbox": [1, 2, 3, 4]}]})]
)
def test_no_file_of_coco(content, prepare, tmp_path, capsys):
    (tmp_path / "coco.json").write_text(content)
    with pytest.raises(SystemExit):
        prepare(coco=tmp_path / "coco.json")
    assert "is no readable file of COCO" in capsys.readouterr().err


@pytest.mark.parametrize("by_column", [False, True])
def test_masks(by_column, prepare, images, tmp_path, skipped):
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[10:20, 4:14] = 255
    mask[10:20, 30:40] = 255
    Image.fromarray(mask).save(masks / ("a_mask.png" if not by_column else "left.png"))
    Image.fromarray(np.zeros_like(mask)).save(masks / ("b.png" if not by_column else "right.png"))
    (masks / ("c.png" if not by_column else "broken.png")).write_bytes(b"no image")
    names = {"a": "left.png", "b": "right.png", "c": "broken.png", "d": ""}
    rows = [
        {"image": f"{name}.png", "patient": name, **({"mask": names[name]} if by_column else {})} for name in "abcd"
    ]
    prepared = prepare(rows, masks=masks)
    index = {row["image_id"]: row for row in prepared.index.to_pylist()}
    assert np.array_equal(prepared.masks[index["a.png"]["row"]], mask)
    assert boxes_of(prepared) == {
        "a.png": [("mask", 4, 10, 14, 20), ("mask", 30, 10, 40, 20)],
        "b.png": [],
        "d.png": None,
    }
    assert ("c.png", "unreadable mask: the file is damaged") in skipped(prepared.root)


def test_masks_among_the_images(prepare, images, capsys):
    with pytest.raises(SystemExit):
        prepare(masks=images)
    assert "an image would be its own mask: move the masks" in capsys.readouterr().err


def test_a_mask_of_another_shape_or_none_at_all(prepare, tmp_path, skipped):
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.zeros((SIDE, 2 * SIDE), np.uint8)).save(masks / "wide.png")
    rows = [
        {"image": "a.png", "mask": "wide.png"},
        {"image": "b.png", "mask": "zz.png"},
        {"image": "c.png", "mask": ""},
    ]
    prepared = prepare(rows, masks=masks)
    assert [row for row in skipped(prepared.root) if not row[0].startswith("regions of ")] == [
        ("t.csv:3", "missing mask: zz.png"),
        ("a.png", "mask of another image: 96 x 48 pixels, image of 48 x 48"),
    ]


def test_options_that_name_no_boxes(prepare, capsys):
    for options, message in (
        ({"boxes": "image"}, "in which no box can be read"),
        ({"boxes": "image,patient"}, "--boxes names 2 columns"),
        ({"boxes": "bbx"}, "has no column 'bbx'"),
        ({"annotation_size": 0}, "--annotation_size=0 must be at least 1"),
    ):
        with pytest.raises(SystemExit):
            prepare([{"image": "a.png", "patient": "p"}], **options)
        assert message in capsys.readouterr().err


def test_coordinates_with_a_decimal_comma(prepare, skipped):
    rows = [
        {"image": "a.png", "x": "4,5", "y": "5,25", "w": "10,0", "h": "8"},
        {"image": "b.png", "x": "1,024", "y": "5", "w": "10", "h": "8"},  # 1.024 or 1024
    ]
    prepared = prepare(rows)
    assert boxes_of(prepared) == {"a.png": [("object", 4.5, 5.25, 14.5, 13.25)]}
    assert ("t.csv:3", "unreadable row: box 1,024,5,10,8") in skipped(prepared.root)


def test_a_box_of_coco_without_area(prepare, tmp_path, skipped):
    flat = {"image_id": 1, "bbox": [4, 5, 0, 20], "category_id": 7}
    (tmp_path / "coco.json").write_text(json.dumps({**COCO, "annotations": [*COCO["annotations"], flat]}))
    prepared = prepare(coco=tmp_path / "coco.json")
    assert [*boxes_of(prepared)] == ["b.png"]
    assert ("a.png", "unreadable box: bbox [4.0, 5.0, 0.0, 20.0] of --coco has no area") in skipped(prepared.root)


def test_a_missing_file_of_coco(images, tmp_path):
    from medvlp.prepare.own.gather import Sources, gather

    with pytest.raises(NotFoundError, match="--coco="):
        gather(Sources(images, coco=tmp_path / "nowhere.json"))
    (tmp_path / "c.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "zz"}], "annotations": []}))
    with pytest.raises(UserError, match="names no image"):
        gather(Sources(images, coco=tmp_path / "c.json"))
