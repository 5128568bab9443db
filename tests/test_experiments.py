"""Every config that comes with the project composes and runs."""

import json
import os
from importlib import import_module
from pathlib import Path

import pytest
import torch
import wandb
import yaml

from medvlp.__main__ import main
from medvlp.benchmarks.catalogue import benchmarks
from medvlp.config.experiments import DEFAULTS, EXPERIMENTS, find_config, read_layers
from tests.support.runs import clear_environment
from tests.support.tiny import make_language_model, make_prepared, options

pytestmark = pytest.mark.slow


def name_under(path):
    return path.relative_to(EXPERIMENTS).with_suffix("").as_posix()


NAMES = sorted(map(name_under, EXPERIMENTS.rglob("*.yaml")))
BENCHMARK_NAMES = sorted(map(name_under, benchmarks().values()))
# A pre-training is a config at the top, but for the defaults.
TOP = [name for name in NAMES if "/" not in name and name != DEFAULTS.stem]
LEARNT = [name for name in BENCHMARK_NAMES if name.startswith(("classification/", "segmentation/", "detection/"))]
EVALUATIONS = [name for name in BENCHMARK_NAMES if name not in LEARNT]
CLASSIFICATIONS = [[name] for name in LEARNT if name.startswith("classification/")]
NAMED = ("chexpert", "covidx", "nih", "rsna")  # data sets whose labels are in the code
# NAME.1.yaml goes over NAME.yaml at 1 % of the labels.
FRACTIONS = [[name.rpartition(".")[0], name] for name in NAMES if name.rpartition(".")[0] in LEARNT]
BASES = [name for name in NAMES if name.startswith("base/")]
OVERLAYS = [name for name in NAMES if name.startswith("overlays/")]


def laid_over(overlay):
    """Return the stack of an overlay: small_NAME is over the last of the benchmarks NAME/, or over the pre-training."""
    name = overlay.removeprefix("overlays/small_")
    of_kind = [benchmark for benchmark in LEARNT if benchmark.startswith(f"{name}/")]
    return [of_kind[-1] if of_kind else name if name in TOP else "imitate", overlay]


STACKS = [laid_over(name) for name in OVERLAYS]
PRE_TRAININGS = [*([name] for name in TOP), *(stack for stack in STACKS if stack[0] in TOP)]
PRE_TRAININGS += [["imitate_official", "overlays/small"], ["imitate_asg", "overlays/overfit"]]
BENCHMARKS = [
    *([name] for name in LEARNT),
    *FRACTIONS,
    *(stack for stack in STACKS if stack[0] in LEARNT),
    ["detection/rsna", "detection/rsna.1", "overlays/small_detection"],
]


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


def test_every_config_is_run_here():
    """Bases are run by what stands on them."""
    stacks = [*PRE_TRAININGS, *BENCHMARKS, *([name] for name in EVALUATIONS)]
    layers = {layer.path for names in stacks for name in names for layer in read_layers(find_config(name), "fit")}
    assert layers | {DEFAULTS} == set(EXPERIMENTS.rglob("*.yaml"))


def test_a_benchmark_is_short_and_has_a_line_and_a_name_of_its_own():
    for config in benchmarks().values():
        lines = config.read_text().splitlines()
        assert lines[0].startswith("# "), config
        assert lines[0].endswith("."), config
        assert sum(not line.lstrip().startswith("#") for line in lines) <= 20, config
    assert set(BENCHMARK_NAMES) == {name for name in NAMES if "/" in name} - {*OVERLAYS, *BASES} - {
        over for _, over in FRACTIONS
    }


def fit(place, names, *arguments):
    configs = [part for name in names for part in ("-c", name)]
    if names == ["asg"]:
        own = f"--model.objectives.tag.init_args.query_encoder.init_args.name={place / 'bert'}"
        # The tiny model has two layers.
        arguments = (own, "--model.text_encoder.init_args.layers=2", *arguments)
    if names == ["convirt"]:
        arguments = ("--model.text_encoder.init_args.trainable_layers=1", *arguments)
    if names == ["cxr_clip"]:  # the tiny studies have one image
        arguments = ("--data.view_source=image", *arguments)
    main(["fit", *configs, *options(place / "data", place / "bert"), *arguments])


@pytest.mark.parametrize("names", PRE_TRAININGS, ids="+".join)
def test_pre_training_runs(place, names):
    fit(place, names, "--trainer.fast_dev_run=true")


@pytest.fixture(scope="module", params=["imitate", "imitate_asg"])
def checkpoint(place, request):
    """A checkpoint of a pre-training of one step."""
    os.environ["WANDB_MODE"] = "offline"
    runs = place / request.param
    fit(
        place,
        [request.param],
        "--trainer.max_steps=1",
        "--trainer.limit_val_batches=1",
        f"--trainer.default_root_dir={runs}",
        "--trainer.logger=false",
    )
    (path,) = runs.rglob("last.ckpt")
    return path


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluation_runs(place, name, checkpoint):
    if name.startswith("grounding/") and "asg" not in str(checkpoint):
        pytest.skip("the default source of heat maps is region alignment")
    # The tiny data have labels and splits of their own.
    own = ["--data.split=null"]
    if name in ("grounding/chest_imagenome", "grounding/regions"):
        own.append("--model.region_source=null")
    if not name.startswith("grounding/"):
        own += (
            ["--model.classes=null"]
            if name.startswith("retrieval/")
            else ["--model.labels=null", "--model.protocol=medvlp"]
        )
    main(
        ["test", "-c", name, *options(place / "data"), f"--model.weights={checkpoint}", "--trainer.logger=false", *own]
    )
    results = json.loads(Path("runs/results.json").read_text())
    assert results["benchmark"].startswith(name.split("/")[0])
    assert results["metrics"]


@pytest.mark.parametrize("names", BENCHMARKS, ids="+".join)
def test_benchmark_runs(place, names):
    configs = [part for name in names for part in ("-c", name)]
    size = ["--data.resize=32", "--model.weights=random", "--model.architecture=test_resnet.r160_in1k"]
    labels = ["--model.labels=[Cardiomegaly, Pleural Effusion]", "--model.uncertain=null"]
    # A step of the real heads takes a second.
    channels = {"classification": labels, "segmentation": ["--model.channels=[16, 16, 8, 8, 8]"]}
    own = channels.get(names[0].split("/")[0], ["--model.channels=[8, 8, 8]"])
    for verb in ("fit", "test"):
        main([verb, *configs, *options(place / "data"), *size, *own, "--trainer.fast_dev_run=true"])


@pytest.mark.parametrize("names", CLASSIFICATIONS, ids="+".join)
def test_classification_learns_labels_that_its_data_have(capsys, names):
    model = composed(capsys, *names)["model"]["init_args"]
    chexpert, covidx, nih, rsna = (import_module(f"medvlp.prepare.datasets.{name}") for name in NAMED)
    known = {
        "chexpert": chexpert.LABELS,
        "covidx": covidx.CLASSES.values(),
        "nih": nih.FINDINGS.values(),
        "rsna": [rsna.LABEL],
    }.get(names[0].split("/")[1], model["labels"])
    assert model["labels"] is None or set(model["labels"]) <= set(known)
    assert set(model["uncertain"] or ()) <= set(model["labels"] or ())


def test_benchmarks_are_the_specified_protocols(capsys):
    def recipe(*names):
        config = composed(capsys, *names)
        model, data = config["model"]["init_args"], config["data"]
        optimizer, schedule = model["optimizer"]["init_args"], model["schedule"]
        assert (config["trainer"]["max_epochs"], config["trainer"]["devices"]) == (50, 1)
        assert optimizer["betas"] == [0.9, 0.999]
        assert (schedule["class_path"].rpartition(".")[2], schedule["init_args"]["factor"]) == ("ConstantLR", 1)
        assert (model["freeze"], model["adapt_batch_norm"], model["weights"]) == (True, False, "imagenet")
        best, last, early, results = (callback["init_args"] for callback in config["trainer"]["callbacks"])
        assert (last["filename"], last["monitor"]) == ("last", None)
        assert (early["patience"], best["monitor"], best["mode"]) == (10, early["monitor"], early["mode"])
        assert (data["crop"], data["fraction"], data["views"]) == (224, 1, 1)
        selection = (best["monitor"], best["mode"], results["benchmark"])
        return optimizer["lr"], optimizer["weight_decay"], data["batch_size"], data["targets"], *selection

    loss = ("val/loss", "min")
    for name in ("chexpert", "covidx", "mimic", "nih", "rsna"):
        assert recipe(f"classification/{name}") == (5e-4, 1e-6, 48, None, *loss, name)
    assert recipe("classification/open_i") == (5e-4, 1e-6, 48, None, *loss, "open-i-labels")
    assert recipe("segmentation/siim") == (5e-4, 0.05, 8, "mask", *loss, "siim")
    assert recipe("segmentation/rsna") == (5e-4, 0.05, 16, "mask", *loss, "rsna-seg")
    best = ("val/map", "max")
    assert recipe("detection/rsna") == (5e-4, 1e-6, 16, "box", *best, "rsna-det")
    assert recipe("detection/rsna", "detection/rsna.1") == (2e-4, 1e-6, 8, "box", *best, "rsna-det")
    assert recipe("detection/object_cxr") == (5e-4, 1e-6, 16, "box", *best, "object-cxr")
    assert recipe("detection/object_cxr", "detection/object_cxr.1") == (2.5e-4, 1e-6, 8, "box", *best, "object-cxr")


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


def test_asg_is_the_specified_method(capsys):
    config = composed(capsys, "asg")
    model = config["model"]["init_args"]
    report, region, tag = (model["objectives"][name]["init_args"] for name in ("report", "region", "tag"))
    assert (report["temperature"], region["temperature"]) == (0.07, 0.07)
    assert (report["dim"], report["hidden"], region["dim"], region["hidden"]) == (128, 2048, 128, 2048)
    assert (report["soft_labels"]["hard"], report["soft_labels"]["soft"]) == (0.8, 0.2)
    assert (report["soft_labels"]["direction"], report["soft_labels"]["normals_alike"]) == ("symmetric", False)
    assert (report["weight"], report["soft_label_weight"], region["weight"], tag["weight"]) == (1, 1, 1, 5)
    assert (tag["dim"], tag["layers"], tag["heads"], tag["hidden"], tag["dropout"]) == (768, 4, 4, 1024, 0.1)
    assert (tag["tags"], tag["uncertain"], tag["unmentioned"]) == ("asg", "absent", "absent")
    text = model["text_encoder"]["init_args"]
    assert (text["layers"], text["trainable_layers"], text["max_length"]) == (6, None, 112)
    assert (model["optimizer"]["init_args"]["lr"], model["warmup"]) == (4e-5, 0.4)
    assert (config["data"]["batch_size"], config["data"]["crop"], config["data"]["views"]) == (72, 224, 1)
    assert config["trainer"]["max_epochs"] == 50


@pytest.mark.parametrize("name", ["asg", "imitate_asg"])
def test_asg_runs_with_a_vision_transformer(place, name):
    image = {"name": "test_vit.r160_in1k", "pretrained": False, "weights": None, "image_size": 32}
    encoder = json.dumps({"class_path": "TimmEncoder", "init_args": image})
    fit(place, [name], "--trainer.fast_dev_run=true", f"--model.image_encoder={encoder}")


@pytest.mark.parametrize("kept", ["region", "tag"])
def test_an_objective_of_asg_alone(place, kept, tmp_path):
    Path("alone.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"objectives": {kept: {}}}}}))
    fit(place, ["imitate_asg", "alone.yaml"], "--trainer.max_epochs=1")
    assert list(tmp_path.rglob("best.ckpt"))


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
        "--model.objectives.report.init_args.weight=0",
        "--model.objectives.report.init_args.soft_label_weight=0",
        "--model.objectives.report.init_args.soft_labels.direction=forward",
        "--model.objectives.report.init_args.soft_labels.soft=0.4",
        "--model.objectives.report.init_args.prior.strength=0.2",
        "--model.objectives.report.init_args.gathered=false",
        "--model.objectives.region.init_args.negatives=batch",
        "--model.objectives.region.init_args.roi_size=3",
        "--model.objectives.region.init_args.roi_aligned=false",
        "--model.objectives.tag.init_args.tags=chexpert",
        "--model.objectives.tag.init_args.uncertain=masked",
        "--model.objectives.tag.init_args.unmentioned=masked",
        "--model.text_encoder.init_args.layers=6",
        "--model.text_encoder.init_args.trainable_layers=null",
        "--data.region_list=23",
    ],
)
def test_every_ablation_is_an_option(capsys, ablation):
    with pytest.raises(SystemExit) as end:
        main(["fit", "-c", "imitate_asg", ablation, "--print_config"])
    assert end.value.code == 0
    key, value = ablation.lstrip("-").split("=")
    config = yaml.safe_load(capsys.readouterr().out)
    for part in key.replace("model.", "model.init_args.", 1).split("."):
        config = config[part]
    assert config == (value if isinstance(config, str) else yaml.safe_load(value))


def test_weights_of_a_run_start_another(place, tmp_path):
    fit(place, ["imitate"], "--trainer.max_steps=1", "--trainer.limit_val_batches=1")
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    fit(place, ["imitate"], "--trainer.fast_dev_run=true", f"--model.image_encoder.init_args.weights={checkpoint}")
    assert any(key.startswith("image_encoder.backbone.") for key in torch.load(checkpoint)["state_dict"])
