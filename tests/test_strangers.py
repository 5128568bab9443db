"""Encoders and an objective of a stranger's package: trained, loaded, tested, exported, and only if trusted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
import torch
import yaml
from PIL import Image

import medvlp
from medvlp.__main__ import main
from medvlp.errors import UserError
from medvlp.models.pretrained import digest, load_image_encoder
from medvlp.tasks.checkpoints import load_pretraining
from tests.support.checkpoints import save, settings
from tests.support.mylab import make_package
from tests.support.runs import clear_environment
from tests.support.tiny import make_language_model, make_prepared, options

pytestmark = pytest.mark.slow

TRUST = "--trust=mylab"
OBJECTIVES = {
    "own": {"class_path": "mylab.objective.SigmoidAlignment", "init_args": {"dim": 8}},
    "global": {"class_path": "GlobalAlignment", "init_args": {"dim": 8, "hidden": 16}},
    "region": {"class_path": "RegionAlignment", "init_args": {"dim": 8, "hidden": 16}},
}
CONFIG = {
    "model": {
        "class_path": "PretrainingTask",
        "init_args": {
            "image_encoder": {"class_path": "mylab.encoder.SmallNet", "init_args": {"channels": 3}},
            "text_encoder": {"class_path": "mylab.reader.WordSum"},
            "objectives": OBJECTIVES,
        },
    }
}
UNTRUSTED = "is not of medvlp. If you trust it: --trust mylab (in Python trust=['mylab'])."
ABSENT = "No module named mylab: is it installed, or on PYTHONPATH?"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, the package, and a checkpoint of its classes; the environment is put back."""
    folder = tmp_path_factory.mktemp("place")
    make_prepared(folder / "data" / "rsna")
    make_package(folder)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90), dtype=np.uint8)).save(folder / "image.png")
    (folder / "own.yaml").write_text(yaml.safe_dump(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        clear_environment(patch, "WANDB_SILENT")
        run = [*options(folder / "data" / "rsna"), "--trainer.logger=false", "--data.regions=true"]
        main(["fit", "-c", "own.yaml", *run, "--trainer.max_epochs=1"])
        next(folder.rglob("*.ckpt")).rename(folder / "last.ckpt")
        yield folder


def run(place, *words, verb="test", **chosen):
    """Run a verb of the Trainer on the tiny data."""
    given = [f"--{name.replace('__', '.')}={value}" for name, value in chosen.items()]
    shared = [*options(place / "data" / "rsna"), "--trainer.logger=false"]
    main([verb, *words, *shared, *given])


def refused(capsys, command, *words, **chosen):
    with pytest.raises(SystemExit) as end:
        command(*words, **chosen)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert end.value.code == 2
    return line


def absent(monkeypatch):
    """Make the package one that cannot be imported."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not Path(path, "mylab").is_dir()])
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        monkeypatch.delitem(sys.modules, name)


def test_a_model_of_strangers_is_loaded_if_trusted(place):
    model = medvlp.load("last.ckpt", trust=["mylab"])
    assert [type(model.task.image_encoder).__name__, type(model.task.text_encoder).__name__] == ["SmallNet", "WordSum"]
    assert model.heat_sources == ["region", "global"]
    stored = torch.load("last.ckpt", weights_only=True)["state_dict"]
    assert stored.keys() == model.task.state_dict().keys()
    assert all(torch.equal(stored[key], value) for key, value in model.task.state_dict().items())
    images = model.read_many(["image.png"])
    assert model.scores(images, ["Cardiomegaly"]).isfinite().all()
    # Its pooled feature is an average, so that locations need no method of their own.
    for source in model.heat_sources:
        assert model.heat_map(images[0], "left pleural effusion", source).shape == (1, 1)
    with pytest.raises(UserError) as error:
        medvlp.load("last.ckpt")
    assert str(error.value).endswith(UNTRUSTED)


def test_what_an_encoder_does_not_say_is_read_from_its_features(place):
    encoder = load_image_encoder("last.ckpt", trust=["mylab"])
    assert (encoder.width, encoder.patch_width) == (48, 48)
    assert encoder.widths == encoder.map_widths == [3, 6, 12, 24, 48]
    assert encoder.map_strides == [2, 4, 8, 16, 32]
    assert encoder.architecture == "mylab.encoder.SmallNet"
    assert digest(encoder) == digest(load_pretraining("last.ckpt", ["mylab"]).image_encoder)
    with pytest.raises(UserError, match=r"--trust mylab"):
        load_image_encoder("last.ckpt")


PROBES = {
    "classification/rsna": {"model__labels": "[Cardiomegaly]"},
    "segmentation/rsna": {"model__channels": "[16,8,8,8,8]", "data__resize": "null"},
    "detection/rsna": {"model__channels": "[16,16,16]", "data__resize": "null"},
}


@pytest.mark.parametrize("name", PROBES)
def test_its_encoder_is_probed(place, capsys, tmp_path, name):
    chosen = {**PROBES[name], "model__weights": place / "last.ckpt", "trainer__default_root_dir": tmp_path}
    assert refused(capsys, run, place, "-c", name, verb="fit", **chosen).endswith(UNTRUSTED)
    run(place, "-c", name, TRUST, verb="fit", trainer__max_epochs=1, **chosen)
    checkpoint = next(tmp_path.rglob("last.ckpt"))
    assert "trust" not in torch.load(checkpoint, weights_only=True)["hyper_parameters"]
    capsys.readouterr()
    for trust in (TRUST, "--trust=other, mylab"):
        run(place, "-c", name, trust, ckpt_path=checkpoint, **chosen)
    assert "test/" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("zeroshot/rsna", {"model__labels": "[Cardiomegaly]"}),
        ("grounding/rsna", {"model__source": "region"}),
        ("grounding/rsna", {"model__source": "global"}),
        ("retrieval/open_i", {}),
    ],
)
def test_its_model_is_tested_as_it_is(place, capsys, name, chosen):
    weights = {"model__weights": place / "last.ckpt"}
    assert refused(capsys, run, place, "-c", name, **chosen, **weights).endswith(UNTRUSTED)
    run(place, "-c", name, TRUST, **chosen, **weights)
    assert "test/" in capsys.readouterr().out


def test_a_checkpoint_that_the_config_does_not_name(place, capsys, tmp_path):
    make_language_model(tmp_path / "bert")
    small = ["-c", "imitate", *options(place / "data" / "rsna", tmp_path / "bert")[-2:], "--data.regions=true"]
    line = refused(capsys, run, place, *small, ckpt_path=place / "last.ckpt")
    assert "asks for 'mylab.encoder.SmallNet', which the config does not name. If you trust it: --trust mylab." in line
    run(place, *small, TRUST, ckpt_path=place / "last.ckpt")
    assert "test/retrieval/report/i2t_R@1" in capsys.readouterr().out


def test_its_benchmarks(place, capsys, tmp_path, monkeypatch):
    more = " ".join([*options(place / "data" / "rsna"), "--trainer.logger false", "--model.labels [Cardiomegaly]"])
    command = ["--weights", str(place / "last.ckpt"), "--args", more, "--data", str(place / "data")]
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, main, ["benchmark", "zeroshot-rsna", *command]).endswith(UNTRUSTED)
    main(["benchmark", "zeroshot-rsna", *command, TRUST])
    short = [*command[:-3], f"{more} --trainer.max_epochs 1", *command[-2:]]
    main(["benchmark", "rsna", *short, TRUST, "--fractions", "100", "--seeds", "0"])
    zero_shot, probe = (json.loads(path.read_text()) for path in sorted(Path("runs").rglob("results.json"))[::-1])
    assert zero_shot["encoder_sha256"] == probe["encoder_sha256"]


def test_its_commands(place, capsys, tmp_path):
    weights, index = ["--weights", "last.ckpt"], str(place / "data" / "rsna")
    commands = {
        "predict": ["image.png", *weights, "--findings", "Edema", "--out", str(tmp_path / "scores.csv")],
        "explain": ["image.png", *weights, "--text", "left effusion", "--out", str(tmp_path / "picture.png")],
        "search": [index, *weights, "--text", "effusion"],
        "export": ["last.ckpt", "--out", str(tmp_path / "model")],
    }
    for name, words in commands.items():
        assert refused(capsys, main, [name, *words]).endswith(UNTRUSTED)
        main([name, *words, TRUST])
    assert pyarrow.csv.read_csv(tmp_path / "scores.csv")["status"].to_pylist() == ["ok"]
    assert (tmp_path / "picture.png").is_file()
    assert refused(capsys, main, ["app", *weights, "--port", "0"]).endswith(UNTRUSTED)


def test_its_export_is_loaded_in_a_new_process(place, tmp_path, capsys):
    main(["export", "last.ckpt", "--out", str(tmp_path / "model"), TRUST])
    assert "medvlp.load: the largest difference from the checkpoint is 0.0e+00." in capsys.readouterr().out
    assert not (tmp_path / "model" / "text_encoder").exists()
    card = (tmp_path / "model" / "README.md").read_text()
    assert "mylab.encoder.SmallNet" in card
    assert "mylab.reader.WordSum, frozen" in card
    assert (
        "The text encoder, mylab.reader.WordSum, has its weights in `model.safetensors`; its code, of the package "
        "`mylab`, is not in this folder." in card
    )
    again = medvlp.load(tmp_path / "model", trust=["mylab"])
    first = medvlp.load("last.ckpt", trust=["mylab"])
    assert torch.equal(first.text_embedding(["effusion"]), again.text_embedding(["effusion"]))
    for kind in ("onnx", "huggingface"):
        line = refused(capsys, main, ["export", "last.ckpt", "--out", str(tmp_path / kind), "--format", kind, TRUST])
        assert (
            f"--format {kind} supports language models of Hugging Face only, but the text encoder is a WordSum." in line
        )
    code = "import medvlp; medvlp.load('model', trust=['mylab'])"
    path = str(Path(medvlp.__file__).parents[1])
    for others, ending in (([], ABSENT), ([str(place)], "")):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([path, *others])}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.stderr.strip().endswith(ending)
        assert done.returncode == bool(ending)


def test_its_image_encoder_goes_where_transformers_reads_it(place, tmp_path):
    from transformers import AutoModel

    made = settings(make_language_model(tmp_path / "bert"), ("hierarchical",))
    made["image_encoder"] = {"class_path": "mylab.encoder.SmallNet", "init_args": {"channels": 2}}
    made["objectives"]["hierarchical"]["init_args"]["ratios"] = [0.5, 0.5, 0.5, 0.5, 0.5]
    path = save(tmp_path / "last.ckpt", made)
    main(["export", str(path), "--out", str(tmp_path / "model"), "--format", "huggingface", TRUST])
    model = AutoModel.from_pretrained(tmp_path / "model", trust_remote_code=True, trust=["mylab"])
    images = torch.randint(0, 256, (2, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = medvlp.load(path, trust=["mylab"]).embedding(images)
        torch.testing.assert_close(model.get_image_features(images), expected, rtol=0, atol=1e-6)
    with pytest.raises(UserError) as error:
        AutoModel.from_pretrained(tmp_path / "model", trust_remote_code=True)
    assert str(error.value).endswith(UNTRUSTED)


def test_a_package_that_cannot_be_imported_is_said_to_be_that(place, capsys, monkeypatch):
    absent(monkeypatch)
    with pytest.raises(UserError) as error:
        medvlp.load("last.ckpt", trust=["mylab"])
    assert str(error.value).endswith(ABSENT)
    chosen = {"model__weights": place / "last.ckpt", "model__labels": "[Cardiomegaly]"}
    for name, verb in (("zeroshot/rsna", "test"), ("classification/rsna", "fit")):
        line = refused(capsys, run, place, "-c", name, TRUST, verb=verb, **chosen)
        assert line.endswith(ABSENT)
        assert "trust" not in line
        # Nobody is told to install what is not to be trusted.
        assert refused(capsys, run, place, "-c", name, verb=verb, **chosen).endswith(UNTRUSTED)
    line = refused(capsys, main, ["fit", "-c", "own.yaml", *options(place / "data" / "rsna")])
    assert ABSENT in line


def test_a_package_that_lacks_a_module_says_which(place, tmp_path, monkeypatch):
    make_package(tmp_path, "otherlab")
    (tmp_path / "otherlab" / "encoder.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    changed = torch.load("last.ckpt", weights_only=True)
    changed["hyper_parameters"]["image_encoder"]["class_path"] = "otherlab.encoder.SmallNet"
    torch.save(changed, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"No module named no_such_module_anywhere: is it installed, or on PYTHONPATH"):
        medvlp.load(tmp_path / "other.ckpt", trust=["mylab", "otherlab"])
