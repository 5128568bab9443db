"""Foreign objects: where the annotations say, nowhere else, and half the images without."""

import csv
from collections import Counter

import cv2
import numpy as np
import pytest

from medvlp.phantom import study
from medvlp.phantom.images import image
from medvlp.phantom.layouts.object_cxr import annotation
from medvlp.phantom.objects import stamp


@pytest.fixture(scope="module")
def stamped():
    """Shot, image, pixels with objects, and the objects, of frontal images of many patients."""
    out = []
    for patient in study.patients(11, 60):
        one = study.sample(11, *patient)[0]
        if (shot := one.shots[0]).view != "LATERAL":
            drawn = image(one, shot, 256)
            out.append((shot, drawn, *stamp(shot, drawn)))
    return out


@pytest.mark.slow
def test_half_the_images_have_objects(stamped) -> None:
    counts = Counter(len(things) for *_, things in stamped)
    assert 0.3 < counts[0] / len(stamped) < 0.7
    assert max(counts) >= 4
    assert {thing.kind for *_, things in stamped for thing in things} == {"button", "coin", "clip", "pin"}


def test_objects_are_where_their_boxes_are(stamped) -> None:
    for shot, drawn, pixels, things in stamped:
        change = pixels.astype(int) - drawn.pixels
        assert change.min() >= 0
        for i, thing in enumerate(things):
            x1, y1, x2, y2 = thing.box
            here = change[y1:y2, x1:x2] > 0
            assert here.shape == (y2 - y1, x2 - x1)
            assert here[:2].any()
            assert here[-2:].any()
            assert here[:, :2].any()
            assert here[:, -2:].any()
            # It shows, and nothing of it lies on a collimator's blade.
            assert change[y1:y2, x1:x2].max() > 40
            h, w = pixels.shape
            left, top, right, bottom = shot.border
            assert x1 >= round(left * w)
            assert y1 >= round(top * h)
            assert x2 <= w - round(right * w)
            assert y2 <= h - round(bottom * h)
            assert (drawn.masks["right lung"] | drawn.masks["left lung"])[(y1 + y2) // 2, (x1 + x2) // 2]
            for other in things[:i]:
                a = other.box
                assert x2 <= a[0] or a[2] <= x1 or y2 <= a[1] or a[3] <= y1
            change[y1:y2, x1:x2] = 0
        assert not change.any()


def test_outlines_hold_the_objects(stamped) -> None:
    for _, drawn, pixels, things in stamped:
        for thing in things:
            x1, y1, x2, y2 = thing.box
            assert (thing.outline.min(axis=0) == (x1, y1)).all()
            assert (thing.outline.max(axis=0) == (x2, y2)).all()
            outline = thing.outline.astype(np.float32)
            rows, columns = np.nonzero(pixels[y1:y2, x1:x2].astype(int) - drawn.pixels[y1:y2, x1:x2] > 30)
            for x, y in zip(columns + x1 + 0.5, rows + y1 + 0.5, strict=True):
                assert cv2.pointPolygonTest(outline, (float(x), float(y)), True) > -1.5


def test_annotations(stamped) -> None:
    first = {}
    for *_, things in stamped:
        for thing in things:
            numbers = [int(v) for v in annotation(thing).split(" ")]
            first.setdefault(thing.kind, set()).add(numbers[0])
            if thing.kind == "pin":
                assert numbers[1:] == thing.outline.ravel().tolist()
                assert len(numbers) >= 7
            else:
                assert tuple(numbers[1:]) == thing.box
    assert first == {"button": {1}, "coin": {1}, "clip": {0}, "pin": {2}}


@pytest.mark.slow
def test_tables(layouts) -> None:
    root = layouts.root / "object-cxr"
    named = {}
    for name in ("train", "dev"):
        with (root / f"{name}.csv").open(newline="") as file:
            assert file.readline() == "image_name,annotation\n"
            rows = list(csv.reader(file))
        assert {r[0] for r in rows} == {p.name for p in (root / name).iterdir()}
        for image_name, text in rows:
            truth = layouts.images[image_name.removesuffix(".jpg")]
            assert (truth["split"] == "test") == (name == "dev")
            pixels = cv2.imread(str(root / name / image_name), cv2.IMREAD_UNCHANGED)
            assert pixels.shape == (truth["rows"], truth["columns"])
            named[truth["dicom_id"]] = text
    assert named.keys() == layouts.images.keys()
    for patient in study.patients(layouts.seed, layouts.studies):
        for one in study.sample(layouts.seed, *patient):
            for shot in one.shots:
                if shot.view != "LATERAL" and one.order == 1:
                    things = stamp(shot, image(one, shot, layouts.size))[1]
                    assert named[shot.dicom_id] == ";".join(map(annotation, things))
