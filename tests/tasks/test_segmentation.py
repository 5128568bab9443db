"""Segmentation from end to end on discs to draw: it learns, its figures, its predictions, its errors."""

import json
from functools import partial

import lightning as L
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.models.setr import SETRDecoder
from medvlp.models.unet import UNetDecoder
from medvlp.prepared import FORMAT_VERSION, IMAGES, INDEX, MANIFEST, MASKS, index_schema
from medvlp.run_lengths import decode
from medvlp.tasks import SegmentationTask
from tests.support.runs import ONE_SPLIT, QUIET, UNCHANGED

RESNET, CONVNEXT, VIT = "test_resnet.r160_in1k", "test_convnext.r160_in1k", "test_vit.r160_in1k"
SIDE, COUNT = 32, 18


def make_discs(root, count=COUNT, empty=lambda i: i % 4 == 3):
    """Write a prepared folder of noise with a bright disc in most images, all of them in all splits."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:SIDE, :SIDE]
    root.mkdir()
    masks, rows = np.zeros((count, SIDE, SIDE)), []
    for i in range(count):
        radius = rng.uniform(SIDE / 8, SIDE / 4)
        centre = rng.uniform(radius, SIDE - radius, 2)
        if not empty(i):
            # Pixels at the border are covered in part.
            masks[i] = np.clip(radius - np.hypot(x - centre[0], y - centre[1]) + 0.5, 0, 1)
        shared = {"row": i, "view": "PA", "height": SIDE, "width": SIDE, "boxes": []}
        names = dict.fromkeys(["image_id", "study_id", "subject_id", "path"], f"image{i}")
        rows.append({**shared, **names, "split": "train", "label/Pneumothorax": int(not empty(i))})
    np.save(root / IMAGES, (rng.integers(0, 80, masks.shape) + 150 * masks).astype(np.uint8))
    np.save(root / MASKS, (255 * masks).round().astype(np.uint8))
    pq.write_table(pa.Table.from_pylist(rows, index_schema(["Pneumothorax"])), root / INDEX)
    (root / MANIFEST).write_text(json.dumps({"format_version": FORMAT_VERSION, "sha256": {IMAGES: "of these discs"}}))
    return root


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    return make_discs(tmp_path_factory.mktemp("data") / "discs")


def make_data(root, **options):
    options = {"batch_size": 9, "targets": "mask", "views": 1, "augmentation": UNCHANGED, **options}
    return CXRDataModule(root, crop=SIDE, num_workers=0, **ONE_SPLIT, **options)


def make_task(architecture=RESNET, **options):
    L.seed_everything(0)
    options = {"optimizer": partial(torch.optim.AdamW, lr=2e-3), **options}
    return SegmentationTask(weights="random", architecture=architecture, image_size=SIDE, **options)


def make_trainer(folder, epochs=1, **options):
    return L.Trainer(max_epochs=epochs, default_root_dir=folder, **{**QUIET, **options})


def slow_dice(text, mask):
    """Dice of one image from its written prediction and its stored mask."""
    predicted, true = decode(text, SIDE, SIDE), mask / 255 > 0.5
    if not true.any():
        return float(not predicted.any())
    return 2 * (predicted & true).sum() / (predicted.sum() + true.sum())


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "epochs"), [(RESNET, 20), (VIT, 40)])
def test_it_learns_to_draw(tmp_path, discs, architecture, epochs):
    task, data = make_task(architecture), make_data(discs)
    trainer = make_trainer(tmp_path, epochs, limit_val_batches=0, enable_checkpointing=False)
    before = trainer.test(task, data, verbose=False)[0]
    trainer.fit(task, data)
    after = trainer.test(task, data, verbose=False)[0]
    assert before["test/dice_positive"] < 0.5
    assert after["test/dice_positive"] > 0.8
    # Four images are empty, and found to be.
    assert task.predictions.filter(pa.compute.equal(task.predictions["pixels_true"], 0))["dice"].to_pylist() == [1] * 4
    assert after["test/loss"] < before["test/loss"] / 3


@pytest.mark.parametrize(
    ("architecture", "decoder"), [(RESNET, UNetDecoder), (CONVNEXT, UNetDecoder), (VIT, SETRDecoder)]
)
def test_the_encoder_chooses_the_decoder(architecture, decoder):
    assert isinstance(make_task(architecture).decoder, decoder)


def run_test(tmp_path, discs, batch_size):
    task = make_task()
    # An untrained head would draw all or nothing.
    with torch.no_grad():
        task.decoder.head[0].bias.zero_()
    trainer = make_trainer(tmp_path, enable_checkpointing=False)
    return trainer.test(task, make_data(discs, batch_size=batch_size), verbose=False)[0], task


def test_figures_equal_a_slow_loop(tmp_path, discs):
    logged, task = run_test(tmp_path, discs, 4)
    rows, masks = task.predictions.to_pylist(), np.load(discs / MASKS)
    assert [row["image_id"] for row in rows] == [f"image{i}" for i in range(COUNT)]
    values = [slow_dice(row["mask"], mask) for row, mask in zip(rows, masks, strict=True)]
    assert 0.01 < np.mean(values) < 0.9
    assert [row["dice"] for row in rows] == pytest.approx(values)
    assert [row["pixels_true"] for row in rows] == (masks / 255 > 0.5).sum((1, 2)).tolist()
    assert [row["pixels_predicted"] for row in rows] == [decode(row["mask"], SIDE, SIDE).sum() for row in rows]
    batches = [values[i : i + 4] for i in range(0, COUNT, 4)]
    expected = {
        "dice": np.mean(values),
        "dice_legacy": np.mean([np.mean(batch) for batch in batches]),
        "dice_positive": np.mean([value for value, mask in zip(values, masks, strict=True) if (mask > 127).any()]),
    }
    assert {name: statistic.value for name, statistic in task.statistics.items()} == pytest.approx(expected)
    assert {name: logged[f"test/{name}"] for name in expected} == pytest.approx(expected)
    for name, statistic in task.statistics.items():
        assert statistic.replicates.shape == (1000,), name
        assert abs(statistic.replicates.mean() - statistic.value) < statistic.replicates.std()


def test_only_the_legacy_figure_depends_on_the_batch_size(tmp_path, discs):
    (_, small), (_, large) = run_test(tmp_path, discs, 4), run_test(tmp_path, discs, 18)
    for name in ("dice", "dice_positive"):
        assert small.statistics[name].value == pytest.approx(large.statistics[name].value)
    assert small.statistics["dice_legacy"].value != pytest.approx(large.statistics["dice"].value)
    assert large.statistics["dice_legacy"].value == pytest.approx(large.statistics["dice"].value)


def test_a_test_set_without_masks_has_no_positive_dice(tmp_path):
    logged, task = run_test(tmp_path, make_discs(tmp_path / "empty", 4, empty=lambda i: True), 4)
    assert "test/dice_positive" not in logged
    assert task.left_out == {"dice_positive": "no test image has a mask"}
    assert 0 <= logged["test/dice"] <= 1


def test_validation_logs_loss_and_dice(tmp_path, discs):
    task, data = make_task(), make_data(discs, batch_size=4)
    trainer = make_trainer(tmp_path, enable_checkpointing=False)
    validated = trainer.validate(task, data, verbose=False)[0]
    assert validated["val/loss"] == pytest.approx(validated["val/focal"] + validated["val/soft_dice"], rel=1e-5)
    trainer.test(task, data, verbose=False)
    assert validated["val/dice"] == pytest.approx(task.statistics["dice"].value)


def test_bf16_learns_and_its_loss_is_32_bit(tmp_path, discs):
    task, data = make_task(), make_data(discs)
    make_trainer(tmp_path, 2, precision="bf16-mixed", limit_val_batches=0, enable_checkpointing=False).fit(task, data)
    batch = next(iter(data.train_dataloader()))
    with torch.autocast("cpu", torch.bfloat16):
        assert task(batch, (SIDE, SIDE)).dtype == torch.bfloat16
        task.log = task.log_dict = lambda *args, **kwargs: None
        assert task.training_step(batch, 0).dtype == torch.float32


@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_means_frozen(tmp_path, discs, freeze):
    task, data = make_task(freeze=freeze), make_data(discs)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    make_trainer(tmp_path, 1, limit_val_batches=0, enable_checkpointing=False).fit(task, data)
    same = {name for name, value in task.state_dict().items() if torch.equal(value, before[name])}
    assert all(name in same for name in before if name.startswith("encoder.")) == freeze
    assert not any(name in same for name in before if name.startswith("decoder.") and name.endswith("weight"))


def test_cached_features_give_the_same_figures(tmp_path):
    root = make_discs(tmp_path / "discs", 8)
    figures = []
    for cache in (False, True):
        task, data = make_task(cache_features=cache), make_data(root, batch_size=4)
        trainer = make_trainer(tmp_path, 1, logger=False, enable_checkpointing=False)
        found = trainer.test(task, data, verbose=False)[0]
        # Not Dice: rounding carries pixels over its threshold.
        figures.append([found[f"test/{name}"] for name in ("loss", "focal", "soft_dice")])
    assert (root / "features").is_dir()
    # Features are kept in 16 bits.
    assert figures[1] == pytest.approx(figures[0], rel=1e-3)


@pytest.mark.slow
def test_a_checkpoint_draws_the_same(tmp_path, discs):
    # As the command line leaves it: checkpoints load weights only, and no function.
    make = partial(make_task, optimizer=lambda p: torch.optim.AdamW(p, lr=2e-3))
    task, data = make(), make_data(discs)
    trainer = make_trainer(tmp_path, 2, limit_val_batches=0)
    trainer.fit(task, data)
    first = trainer.test(task, data, verbose=False)
    trainer.save_checkpoint(tmp_path / "head.ckpt")
    assert make_trainer(tmp_path).test(make(), data, ckpt_path=tmp_path / "head.ckpt", verbose=False) == first


def test_masks_are_asked_for(tmp_path, discs):
    with pytest.raises(UserError, match=r"--data\.targets mask"):
        make_trainer(tmp_path, enable_checkpointing=False).fit(make_task(), make_data(discs, targets=None))
