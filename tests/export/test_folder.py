"""An exported folder says what its checkpoint says, alone, in a new process; and nothing of others is lost."""

import json
import runpy
import shutil
import stat

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import BertConfig, BertModel

import medvlp
from medvlp.__main__ import main
from medvlp.errors import UserError
from medvlp.export import check, export
from medvlp.models.weights import public_name
from medvlp.protocols import Protocol
from medvlp.tasks.checkpoints import load_pretraining
from tests.support.checkpoints import python, save, settings, snippets
from tests.support.tiny import make_language_model

pytestmark = pytest.mark.slow

FINDINGS = ["Cardiomegaly", "Pleural Effusion", "No Finding"]
PROTOCOL = """
name: own
version: 3
source: here
prompts: {pairs: {positive: ["there is {}"], negative: ["no {}"]}}
"""
CODE = """
import sys, numpy, medvlp
arrays = {}
for folder in sys.argv[2:]:
    model = medvlp.load(folder)
    images = model.read_many(["image.png", "image.png"])
    arrays[folder] = model.scores(images, %r)
    arrays[f"{folder}/heat"] = model.heat_map(images[0], "pleural effusion")
    if model.tag_names:
        arrays[f"{folder}/tags"] = model.tags(images)
numpy.savez(sys.argv[1], **arrays)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two language models, a protocol and a picture."""
    folder = tmp_path_factory.mktemp("source")
    make_language_model(folder / "bert")
    shutil.copytree(folder / "bert", folder / "wide")
    wide = BertConfig.from_pretrained(folder / "bert", hidden_size=24)
    BertModel(wide).save_pretrained(folder / "wide")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90), dtype=np.uint8)).save(folder / "image.png")
    (folder / "own.yaml").write_text(PROTOCOL)
    return folder


@pytest.fixture(scope="module")
def checkpoint(place):
    return save(place / "last.ckpt", settings(place / "bert"))


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "model"
    export(checkpoint, out=folder)
    return folder


def wide_queries(place):
    """Hyper-parameters whose tags were embedded by another language model than the reports, and of another width."""
    made = settings(place / "bert")
    other = {"class_path": "medvlp.models.HFTextEncoder", "init_args": {"name": str(place / "wide")}}
    made["objectives"]["tag"]["init_args"]["query_encoder"] = other
    return made


def answers(name, path, image):
    model = medvlp.load(path)
    images = model.read_many([image, image])
    heat = model.heat_map(images[0], "pleural effusion")
    found = {name: model.scores(images, FINDINGS), f"{name}/heat": heat}
    return found | ({f"{name}/tags": model.tags(images)} if model.tag_names else {})


def test_a_new_process_needs_neither_checkpoint_nor_language_model(place, tmp_path):
    # Away from where the hyper-parameters say that everything is.
    source = shutil.copytree(place, tmp_path / "source")
    bert, own = source / "bert", source / "own.yaml"
    kinds = {
        "mean": settings(bert, pooling="mean"),
        "dropout": settings(bert, dropout=True),
        "trained": settings(bert, ("report",), trainable_layers=None, layers=1),
        "vit": settings(bert, ("report", "region"), image="test_vit.r160_in1k", size=32, protocol=own),
        "wide": wide_queries(source),
    }
    away, expected = tmp_path / "away", {}
    for name, made in kinds.items():
        path = save(source / f"{name}.ckpt", made)
        export(path, out=away / name)
        expected |= answers(name, path, source / "image.png")
    shutil.copy(source / "image.png", away)
    identity = Protocol.read(own).identity
    shutil.rmtree(source)

    (snippet,) = snippets(away / "mean" / "README.md")
    printed = python(CODE % FINDINGS + snippet, away, "found.npz", *kinds)
    assert printed.startswith("tensor([[0.")
    found = np.load(away / "found.npz")
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6, err_msg=name)
    assert all(np.ptp(found[name]) > 5e-5 for name in kinds)  # they say something
    assert load_pretraining(away / "vit").protocol.identity == identity
    # Where it was made is nobody's business.
    written = [
        path for name in kinds for suffix in ("json", "yaml", "md") for path in (away / name).rglob(f"*.{suffix}")
    ]
    assert not [path for path in written if str(tmp_path) in path.read_text()]


def test_the_weights_are_those_of_the_checkpoint_once(place, tmp_path):
    path = save(tmp_path / "trained.ckpt", settings(place / "bert", ("report",), trainable_layers=1))
    export(path, out=tmp_path / "model")
    stored = torch.load(path, weights_only=True)["state_dict"]
    loaded = load_pretraining(tmp_path / "model").state_dict()
    assert stored.keys() == loaded.keys()
    assert all(torch.equal(loaded[key], value) for key, value in stored.items())
    with safe_open(tmp_path / "model" / "model.safetensors", "pt") as file:
        assert not [key for key in file.keys() if key.startswith("text_encoder.")]  # noqa: SIM118


def test_all_may_read_it_who_may_read_what_is_written(exported):
    modes = {stat.S_IMODE(path.stat().st_mode) for path in exported.rglob("*") if path.is_file()}
    assert modes == {stat.S_IMODE((exported / "README.md").stat().st_mode)}


def test_the_state_that_is_no_tensor_comes_along(exported, checkpoint):
    key = "objectives.hierarchical.aggregation._extra_state"
    assert load_pretraining(exported).state_dict()[key] == load_pretraining(checkpoint).state_dict()[key]


def test_an_export_can_be_exported(exported, tmp_path):
    export(exported, out=tmp_path / "again")
    assert (tmp_path / "again" / "config.json").read_text() == (exported / "config.json").read_text()
    assert check.compare(medvlp.load(exported), medvlp.load(tmp_path / "again")) == 0


def test_an_earlier_export_is_replaced_whole(exported, checkpoint, tmp_path):
    out = shutil.copytree(exported, tmp_path / "model")
    (out / "image_encoder.onnx").write_text("of another format")
    export(checkpoint, out=out)
    assert {path.name for path in out.iterdir()} == {path.name for path in exported.iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failure_leaves_what_was_there(exported, checkpoint, tmp_path, monkeypatch):
    out = shutil.copytree(exported, tmp_path / "model")
    (out / "README.md").write_text("as it was")
    monkeypatch.setattr(check, "compare", lambda *models: float("nan"))
    with pytest.raises(RuntimeError, match="differs from the checkpoint by nan"):
        export(checkpoint, out=out)
    assert (out / "README.md").read_text() == "as it was"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["notes.txt"], "holds 'notes.txt' that is not from an export"),
        (["config.json"], "holds files that is not from an export"),  # of another program
        (["config.json", "README.md", ".git"], "holds '.git'"),
        (None, "is a file"),
    ],
)
def test_what_others_have_put_there_stays(checkpoint, tmp_path, capsys, files, message):
    out = tmp_path / "out"
    if files is None:
        out.write_text("mine")
    for name in files or ():
        out.mkdir(exist_ok=True)
        (out / name).write_text("{}")
    with pytest.raises(SystemExit):
        main(["export", str(checkpoint), "--out", str(out)])
    assert message in capsys.readouterr().err
    assert out.read_text() == "mine" if files is None else {path.name for path in out.iterdir()} == set(files)


@pytest.mark.parametrize(("out", "message"), [("empty", "name a folder in it"), ("file/out", "cannot be written")])
def test_a_place_that_nothing_can_take_is_refused(checkpoint, tmp_path, monkeypatch, out, message):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UserError, match=message):
        export(checkpoint, out=tmp_path / out)


@pytest.mark.parametrize(("name", "call"), [("region", "model.heat_map("), ("tag", "model.tags(")])
def test_a_model_without_a_joint_space(place, tmp_path, monkeypatch, capsys, name, call):
    path = save(tmp_path / "last.ckpt", settings(place / "bert", (name,)))
    with pytest.raises(UserError, match="no joint space"):
        export(path, out=tmp_path / "model", format="huggingface")
    export(path, out=tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    shutil.copy(place / "image.png", tmp_path)
    (snippet,) = snippets(tmp_path / "model" / "README.md")
    assert call in snippet
    (tmp_path / "snippet.py").write_text(snippet)
    runpy.run_path("snippet.py")
    assert capsys.readouterr().out.splitlines()[-1].endswith("])")


def test_a_model_that_has_diverged_is_no_model(checkpoint, tmp_path):
    stored = torch.load(checkpoint, weights_only=True)
    stored["state_dict"]["objectives.report.text_head.0.bias"] += float("nan")
    torch.save(stored, tmp_path / "nan.ckpt")
    with pytest.raises(UserError, match="has diverged"):
        export(tmp_path / "nan.ckpt", out=tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_git_repository_with_an_export_in_it_is_no_export(exported, checkpoint, tmp_path):
    out = shutil.copytree(exported, tmp_path / "model")
    (out / ".git").mkdir()
    with pytest.raises(UserError, match=r"holds '\.git'"):
        export(checkpoint, out=out)


def test_an_empty_folder_is_used(checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    export(checkpoint, out=tmp_path / "out")
    assert medvlp.load(tmp_path / "out").spaces


def test_classes_of_others_need_trust(place, tmp_path, capsys):
    path = save(tmp_path / "own.ckpt", settings(place / "bert", ("own",)))
    with pytest.raises(UserError, match=r"checkpoints\.Own"):
        export(path, out=tmp_path / "model")
    main(["export", str(path), "--out", str(tmp_path / "model"), "--trust", "tests"])
    assert "medvlp.load: the largest difference from the checkpoint is 0.0e+00." in capsys.readouterr().out
    with pytest.raises(UserError, match=r"checkpoints\.Own"):
        medvlp.load(tmp_path / "model")
    assert medvlp.load(tmp_path / "model", trust=["tests"]).spaces == ["own/report"]


def test_a_folder_cannot_name_a_text_encoder_elsewhere(exported, place, tmp_path):
    out = shutil.copytree(exported, tmp_path / "model")
    config = json.loads((out / "config.json").read_text())
    config["hyper_parameters"]["text_encoder"]["init_args"]["name"] = str(place / "wide")
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="could not be loaded"):
        medvlp.load(out)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "protocol.yaml", "text_encoder"])
def test_an_incomplete_folder_says_so(exported, tmp_path, name):
    out = shutil.copytree(exported, tmp_path / "model")
    shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()
    with pytest.raises(UserError):
        medvlp.load(out)


def test_of_a_path_its_last_part_is_public(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "bert").mkdir(parents=True)
    names = ["emilyalsentzer/Bio_ClinicalBERT", "bert-base-uncased", "package:some_package/model", None]
    assert [public_name(name) for name in names] == [*names[:3], ""]
    paths = [str(tmp_path / "bert"), "models/bert", "../private/bert", "/home/somebody/bert", "~/bert", "a/b/bert"]
    assert {public_name(path) for path in paths} == {"bert"}
