"""Every method of experiments/ goes all the way: it trains, resumes, tests, searches, draws maps and is exported.

A method is a config at the top of experiments/. A new one is tested here without an entry.
"""

import csv
import json
import math
import os
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import wandb
import yaml

import medvlp
from medvlp.__main__ import main
from medvlp.config.experiments import DEFAULTS, EXPERIMENTS
from medvlp.errors import UserError
from medvlp.export import export
from medvlp.inference.neighbours import PreparedIndex
from medvlp.inference.search import search
from medvlp.prepared import Prepared
from tests.support.runs import clear_environment
from tests.support.tiny import make_language_model, make_prepared, options

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:The dirpath has changed")]

METHODS = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml") if path != DEFAULTS)
# An epoch has three steps; a run is resumed in the middle of the second.
STEPS, EPOCHS, RESUMED = 6, 2, (4,)
# The tiny language model has two layers, and the tiny studies one image.
TINY = {
    "convirt": ["--model.text_encoder.init_args.trainable_layers=1"],
    "cxr_clip": ["--data.view_source=image"],
    "imitate_official": ["--data.train_splits=[train]"],
}
# They compare images with the names of findings alone.
WITHOUT_REPORTS = ("labels", "medklip")
SAVED = {
    "class_path": "ModelCheckpoint",
    "init_args": {
        "every_n_train_steps": 2,
        "save_top_k": -1,
        "filename": "step={step}",
        "auto_insert_metric_name": False,
        "save_on_train_epoch_end": False,
    },
}
TEXTS = ["left pleural effusion", "no pleural effusion", "large cardiomegaly"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with tiny data and a tiny language model."""
    folder = tmp_path_factory.mktemp("methods")
    make_prepared(folder / "data")
    make_language_model(folder / "bert")
    (folder / "saved.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks+": SAVED}}))
    return folder


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    clear_environment(monkeypatch)
    yield
    wandb.finish()


def trains_texts(name):
    """Return whether the recipe of a method trains its text encoder, which the overlay for small encoders freezes."""
    config = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text())
    text = config.get("model", {}).get("init_args", {}).get("text_encoder", {}).get("init_args", {})
    if "trainable_layers" in text or "base" not in config:
        return text.get("trainable_layers", 0) != 0
    return trains_texts(config["base"])


def fit(place, name, root, *arguments):
    """Train a method on tiny data with the overlay for small encoders, and return its checkpoints by step."""
    own = f"overlays/small_{name}"
    overlay = own if (EXPERIMENTS / f"{own}.yaml").exists() else "overlays/small"
    length = [f"--trainer.max_epochs={EPOCHS}", "--trainer.log_every_n_steps=1", "--trainer.logger=false"]
    tiny = [
        *options(place / "data", place / "bert"),
        "--data.resize=null",
        "--trainer.limit_val_batches=2",
        *(["--model.text_encoder.init_args.trainable_layers=null"] if trains_texts(name) else []),
        *TINY.get(name, []),
    ]
    stack = ["-c", name, "-c", overlay, "-c", str(place / "saved.yaml")]
    main(["fit", *stack, *tiny, *length, f"--trainer.default_root_dir={root}", *arguments])
    return {int(path.stem.partition("=")[2]): path for path in root.rglob("step=*.ckpt")}


@pytest.fixture(scope="module", params=METHODS)
def trained(place, request):
    """Name and checkpoints of a method that has trained two epochs."""
    os.environ["WANDB_MODE"] = "offline"
    folder = place / request.param
    checkpoints = fit(place, request.param, folder)
    assert set(checkpoints) == {2, 4, 6}
    return request.param, checkpoints


def test_its_weights_move_and_stay_finite(trained):
    _, checkpoints = trained
    states = (torch.load(checkpoints[step], weights_only=False)["state_dict"] for step in (2, STEPS))
    # Channel aggregation also keeps the number of its draws.
    first, last = ({key: value for key, value in state.items() if torch.is_tensor(value)} for state in states)
    assert all(torch.isfinite(value).all() for value in last.values())
    assert any(not torch.equal(first[key], last[key]) for key in first if key.startswith("objectives."))
    # The first epoch, of three steps, freezes what a method wants to have frozen in it.
    for key in (key for key in first if key.endswith(".frozen")):
        assert (bool(first[key]), bool(last[key])) == (True, False)


@pytest.mark.parametrize("step", RESUMED)
def test_resumed_equals_uninterrupted(place, trained, tmp_path, step):
    name, checkpoints = trained
    again = fit(place, name, tmp_path / "again", f"--ckpt_path={checkpoints[step]}")
    whole, resumed = (torch.load(paths[STEPS], weights_only=False)["state_dict"] for paths in (checkpoints, again))
    assert set(whole) == set(resumed)
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, rtol=1e-5, atol=1e-6, msg=key)


def evaluate(place, name, checkpoint, *arguments):
    # The tiny data have labels and splits of their own.
    main(
        [
            "test",
            *("-c", name),
            *options(place / "data"),
            f"--model.weights={checkpoint}",
            "--trainer.logger=false",
            "--data.split=null",
            *arguments,
        ]
    )
    metrics = json.loads(Path("runs/results.json").read_text())["metrics"]
    assert not any(math.isnan(entry["value"]) for entry in metrics.values()), metrics
    return metrics


@pytest.fixture
def model(trained):
    return medvlp.load(trained[1][STEPS])


def test_zero_shot_classification(place, trained, model):
    arguments = ("zeroshot/open_i", trained[1][STEPS], "--model.labels=null", "--model.protocol=medvlp")
    if not model.spaces:
        with pytest.raises(SystemExit):
            evaluate(place, *arguments)
        return
    metrics = evaluate(place, *arguments)
    values = [entry["value"] for key, entry in metrics.items() if key.startswith("auroc")]
    assert values
    assert all(0 <= value <= 1 for value in values)


def test_retrieval(place, trained, model, capsys):
    try:
        metrics = evaluate(place, "retrieval/open_i", trained[1][STEPS], "--model.classes=null")
    except SystemExit:
        assert trained[0] in WITHOUT_REPORTS
        assert "nothing to retrieve" in capsys.readouterr().err
        return
    assert {"i2t_R@1", "t2i_R@5"} <= {key.rpartition("/")[2] for key in metrics}


def test_grounding(place, trained, model):
    if not model.heat_sources:
        pytest.skip("it has no heat maps")
    metrics = evaluate(place, "grounding/ms_cxr", trained[1][STEPS])
    assert 0 <= metrics["pointing"]["value"] <= 1


def test_search_ranks_by_its_similarity(place, trained, model, tmp_path):
    if not model.spaces:
        pytest.skip("it has no joint space of images and texts")
    out = tmp_path / "out.csv"
    search(place / "data", weights=trained[1][STEPS], text=TEXTS[0], top=48, out=out)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    images = torch.from_numpy(Prepared.open(place / "data").images[:, 4:36, 4:36].copy())
    similarity = model.similarity(model.embed_images(images), model.embed_texts(TEXTS[:1]))[:, 0]
    assert similarity.std() > 0
    for row in rows:
        expected = similarity[int(row["image_id"].removeprefix("image"))].item()
        # Embeddings are kept in half precision.
        assert float(row["score"]) == pytest.approx(expected, abs=5e-3)


def test_an_image_is_most_like_itself(place, trained, model):
    if not model.spaces:
        pytest.skip("it has no joint space of images and texts")
    images = torch.from_numpy(Prepared.open(place / "data").images[:, 4:36, 4:36].copy())
    vectors = model.embedding(images)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(images)), rtol=1e-4, atol=1e-4)
    similarity = PreparedIndex(place / "data", trained[1][STEPS]).similar_to_image(model, images[5])
    assert similarity.max() == pytest.approx(1, abs=5e-3)


def test_heat_maps_of_texts(model):
    if not model.heat_sources:
        pytest.skip("it has no heat maps")
    image = torch.randint(255, (32, 32), dtype=torch.uint8)
    for source in model.heat_sources:
        for text in TEXTS:
            heat = model.heat_map(image, text, source)
            assert heat.ndim == 2
            assert torch.isfinite(heat).all()


def test_exported_folder_is_the_same_model(trained, model, tmp_path):
    export(trained[1][STEPS], out=tmp_path / "folder")
    again = medvlp.load(tmp_path / "folder")
    images = torch.randint(255, (3, 32, 32), dtype=torch.uint8)
    assert again.spaces == model.spaces
    if model.spaces:
        one, two = (m.similarity(m.embed_images(images), m.embed_texts(TEXTS)) for m in (model, again))
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_other_formats_hold_it_or_refuse_it_clearly(trained, model, tmp_path):
    possible = bool(model.spaces) and model.has_vectors
    refusal = pytest.raises(UserError, match="Use safetensors") if not possible else nullcontext()
    with refusal:
        export(trained[1][STEPS], out=tmp_path / "folder", format="huggingface")
    assert (tmp_path / "folder").exists() == possible
