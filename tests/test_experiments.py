"""Every config that comes with the project composes and runs."""

from pathlib import Path

import pytest
import torch
import wandb
import yaml
from tiny import make_language_model, make_prepared, options

from medvlp.__main__ import main
from medvlp.cli import DEFAULTS, EXPERIMENTS, WANDB_PRIVACY

NAMES = {path.relative_to(EXPERIMENTS).with_suffix("").as_posix() for path in EXPERIMENTS.rglob("*.yaml")}
# Laid over a pre-training, in the order of the command line.
OVER_IMITATE = [
    ["imitate"],
    ["imitate", "imitate_official"],
    ["imitate", "overlays/small"],
    ["imitate", "imitate_official", "overlays/small"],
]
EVALUATIONS = sorted(name for name in NAMES if name.startswith("zeroshot/"))


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
    for name in (*WANDB_PRIVACY, "PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "put back afterwards")
        monkeypatch.delenv(name)
    yield
    wandb.finish()


def test_every_config_is_tested_here():
    assert {name for names in OVER_IMITATE for name in names} | {*EVALUATIONS, DEFAULTS.stem} == NAMES


def fit(place, names, *arguments):
    configs = [part for name in names for part in ("-c", name)]
    main(["fit", *configs, *options(place / "data", place / "bert"), *arguments])


@pytest.mark.parametrize("names", OVER_IMITATE, ids="+".join)
def test_pre_training_runs(place, names):
    fit(place, names, "--trainer.fast_dev_run=true")


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluation_runs(place, name, tmp_path):
    fit(place, ["imitate"], "--trainer.max_steps=1", "--trainer.limit_val_batches=1")
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    main(["test", "-c", name, *options(place / "data"), f"--model.weights={checkpoint}", "--trainer.fast_dev_run=true"])


def composed(capsys, *names):
    with pytest.raises(SystemExit) as end:
        main(["fit", *(part for name in names for part in ("-c", name)), "--print_config"])
    assert end.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_official_overlay_changes_quirks_and_nothing_else(capsys):
    ours, official = composed(capsys, "imitate"), composed(capsys, "imitate", "imitate_official")

    def changes(a, b, key=""):
        if isinstance(a, dict) and isinstance(b, dict):
            return {k: v for name in {*a, *b} for k, v in changes(a.get(name), b.get(name), f"{key}.{name}").items()}
        return {} if a == b else {key.replace(".init_args", "").lstrip("."): b}

    objective = "model.objectives.hierarchical."
    expected = {
        "trainer.max_epochs": 21,
        "trainer.precision": "16-mixed",
        "trainer.sync_batchnorm": False,
        "model.text_encoder.dropout": True,
        f"{objective}mask_missing": False,
        f"{objective}gathered": False,
        f"{objective}prior.batch_size": None,
        f"{objective}replacement": True,
        f"{objective}position": "slot",
        f"{objective}padding": 512,
        f"{objective}evaluation": "subset",
        "data.train_splits": ["train", "validate", "test"],
    }
    found = changes(ours, official)
    schedule = found.pop("model.schedule")
    assert schedule["class_path"].endswith("CosineAnnealingWarmRestarts")
    assert schedule["init_args"]["T_0"] == 33341
    assert found == expected


def test_imitate_is_the_specified_method(capsys):
    config = composed(capsys, "imitate")
    model = config["model"]["init_args"]
    objective = model["objectives"]["hierarchical"]["init_args"]
    assert (objective["temperature"], objective["view_temperature"]) == (0.07, 0.2)
    assert (objective["prior"]["smoothing"], objective["prior"]["strength"]) == ("exp", 0.2)
    assert objective["ratios"] == [0.25, 0.15, 0.1, 0.1]
    assert model["optimizer"]["init_args"]["lr"] == 2e-4
    assert model["optimizer"]["init_args"]["weight_decay"] == 0.05
    assert (config["data"]["crop"], config["data"]["views"], config["data"]["batch_size"]) == (224, 2, 128)
    assert config["trainer"]["max_epochs"] == 20


def test_plain_contrastive_learning_is_an_option(place):
    objective = {"class_path": "HierarchicalAlignment", "init_args": {"prior": None}}
    Path("plain.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"objectives": {"hierarchical": objective}}}}))
    fit(place, ["imitate", "plain.yaml"], "--trainer.fast_dev_run=true")


@pytest.mark.parametrize(
    "ablation",
    [
        "--model.objectives.hierarchical.init_args.alignment=flat",
        "--model.objectives.hierarchical.init_args.alignment=reversed",
        "--model.objectives.hierarchical.init_args.prior=null",
        "--model.objectives.hierarchical.init_args.prior.batch_size=null",
        "--model.objectives.hierarchical.init_args.prior.strength=0.5",
        "--model.objectives.hierarchical.init_args.prior.smoothing=gaussian",
        "--model.objectives.hierarchical.init_args.prior_terms=[high_text]",
        "--model.objectives.hierarchical.init_args.view_weight=0",
        "--model.objectives.hierarchical.init_args.ratios=[0.5,0.5,0.5,0.5]",
        "--data.augmentation.horizontal_flip=0",
    ],
)
def test_every_ablation_is_an_option(capsys, ablation):
    with pytest.raises(SystemExit) as end:
        main(["fit", "-c", "imitate", ablation, "--print_config"])
    assert end.value.code == 0
    key, value = ablation.lstrip("-").split("=")
    config = yaml.safe_load(capsys.readouterr().out)
    for part in key.replace("model.", "model.init_args.", 1).split("."):
        config = config[part]
    assert config == yaml.safe_load(value)


def test_weights_of_a_run_start_another(place, tmp_path):
    fit(place, ["imitate"], "--trainer.max_steps=1", "--trainer.limit_val_batches=1")
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    fit(place, ["imitate"], "--trainer.fast_dev_run=true", f"--model.image_encoder.init_args.weights={checkpoint}")
    assert any(key.startswith("image_encoder.backbone.") for key in torch.load(checkpoint)["state_dict"])
