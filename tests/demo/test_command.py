"""The whole of `medvlp demo`, with few studies."""

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from medvlp.__main__ import main
from medvlp.demo.steps import read_log
from medvlp.prepared import Prepared

pytestmark = pytest.mark.slow
PICTURES = ["curves.png", "matches.png", "heat_maps.png"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the demo has run, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("WANDB_MODE", "HF_HUB_OFFLINE"):
            patch.delenv(name, raising=False)
        main(["demo", "--studies", "60", "--epochs", "2", "--workers", "1"])
    return folder / "runs" / "demo"


def test_it_draws_and_prepares_the_studies(place):
    index = Prepared.open(place / "prepared").index
    assert len(set(index["study_id"].to_pylist())) == 60
    assert {"train", "validate", "test"} == set(index["split"].to_pylist())


def test_training_lowers_the_loss_and_writes_a_log(place):
    series = read_log(place / "metrics.csv")
    (first, before), (last, after) = series["val/loss"]
    assert first < last
    assert after < before


def test_results_are_those_of_the_checkpoint(place, tmp_path, monkeypatch):
    from medvlp.trainer.command import main as run

    results = json.loads((place / "results.json").read_text())
    assert all(set(row) == {"untrained", "trained"} for row in results.values())
    (checkpoint,) = place.rglob("last.ckpt")
    monkeypatch.chdir(place.parents[1])
    configs = ["imitate_asg", "overlays/small", "overlays/small_imitate_asg", str(place / "demo.yaml")]
    quiet = ["--trainer.logger=false", "--trainer.callbacks=[]"]
    chosen = [word for name in configs for word in ("-c", name)]
    metrics = run(["test", *chosen, *quiet, f"--ckpt_path={checkpoint}"]).callback_metrics
    assert {k: float(v) for k, v in metrics.items()} == pytest.approx(
        {key: row["trained"] for key, row in results.items()}, rel=1e-5, abs=1e-6, nan_ok=True
    )


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_show_something(place, name):
    with Image.open(place / name) as picture:
        assert min(picture.size) > 300
        colours = picture.convert("RGB").getcolors(2**24)
    assert len(colours) > 50


def test_wandb_is_offline_and_the_checkpoint_loads(place):
    assert list(place.glob("wandb/offline-run-*"))
    (checkpoint,) = place.rglob("last.ckpt")
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(v.isfinite().all() for v in weights.values() if isinstance(v, torch.Tensor) and v.is_floating_point())


def test_the_log_has_a_point_for_each_value(tmp_path):
    path = Path(tmp_path) / "metrics.csv"
    rows = [{"step": 0, "train/loss": 2.5, "lr": ""}, {"step": 0, "train/loss": "", "lr": 0.1}, {"step": 3, "lr": 0.2}]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "train/loss", "lr"])
        writer.writeheader()
        writer.writerows(rows)
    assert read_log(path) == {"train/loss": [(0, 2.5)], "lr": [(0, 0.1), (3, 0.2)]}
