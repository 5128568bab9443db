"""What annotators drew stays on the image: masks and boxes through every transform, and as batches."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from medvlp.data import Augmentation, CXRDataModule
from medvlp.data.objects import ObjectBoxes
from medvlp.data.transforms import EvaluationTransform, TrainTransform
from medvlp.errors import UserError
from medvlp.prepared import BOX_TYPE, INDEX, MASKS
from tests.support.tiny import LABELS, make_prepared

SIDE, CROP, BRIGHT = 96, 72, 240
BOX = np.array([[30, 24, 58, 60]], np.float32)
PLAIN = {"horizontal_flip": 0, "vertical_flip": 0, "rotation": 0, "perspective": 0, "autocontrast": 0}
EACH = {
    "crop": {},
    "flips": {"horizontal_flip": 0.5, "vertical_flip": 0.5},
    "rotation": {"rotation": 30},
    "perspective": {"perspective": 1, "distortion": 0.3},
    "affine": {"affine": 1},
    "all": {"horizontal_flip": 0.5, "vertical_flip": 0.5, "rotation": 20, "perspective": 0.5, "affine": 0.5},
}
UPRIGHT = ("crop", "flips")


def painted():
    """An image with a marker, and the mask of the marker."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    x1, y1, x2, y2 = BOX[0].astype(int)
    image[y1:y2, x1:x2] = BRIGHT
    return image, np.where(image > 0, 255, 0).astype(np.uint8)


def around(mask):
    rows, columns = np.nonzero(mask >= 200)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize("resize", [None, 80, 120])
@pytest.mark.parametrize("name", EACH)
def test_a_marker_its_mask_and_its_box_stay_together(name, resize):
    image, mask = painted()
    transform = TrainTransform(CROP, Augmentation(**{**PLAIN, **EACH[name]}), resize)
    hidden = 0
    for seed in range(25):
        view = transform(image, BOX, seed, mask)
        assert view.mask.dtype == np.uint8
        # Both are averaged and interpolated alike.
        np.testing.assert_allclose(view.mask / 255, view.image / BRIGHT, atol=0.02)
        if not view.visible[0]:
            # Upright boxes around upright boxes grow, and of a large one three quarters may be outside.
            hidden += 1
            continue
        seen, (box,) = around(view.mask), view.box
        if name in UPRIGHT:
            np.testing.assert_allclose(box, seen, atol=1.1)
        else:
            assert (box[:2] <= seen[:2] + 1.5).all()
            assert (box[2:] >= seen[2:] - 1.5).all()
    assert hidden <= (2 if name == "all" else 0)


@pytest.mark.parametrize("resize", [None, 80])
def test_evaluation_cuts_image_mask_and_box_alike(resize):
    image, mask = painted()
    view = EvaluationTransform(CROP, resize)(image, BOX, 0, mask)
    np.testing.assert_allclose(view.mask / 255, view.image / BRIGHT, atol=0.02)
    np.testing.assert_allclose(view.box[0], around(view.mask), atol=1.1)


def test_a_mask_changes_nothing_about_the_image():
    image, mask = painted()
    transform = TrainTransform(CROP, Augmentation(affine=0.5, jitter=0.5, blur=0.5))
    for seed in range(10):
        alone = transform(image, np.zeros((0, 4), np.float32), seed)
        assert alone.mask is None
        np.testing.assert_array_equal(transform(image, BOX, seed, mask).image, alone.image)


def test_grey_values_of_the_mask_are_left_alone():
    image, mask = painted()
    transform = TrainTransform(SIDE, Augmentation(**PLAIN, jitter=1, blur=1))
    views = [transform(image, BOX, seed, mask) for seed in range(5)]
    for view in views:
        np.testing.assert_array_equal(view.mask, mask)
        np.testing.assert_array_equal(view.box, BOX)
        assert (view.image != image).any()
    assert len({view.image.tobytes() for view in views}) == 5


def test_affine_scales_and_turns_within_its_limits():
    image, mask = painted()
    areas, whole = [], (mask > 127).sum()
    for seed in range(60):
        transform = TrainTransform(SIDE, Augmentation(**PLAIN, affine=1, affine_rotation=0))
        seen = transform(image, BOX, seed, mask).mask > 127
        x1, y1, x2, y2 = around(255 * seen)
        # Both sides alike, as ShiftScaleRotate does.
        assert abs((x2 - x1) / 28 - (y2 - y1) / 36) < 0.09
        areas.append(seen.sum() / whole)
    assert 0.78 < min(areas) < 0.9
    assert 1.1 < max(areas) < 1.24


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("data") / "prepared", 48, 40)


def module(root, **options):
    return CXRDataModule(root, **{"batch_size": 8, "crop": 32, "num_workers": 0, "views": 1, **options})


def test_batches_hold_the_masks_of_their_images(root):
    stored = np.load(root / MASKS)
    data = module(root, targets="mask", batch_size=100)
    (batch,) = data.test_dataloader()
    assert (batch["mask"].dtype, tuple(batch["mask"].shape)) == (torch.uint8, (12, 1, 32, 32))
    assert batch["box"] is None
    np.testing.assert_array_equal(batch["mask"][:, 0], stored[data.dataset("test").rows, 4:-4, 4:-4])
    gentle = Augmentation(perspective=0, autocontrast=0, rotation=15)
    for batch in module(root, targets="mask", views=2, augmentation=gentle).train_dataloader():
        # The annotated corner is brighter by 150 than its surroundings, of at most 59; the heart by 100.
        bright = batch["image"] > 150
        sure = (batch["mask"] == 255) | (batch["mask"] == 0)
        heart = batch["label"][:, 0] != 1
        assert ((batch["mask"] > 127) == bright)[sure & heart[:, None, None, None]].float().mean() > 0.98


def test_batches_hold_the_boxes_of_their_first_view(root):
    gentle = Augmentation(**{**PLAIN, "horizontal_flip": 0.5})
    data = module(root, targets="box", views=2, augmentation=gentle)
    table = pq.read_table(root / INDEX).to_pylist()
    names = data.dataset("train").image_id.to_pylist()
    rows = {row["image_id"]: row for row in table}
    for batch in data.train_dataloader():
        assert batch["mask"] is None
        assert len(batch["box"]) == 8
        for k, i in enumerate(batch["index"].tolist()):
            boxes, row = batch["box"][k], rows[names[i]]
            assert len(boxes) == len(row["boxes"])
            for x1, y1, x2, y2 in boxes.round().int().tolist():
                inside = torch.zeros(32, 32, dtype=torch.bool)
                inside[y1:y2, x1:x2] = True
                view = batch["image"][k, 0].float()
                assert view[inside].mean() > 130
                # The heart may be there as well.
                assert view[~inside].mean() < 100


def test_images_that_nobody_looked_at_are_left_out(root):
    data = module(root, targets="box", drop_last=False)
    whole, annotated = module(root).dataset("train"), data.dataset("train")
    assert whole.image_id.to_pylist()[1:] == annotated.image_id.to_pylist()
    assert annotated.unannotated == 1
    assert sum(len(batch["index"]) for batch in data.train_dataloader()) == 23


def test_regions_and_boxes_do_not_mix(root):
    both, alone = module(root, targets="box", regions=True), module(root, regions=True)
    (batch,), (other,) = (list(data.test_dataloader())[:1] for data in (both, alone))
    torch.testing.assert_close(batch["region"].box, other["region"].box)
    assert batch["box"][0].shape[1] == 4


def test_objects_keep_their_names_and_phrases():
    place = {"x1": 1, "y1": 2, "x2": 3, "y2": 4}
    empty = {"x1": 3, "y1": 2, "x2": 3, "y2": 4}
    images = [
        [{"name": "a", **place, "phrase": "left a"}, {"name": "b", **empty}, {"name": "c", **place}],
        [],
        [{"name": "d", **empty, "phrase": "x"}],
        [{"name": "e", **place, "phrase": "two"}],
    ]
    objects = ObjectBoxes(pa.chunked_array([pa.array(part, pa.list_(BOX_TYPE)) for part in (images[:1], images[1:])]))
    named = [[(name, phrase, box.tolist()) for name, phrase, box in objects.named(i)] for i in range(4)]
    assert named == [[("a", "left a", [1, 2, 3, 4]), ("c", None, [1, 2, 3, 4])], [], [], [("e", "two", [1, 2, 3, 4])]]
    assert [objects.of(i).tolist() for i in range(4)] == [[box for *_, box in image] for image in named]


@pytest.mark.parametrize("targets", ["mask", "box"])
def test_targets_that_are_not_there_are_refused(tmp_path, targets):
    bare = make_prepared(tmp_path / "bare")
    (bare / MASKS).unlink()
    table = pq.read_table(bare / INDEX)
    place = table.schema.get_field_index("boxes")
    nothing = pa.nulls(len(table), pa.list_(BOX_TYPE))
    pq.write_table(table.set_column(place, "boxes", nothing), bare / INDEX)
    with pytest.raises(UserError, match=f"targets='{targets}'.*'{bare}' have none"):
        module(bare, targets=targets).train_dataloader()


def test_a_folder_of_images_alone(tmp_path):
    bare = make_prepared(tmp_path / "bare")
    (bare / "triplets.parquet").unlink()
    table = pq.read_table(bare / INDEX)
    for name in ("findings", "impression"):
        table = table.set_column(table.schema.get_field_index(name), name, pa.nulls(len(table), pa.string()))
    pq.write_table(table, bare / INDEX)
    batch = next(iter(module(bare).train_dataloader()))
    assert set(batch["findings"]) == {""}
    assert (batch["existence"] == -2).all()
    assert batch["label"].shape == (8, len(LABELS))
    with pytest.raises(UserError, match="no reports"):
        module(bare, regions=True).train_dataloader()
