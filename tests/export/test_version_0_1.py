"""Checkpoints, exported folders and configs of version 0.1.0 (commit 2febf45) are read, and give what they gave.

`version_0_1/` holds what that version wrote after one step of imitate_asg: all of it but the weights, whose names and
shapes are in the JSON files, and which are drawn here. `outputs.json` is what that version made of them.
"""

import json
import shutil
import zlib
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import medvlp
from medvlp.__main__ import main
from medvlp.config.moved import CLASSES, MODULES
from medvlp.trainer.command import main as trainer_main
from tests.support.tiny import make_language_model, make_prepared

pytestmark = pytest.mark.slow

WRITTEN = Path(__file__).parent / "version_0_1"
FINDINGS = ["Cardiomegaly", "Pleural Effusion", "No Finding"]
TEXTS = ["left pleural effusion", "no cardiomegaly"]


def draw(name, shape, kind):
    """Return the tensor of a name: the same on every machine."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if kind != "float32":
        return torch.zeros(shape, dtype=getattr(torch, kind))
    if name.endswith(("encoder.mean", "encoder.std")):
        return torch.full(shape, 128.0 if name.endswith("mean") else 60.0)
    if name.endswith("running_var"):
        return values.abs() + 0.5
    if len(shape) < 2:
        return 0.1 * values + (1 if name.endswith("weight") else 0)
    return values / (prod(shape) / shape[0]) ** 0.5


def drawn(path):
    return {name: draw(name, shape, kind) for name, (shape, kind) in json.loads(path.read_text()).items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the checkpoint, its language model and its two exports."""
    folder = tmp_path_factory.mktemp("written")
    shutil.copytree(WRITTEN, folder, dirs_exist_ok=True)
    make_language_model(folder / "bert")
    stored = json.loads((folder / "checkpoint.json").read_text())
    state = {**drawn(folder / "state_dict.json"), "objectives.hierarchical.aggregation._extra_state": {"draws": 2}}
    torch.save({**stored, "state_dict": state}, folder / "last.ckpt")
    for name in ("safetensors", "huggingface"):
        save_file(drawn(folder / name / "tensors.json"), folder / name / "model.safetensors")
        save_file(drawn(folder / "text_tensors.json"), folder / name / "text_encoder" / "model.safetensors")
    return folder


def outputs(model):
    """Return what a model says of two images, as numbers."""
    images = torch.randint(0, 256, (2, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    said = {
        "scores": model.scores(images, FINDINGS),
        "tags": model.tags(images),
        "text": model.text_embedding(TEXTS),
        **{f"image/{name}": value for name, value in model.embed_images(images).items()},
        **{f"heat/{source}": model.heat_map(images[0], TEXTS[0], source) for source in model.heat_sources},
    }
    return {name: value.double().flatten().tolist() for name, value in said.items()}


@pytest.mark.parametrize("name", ["last.ckpt", "safetensors", "huggingface"])
def test_weights_give_what_they_gave(name, place, monkeypatch):
    monkeypatch.chdir(place)
    expected = json.loads((place / "outputs.json").read_text())[name]
    given = outputs(medvlp.load(name))
    assert given.keys() == expected.keys()
    for key, values in expected.items():
        assert given[key] == pytest.approx(values, rel=1e-5, abs=1e-6), key


def test_a_config_is_told_the_new_names(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    config = Path("config.yaml").read_text()
    for old, new in (
        ("medvlp.models.ImageEncoder", "medvlp.models.TimmEncoder"),
        ("medvlp.models.TextEncoder", "medvlp.models.HFTextEncoder"),
        ("medvlp.callbacks.Throughput", "medvlp.trainer.callbacks.Throughput"),
        ("medvlp.heatmaps.HeatMaps", "medvlp.trainer.heat_maps.HeatMaps"),
    ):
        Path("config.yaml").write_text(config)
        with pytest.raises(SystemExit) as end:
            main(["fit", "-c", "config.yaml", "--print_config"])
        (line,) = capsys.readouterr().err.splitlines()
        assert (end.value.code, line.endswith(f"Did you mean '{new}'?")) == (2, True), line
        config = config.replace(old, new)
    Path("config.yaml").write_text(config)
    with pytest.raises(SystemExit) as end:
        main(["fit", "-c", "config.yaml", "--print_config"])
    assert end.value.code == 0


def test_a_checkpoint_is_evaluated_by_the_trainer(place, monkeypatch):
    monkeypatch.chdir(place)
    make_prepared(Path("data"))
    config = Path("config.yaml").read_text()
    for old, new in {**MODULES, **CLASSES}.items():
        config = config.replace(old, new)
    Path("new.yaml").write_text(config)
    trainer = trainer_main(["validate", "-c", "new.yaml", "--ckpt_path=last.ckpt", "--trainer.limit_val_batches=1"])
    weights = trainer.lightning_module.state_dict()["objectives.region.patch_head.0.weight"]
    assert torch.equal(weights, drawn(place / "state_dict.json")["objectives.region.patch_head.0.weight"])
