"""Each method of the field trains an epoch under overlays/small, and is measured by every kind of test."""

import json
import math
import os
from pathlib import Path

import pytest
import wandb

from medvlp.__main__ import main
from tests.support.runs import clear_environment
from tests.support.tiny import make_language_model, make_prepared, options
from tests.test_experiments import TOP

pytestmark = pytest.mark.slow

METHODS = [name for name in TOP if not name.startswith(("imitate", "asg"))]
# The tiny language model has two layers.
TINY = {"convirt": ["--model.text_encoder.init_args.trainable_layers=1"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with tiny data and a tiny language model."""
    folder = tmp_path_factory.mktemp("place")
    make_prepared(folder / "data")
    make_language_model(folder / "bert")
    return folder


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    clear_environment(monkeypatch)
    yield
    wandb.finish()


@pytest.fixture(scope="module", params=METHODS)
def trained(place, request):
    """A checkpoint of an epoch of a method."""
    os.environ["WANDB_MODE"] = "offline"
    main(
        [
            "fit",
            *("-c", request.param, "-c", "overlays/small"),
            *options(place / "data", place / "bert"),
            "--data.resize=null",
            "--trainer.max_epochs=1",
            "--trainer.logger=false",
            f"--trainer.default_root_dir={place / request.param}",
            *TINY.get(request.param, []),
        ]
    )
    (path,) = (place / request.param).rglob("last.ckpt")
    return path


@pytest.mark.parametrize("name", ["zeroshot/nih", "retrieval/open_i", "grounding/nih"])
def test_a_method_is_measured(place, name, trained):
    own = ["--model.labels=null", "--model.protocol=medvlp"] if name.startswith("zeroshot") else []
    main(
        [
            *("test", "-c", name, *options(place / "data")),
            f"--model.weights={trained}",
            "--trainer.logger=false",
            "--data.split=null",
            *own,
        ]
    )
    metrics = json.loads(Path("runs/results.json").read_text())["metrics"]
    assert metrics
    assert not any(isinstance(value, float) and math.isnan(value) for value in metrics.values()), metrics
