"""Detection from end to end on discs to find: both detectors learn, their figures, their predictions, their errors."""

import json
from functools import partial

import lightning as L
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.metrics.average_precision import average_precision, legacy_average_precision
from medvlp.prepared import FORMAT_VERSION, IMAGES, INDEX, MANIFEST, index_schema
from medvlp.tasks import DetectionTask, TorchvisionDetectionTask
from tests.support.runs import ONE_SPLIT, QUIET, UNCHANGED

pytestmark = pytest.mark.slow

RESNET, VIT = "test_resnet.r160_in1k", "test_vit.r160_in1k"
SIDE, COUNT = 64, 8
TASKS = [DetectionTask, TorchvisionDetectionTask]


def make_discs(root, count=COUNT, empty=lambda i: i % 4 == 3, side=SIDE):
    """Write a prepared folder of noise with a bright disc in most images, all of them in all splits."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:side, :side] + 0.5
    root.mkdir()
    images, rows = rng.integers(0, 80, (count, side, side)), []
    for i in range(count):
        radius = rng.uniform(side / 8, side / 4)
        cx, cy = rng.uniform(radius, side - radius, 2)
        corners = {"x1": cx - radius, "y1": cy - radius, "x2": cx + radius, "y2": cy + radius}
        if not empty(i):
            images[i] += 150 * (np.hypot(x - cx, y - cy) < radius)
        names = dict.fromkeys(["image_id", "study_id", "subject_id", "path"], f"image{i}")
        shared = {"row": i, "view": "PA", "height": side, "width": side, "split": "train"}
        boxes = [] if empty(i) else [{"name": "disc", **corners}]
        rows.append({**shared, **names, "label/Disc": int(not empty(i)), "boxes": boxes})
    np.save(root / IMAGES, images.astype(np.uint8))
    pq.write_table(pa.Table.from_pylist(rows, index_schema(["Disc"])), root / INDEX)
    (root / MANIFEST).write_text(json.dumps({"format_version": FORMAT_VERSION, "sha256": {IMAGES: "of these discs"}}))
    return root


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    return make_discs(tmp_path_factory.mktemp("data") / "discs")


def make_data(root, **options):
    options = {"batch_size": 8, "crop": SIDE, "targets": "box", "views": 1, "augmentation": UNCHANGED, **options}
    return CXRDataModule(root, num_workers=0, **ONE_SPLIT, **options)


def make_task(task=DetectionTask, architecture=RESNET, lr=1e-3, **options):
    L.seed_everything(0)
    # A step of the real heads takes a second.
    options |= {"channels": (32, 64, 128)} if task is DetectionTask else {"channels": 64}
    options = {"optimizer": partial(torch.optim.AdamW, lr=lr), **options}
    return task(weights="random", architecture=architecture, image_size=SIDE, **options)


def make_trainer(folder, epochs=1, **options):
    options = {**QUIET, "enable_checkpointing": False, **options}
    return L.Trainer(max_epochs=epochs, default_root_dir=folder, **options)


def rows_as_arrays(task):
    """Boxes, scores and truth of each image, as they are written."""
    rows = task.predictions.to_pylist()
    corners = ("x1", "y1", "x2", "y2")
    boxes = [np.array([[b[k] for k in corners] for b in row["boxes"]]).reshape(-1, 4) for row in rows]
    scores = [np.array([b["score"] for b in row["boxes"]]) for row in rows]
    truth = [np.array([[b[k] for k in corners] for b in row["truth"]]).reshape(-1, 4) for row in rows]
    return boxes, scores, truth


@pytest.mark.parametrize(
    ("task", "architecture", "lr", "epochs"),
    [
        (DetectionTask, RESNET, 2e-3, 100),
        (DetectionTask, VIT, 3e-3, 60),
        (TorchvisionDetectionTask, RESNET, 1e-3, 30),
        (TorchvisionDetectionTask, VIT, 1e-3, 20),
    ],
)
def test_it_learns_to_find(tmp_path, discs, task, architecture, lr, epochs):
    task, data = make_task(task, architecture, lr), make_data(discs)
    trainer = make_trainer(tmp_path, epochs, limit_val_batches=0)
    before = trainer.test(task, data, verbose=False)[0]
    trainer.fit(task, data)
    after = trainer.test(task, data, verbose=False)[0]
    assert before["test/map"] < 0.1
    assert after["test/map"] > 0.8
    assert after["test/map_legacy"] > 0.7
    assert after["test/loss"] < before["test/loss"] / 2
    validated = make_trainer(tmp_path).validate(task, data, verbose=False)[0]
    assert validated["val/map"] == pytest.approx(after["test/map"])
    assert validated["val/loss"] == pytest.approx(after["test/loss"])


@pytest.mark.parametrize("kind", TASKS)
def test_figures_are_those_of_the_written_predictions(tmp_path, discs, kind):
    results = []
    for batch_size in (3, 8):
        task, data = make_task(kind), make_data(discs, batch_size=batch_size)
        logged = make_trainer(tmp_path).test(task, data, verbose=False)[0]
        boxes, scores, truth = rows_as_arrays(task)
        assert task.predictions["image_id"].to_pylist() == [f"image{i}" for i in range(COUNT)]
        assert [len(true) for true in truth] == [1, 1, 1, 0] * (COUNT // 4)
        assert all(0 < len(box) <= 100 for box in boxes)
        assert all((np.diff(score) <= 0).all() and score[-1] >= 0.01 for score in scores)
        ones = np.ones(COUNT)
        expected = {
            "map": average_precision(boxes, scores, truth)(ones),
            "map_legacy": legacy_average_precision(boxes, scores, truth)(ones),
        }
        assert {name: statistic.value for name, statistic in task.statistics.items()} == pytest.approx(expected)
        assert all(statistic.replicates.shape == (1000,) for statistic in task.statistics.values())
        assert {name: logged[f"test/{name}"] for name in expected} == pytest.approx(expected)
        results.append(expected | {"loss": logged["test/loss"]} if kind is DetectionTask else expected)
    assert results[0] == pytest.approx(results[1], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("kind", TASKS)
def test_cached_features_give_the_same_figures(tmp_path, discs, kind):
    results = []
    for cached in (False, True):
        task, data = make_task(kind, cache_features=cached), make_data(discs)
        trainer = make_trainer(tmp_path, 2)
        trainer.fit(task, data)
        results.append(trainer.validate(task, data, verbose=False)[0])
    assert results[0] == pytest.approx(results[1], rel=0.05, abs=0.02)  # they are kept in half precision


@pytest.mark.parametrize("kind", TASKS)
def test_an_unfrozen_encoder_learns(tmp_path, discs, kind):
    task = make_task(kind, freeze=False)
    before = [parameter.clone() for parameter in task.encoder.parameters()]
    make_trainer(tmp_path, 1, limit_val_batches=0).fit(task, make_data(discs))
    assert any((a != b).any() for a, b in zip(before, task.encoder.parameters(), strict=True))


@pytest.mark.parametrize("kind", TASKS)
def test_boxes_without_area_change_nothing(tmp_path, discs, kind):
    flat = torch.tensor([[3.0, 3, 3, 9], [0, 5, 8, 5], [SIDE, SIDE, SIDE, SIDE]])
    results = []
    for boxes in (torch.zeros(0, 4), flat):
        task, data = make_task(kind), make_data(discs)
        data.on_after_batch_transfer = lambda batch, _, boxes=boxes: (
            batch | {"box": [torch.cat([boxes, box]) for box in batch["box"]]}
        )
        trainer = make_trainer(tmp_path, 2)
        trainer.fit(task, data)
        results.append(trainer.validate(task, data, verbose=False)[0])
    assert results[0] == pytest.approx(results[1], abs=1e-6)


@pytest.mark.parametrize("kind", TASKS)
def test_crops_cut_boxes(tmp_path, discs, kind):
    trainer = make_trainer(tmp_path, 2)
    trainer.fit(make_task(kind), make_data(discs, crop=SIDE // 2, augmentation=None))
    assert all(torch.as_tensor(value).isfinite() for value in trainer.callback_metrics.values())


@pytest.mark.parametrize("kind", TASKS)
def test_images_without_objects(tmp_path, kind):
    """A batch without objects has a loss, a split without has no average precision."""
    task, data = make_task(kind), make_data(make_discs(tmp_path / "empty", 8, empty=lambda i: True))
    trainer = make_trainer(tmp_path)
    with pytest.warns(UserWarning, match="no validation image has an object"):
        trainer.fit(task, data)
    assert trainer.callback_metrics["train/loss"].isfinite()
    assert trainer.callback_metrics["val/loss"].isfinite()
    assert "test/map" not in trainer.test(task, data, verbose=False)[0]
    assert task.left_out == dict.fromkeys(("map", "map_legacy"), "no test image has an object")


def test_boxes_must_be_asked_for(tmp_path, discs):
    with pytest.raises(UserError, match=r"pass --data\.targets box"):
        make_trainer(tmp_path).fit(make_task(), make_data(discs, targets=None))


def test_the_parts_of_torchvision_s_detector_make_the_whole(tmp_path, discs):
    """Loss and detections equal those of its own `forward`, given the same maps and no normalisation."""
    task, data = make_task(TorchvisionDetectionTask), make_data(discs)
    trainer = make_trainer(tmp_path)
    trainer.test(task, data, verbose=False)
    batch = next(iter(data.test_dataloader()))
    images = list(batch["image"].float())
    with torch.no_grad():
        outputs = task(batch)
        maps = task.detector.backbone(task.features(batch))
        task.detector.backbone.forward = lambda _: dict(enumerate(maps))
        task.detector.transform = Untouched()
        found = task.detector.eval()(images)
        targets = [{"boxes": box, "labels": torch.zeros(len(box), dtype=torch.long)} for box in batch["box"]]
        losses = task.detector.train()(images, targets)
    torch.testing.assert_close(task.loss(outputs, batch["box"]), losses)
    for (boxes, scores), image in zip(task.find(outputs), found, strict=True):
        torch.testing.assert_close(boxes, image["boxes"])
        torch.testing.assert_close(scores, image["scores"])


class Untouched(torch.nn.Module):
    """In the place of torchvision's transform."""

    def forward(self, images, targets=None):
        return ImageList(torch.stack(images), [tuple(image.shape[-2:]) for image in images]), targets

    def postprocess(self, result, *_):
        return result
