"""Boxes, masks and splits in a prepared folder, of a data set without reports."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from medvlp.errors import LeftOutError, UserError
from medvlp.prepare.annotations import Box, cut_boxes
from medvlp.prepare.annotations.boxes import Boxes, boxes_text
from medvlp.prepare.images import read_image, resize_mask
from medvlp.prepare.journal import Journal
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.splits import SplitVariant
from medvlp.prepare.study import Picture, Study
from medvlp.prepared import INDEX, MASKS, TRIPLETS, Geometry, Prepared

KEYS = ("name", "x1", "y1", "x2", "y2")


class Squares:
    """100 images with a bright rectangle each, as a data set."""

    regions = None
    documented = 100
    view_teller = None
    archive = None

    def __init__(self, root, masks=True):
        self.options = {"dataset": "squares"}
        self.labels = ["Square"]
        self.images = root
        self.real_images = [str(root.resolve())]
        self.annotations = Boxes(masks)
        self.splits = {
            "first": SplitVariant("by number", {"train": 58, "validate": 20, "test": 20}),
            "second": SplitVariant("all", {"train": 99, "validate": 0, "test": 0}),
            "third": SplitVariant("none"),
        }
        self.rows = 0
        self.rectangles = []
        generator = np.random.default_rng(0)
        for number in range(100):
            height, width = generator.integers(30, 60, 2)
            y1, x1 = generator.integers(0, 15, 2)
            y2, x2 = generator.integers(16, 30, 2)
            pixels = np.zeros((height, width), np.uint8)
            pixels[y1:y2, x1:x2] = 255
            Image.fromarray(pixels).save(root / f"{number}.png")
            self.rectangles.append((int(x1), int(y1), int(x2), int(y2)))

    def studies(self, skip):
        self.rows = len(self.rectangles)
        for number, rectangle in enumerate(self.rectangles):
            annotation = boxes_text([Box("Square", *rectangle)]) if number % 3 else "[]" if number % 2 else None
            picture = Picture(f"image{number}", "FRONTAL", f"{number}.png", annotation=annotation)
            split = {0: "5x200", 1: ""}.get(number, ["train", "train", "train", "validate", "test"][number % 5])
            others = {"second": "train", "third": ""}
            yield Study(picture.image_id, picture.image_id, split, [picture], [int(bool(number % 3))], None, others)


@pytest.fixture
def squares(tmp_path):
    (tmp_path / "raw").mkdir()
    return Squares(tmp_path / "raw")


def run(data, out, resize="pad", workers=1, **options):
    prepare(data, out, Options(24, resize, ["FRONTAL"], **options), workers)
    return Prepared.open(out)


@pytest.mark.parametrize("resize", ["pad", "squash"])
def test_images_masks_and_boxes_are_aligned(squares, tmp_path, resize):
    prepared = run(squares, tmp_path / "out", resize)
    assert prepared.masks.shape == prepared.images.shape == (100, 24, 24)
    for row in prepared.index.to_pylist():
        image, mask = prepared.images[row["row"]].astype(int), prepared.masks[row["row"]].astype(int)
        if row["row"] % 3:
            # The images are resized by another filter, which smears edges over a pixel more.
            assert np.abs(image - mask).max() < 100
            assert np.abs(image - mask).mean() < 4
            (box,) = row["boxes"]
            assert box["name"] == "Square"
            x1, y1, x2, y2 = (box[key] for key in KEYS[1:])
            assert mask.sum() / 255 == pytest.approx((x2 - x1) * (y2 - y1), rel=0.02)
            ys, xs = np.nonzero(mask > 8)
            expected = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            assert (x1, y1, x2, y2) == pytest.approx(expected, abs=1)
        else:
            assert row["boxes"] == ([] if row["row"] % 2 else None)
            assert not mask.any()
    counts = prepared.manifest["counts"]
    assert (counts["annotated"], counts["boxes"]) == (83, 66)


@pytest.mark.parametrize("resize", ["pad", "squash"])
@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (48, 48), (50, 37), (7, 5), (3, 100)])
def test_masks_are_shares_of_area(shape, resize):
    height, width = shape
    mask = np.random.default_rng(0).random(shape) < 0.4
    geometry = Geometry.of(height, width, 24, resize)
    (inner_width, inner_height), (left, top) = geometry.inner, geometry.corner
    # Each pixel cut into so many that the new pixels are whole numbers of them.
    fine = np.kron(mask, np.ones((inner_height, inner_width)))
    shares = fine.reshape(inner_height, height, inner_width, width).mean(axis=(1, 3))
    resized = resize_mask(mask, geometry)
    inside = resized[top : top + inner_height, left : left + inner_width]
    np.testing.assert_allclose(inside / 255, shares, atol=0.51 / 255)
    assert resized.sum() == inside.sum()
    assert (resize_mask(np.ones(shape, bool), geometry) > 0).sum() == inner_width * inner_height


def test_no_reports_no_triplets(squares, tmp_path):
    prepared = run(squares, tmp_path / "out")
    assert not (tmp_path / "out" / TRIPLETS).exists()
    assert set(prepared.manifest["sha256"]) == {INDEX, "skipped.csv", "images.npy", MASKS}
    assert set(prepared.index["findings"].to_pylist()) == set(prepared.index["impression"].to_pylist()) == {None}
    assert not {"report", "sections", "min_words"} & set(prepared.manifest["counts"])
    assert prepared.index["study_id"].to_pylist() == prepared.index["image_id"].to_pylist()


def test_no_masks(squares, tmp_path):
    squares.annotations = Boxes(masks=False)
    prepared = run(squares, tmp_path / "out")
    assert prepared.masks is None
    assert not (tmp_path / "out" / MASKS).exists()
    assert prepared.manifest["counts"]["boxes"] == 66


def test_split_variants(squares, tmp_path, capsys):
    prepared = run(squares, tmp_path / "out")
    out = capsys.readouterr().out
    assert "in the table: 100 images, as documented" in out
    assert "split first: 58 / 20 / 20 (train / validate / test), as documented" in out
    assert "split second: 100 / 0 / 0 (train / validate / test), differs from the documented 99 / 0 / 0" in out
    assert "split third: 0 / 0 / 0 (train / validate / test), no documented sizes" in out
    assert "in no split" in out
    assert prepared.manifest["documented"] == 100
    assert list(prepared.split_variants) == ["first", "second", "third"]
    assert prepared.split_variants["first"]["counts"] == {"train": 58, "validate": 20, "test": 20}
    assert prepared.index["split"] == prepared.index["split/first"]
    assert Counter(prepared.index["split"].to_pylist())["5x200"] == 1
    assert len(prepared.of_splits(["train"])) == len(prepared.of_splits(["train"], variant="first")) == 58
    assert prepared.of_splits(["train"], ["row"], "second").num_rows == 100
    assert prepared.of_splits(["5x200"], ["image_id"])["image_id"].to_pylist() == ["image0"]
    with pytest.raises(UserError, match=r"variant='patients'.*its splits are first, second, third"):
        prepared.of_splits(["train"], variant="patients")


def test_a_table_of_another_size_is_told(squares, tmp_path, capsys):
    squares.rectangles.pop()
    run(squares, tmp_path / "out")
    assert "in the table: 99 images, differs from the documented 100" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted(squares, tmp_path, folder_bytes, monkeypatch, workers):
    run(squares, tmp_path / "whole")
    append, done = Journal.append, []

    def interrupted(self, result):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(append(self, result))

    monkeypatch.setattr(Journal, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(squares, tmp_path / "out")
    monkeypatch.undo()
    # As if the masks of the first chunk had never reached the disk.
    with (tmp_path / "out" / MASKS).open("r+b") as file:
        file.seek(128 + 24 * 24)
        file.write(bytes(24 * 24))
    run(squares, tmp_path / "out", workers=workers)
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "whole")


@pytest.mark.parametrize("function", ["write_index", "describe_splits"])
def test_interrupted_at_the_end(squares, tmp_path, folder_bytes, monkeypatch, function):
    squares.rectangles[4] = (500, 500, 600, 600)
    run(squares, tmp_path / "whole")
    monkeypatch.setattr(f"medvlp.prepare.pipeline.{function}", lambda *args: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        run(squares, tmp_path / "out")
    monkeypatch.undo()
    run(squares, tmp_path / "out")
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "whole")


def test_nothing_is_left_behind_where_nothing_can_be_decoded(squares, tmp_path):
    """Masks would be those of the next data set that is prepared there."""
    squares.images.rename(tmp_path / "away")
    with pytest.raises(UserError, match=r"\(table 100, .*decoded 0\)\. Most were left out for: missing file \(100\)"):
        run(squares, tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())
    (tmp_path / "away").rename(squares.images)
    squares.annotations = None
    assert run(squares, tmp_path / "out").masks is None


def test_no_rows(squares, tmp_path):
    squares.rectangles.clear()
    with pytest.raises(UserError, match=r"view 0\)\. The tables have no rows\."):
        run(squares, tmp_path / "out")


def test_room_for_masks_too(squares, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(UserError, match=r"needs 525,056 more bytes for 100 images"):
        run(squares, tmp_path / "out")


def test_folder_of_an_older_format(squares, tmp_path):
    run(squares, tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    (tmp_path / "out/manifest.json").write_text(json.dumps({**manifest, "format_version": 3}))
    with pytest.raises(UserError, match=r"format is 3 there and 4 now.*or delete the folder"):
        run(squares, tmp_path / "out")
    with pytest.raises(UserError, match="format 3, but this medvlp reads 4"):
        Prepared.open(tmp_path / "out")


def test_boxes_are_cut_to_the_image():
    boxes = [
        Box("a", -5, 2, 4, 90, "left a"),
        Box("b", 30, 0, 40, 5),
        Box("c", 3, 3, 3, 9),
        Box("d", 0, float("nan"), 1, 1),
        Box("e", 1, 1, 2, 2),
    ]
    assert cut_boxes(boxes, 0, 0, 30, 20) == ([Box("a", 0, 2, 4, 20, "left a"), Box("e", 1, 1, 2, 2)], ["b", "c", "d"])


def test_boxes_outside_the_image(squares, tmp_path, skipped):
    """One of several is told; an image of which no box is left would count as one without objects."""
    squares.rectangles[1] = (-60, -60, -50, -50)
    squares.rectangles[2] = (-10, -10, 5, 5)
    read = squares.annotations.read

    class Two(Boxes):
        def read(self, text, height, width):
            annotation = read(text, height, width)
            extra = [Box("Other", 3.0, 3.0, 3.0, 9.0)] if "-10" in text else []
            return type(annotation)([*annotation.boxes, *extra], annotation.mask)

    squares.annotations = Two(True)
    prepared = run(squares, tmp_path / "out")
    assert skipped(tmp_path / "out") == [
        ("image1", "box without area in the image"),
        ("image2/Other", "box without area in the image"),
    ]
    assert "image1" not in prepared.index["image_id"].to_pylist()
    assert not prepared.images[1].any()
    (box,) = prepared.index["boxes"][1].as_py()
    left, top = Geometry.of(*np.asarray(Image.open(squares.images / "2.png")).shape, 24, "pad").corner
    assert (box["x1"], box["y1"]) == (left, top)


def test_annotations_that_cannot_be_read(squares, tmp_path, skipped):
    class Broken(Boxes):
        def read(self, text, height, width):
            raise LeftOutError("unreadable shape: no number")

    squares.annotations = Broken(True)
    prepared = run(squares, tmp_path / "out")
    assert prepared.manifest["counts"]["skipped"] == {"unreadable shape": 83}
    assert prepared.manifest["counts"]["decoded"] == 17
    assert set(skipped(tmp_path / "out")) == {
        (f"image{n}", "unreadable shape: no number") for n in range(100) if n % 3 or n % 2
    }


def test_images_are_the_same_with_and_without_masks(squares, tmp_path):
    prepared = run(squares, tmp_path / "out")
    for row in (0, 57):
        pixels, _ = read_image(str(squares.images / f"{row}.png"), 24, "pad")
        np.testing.assert_array_equal(prepared.images[row], pixels)


def test_a_crop_shows_and_annotates_the_middle(squares, tmp_path):
    prepared = run(squares, tmp_path / "out", "crop")
    rows = [row for row in prepared.index.to_pylist() if row["boxes"]]
    assert len(rows) > 40
    for row in rows:
        image, mask = prepared.images[row["row"]].astype(int), prepared.masks[row["row"]].astype(int)
        assert np.abs(image - mask).mean() < 4
        area = 0.0
        for box in row["boxes"]:
            x1, y1, x2, y2 = (box[key] for key in KEYS[1:])
            assert 0 <= x1 < x2 <= 24
            assert 0 <= y1 < y2 <= 24
            area += (x2 - x1) * (y2 - y1)
        assert mask.sum() / 255 == pytest.approx(area, rel=0.03)
