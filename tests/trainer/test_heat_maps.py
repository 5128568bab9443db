"""Heat maps: where their colours lie, and that none of a patient leaves the machine."""

import json
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
import wandb
from lightning.pytorch.loggers import WandbLogger

from medvlp.data import CXRDataModule
from medvlp.models import HFTextEncoder, TimmEncoder
from medvlp.objectives import HeatMap, HierarchicalAlignment, RegionAlignment, TagDecoding
from medvlp.prepared import MANIFEST
from medvlp.tasks import PretrainingTask
from medvlp.trainer.heat_maps import GREEN, HeatMaps, overlay
from tests.support.tiny import make_language_model, make_prepared

pytestmark = pytest.mark.slow


def test_colour_is_where_the_heat_is():
    heat = torch.zeros(4, 4)
    heat[1, 3] = 5
    picture = overlay(torch.full((32, 32), 100, dtype=torch.uint8), HeatMap(0, "", heat, torch.zeros(0, 4)), 64)
    assert picture.shape == (64, 64, 3)
    coloured = np.ptp(picture.astype(int), axis=2) > 40
    assert coloured[24, 56]
    assert not coloured[40:].any()
    assert not coloured[:, :32].any()
    assert (picture[60, 4] == 100).all()


def test_boxes_are_drawn_in_place():
    image = torch.zeros(32, 32, dtype=torch.uint8)
    picture = overlay(image, HeatMap(0, "", torch.zeros(2, 2), torch.tensor([[8.0, 4.0, 24.0, 12.0]])), 64)
    rows, columns = np.nonzero((picture == GREEN).all(2))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (16, 8, 48, 24)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    language = make_language_model(tmp_path / "bert")
    logged = {}

    def fit(synthetic, regions=True, objectives=None, **options):
        root = make_prepared(tmp_path / "data")
        manifest = json.loads((root / MANIFEST).read_text())
        manifest["options"]["synthetic"] = synthetic
        (root / MANIFEST).write_text(json.dumps(manifest))
        task = PretrainingTask(
            TimmEncoder("test_resnet.r160_in1k", pretrained=False),
            HFTextEncoder(str(language)),
            objectives or {"region": partial(RegionAlignment, dim=8), "tag": partial(TagDecoding, dim=16)},
        )
        logger = WandbLogger(save_dir=tmp_path, offline=True)
        monkeypatch.setattr(logger, "log_image", lambda key, images, caption: logged.update({key: (images, caption)}))
        trainer = L.Trainer(
            max_epochs=1,
            limit_train_batches=1,
            accelerator="cpu",
            logger=logger,
            callbacks=[HeatMaps(studies=3, **options)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(task, CXRDataModule(root, batch_size=8, crop=32, num_workers=0, regions=regions))
        assert task.training
        return logged

    yield fit
    wandb.finish()


def test_a_phantom_is_drawn(run):
    logged = run(synthetic=True)
    assert set(logged) == {"val/region/heat_maps", "val/tag/heat_maps"}
    images, captions = logged["val/region/heat_maps"]
    assert len(images) == len(captions)
    assert any("effusion" in caption for caption in captions)


def test_patients_are_not(run):
    assert run(synthetic=False) == {}


def test_patients_are_when_the_option_says_so(run):
    assert run(synthetic=False, log_patient_data=True)


def test_without_regions_tags_are_drawn(run):
    assert set(run(synthetic=True, regions=False, objectives={"tag": partial(TagDecoding, dim=16)})) == {
        "val/tag/heat_maps"
    }


def test_objectives_without_heat_maps_draw_none(run):
    objectives = {"hierarchical": partial(HierarchicalAlignment, dim=8, grid=4)}
    assert run(synthetic=True, regions=False, objectives=objectives) == {}
