"""onnxruntime says what PyTorch says, without torch, of any number of images and texts."""

import shutil
from importlib import util

import numpy as np
import pytest
import torch

import medvlp
from medvlp.__main__ import main
from medvlp.export import export, onnx
from tests.support.checkpoints import python, save, settings, snippets
from tests.support.tiny import make_language_model

pytestmark = pytest.mark.slow

TEXTS = ["left pleural effusion", "", "no cardiomegaly . " * 20]  # the last is cut


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    folder = tmp_path_factory.mktemp("onnx")
    make_language_model(folder / "bert")
    save(folder / "last.ckpt", settings(folder / "bert", ("hierarchical", "tag"), pooling="mean"))
    export(folder / "last.ckpt", out=folder / "model", format="onnx")
    return folder


@pytest.mark.parametrize("count", [1, 5])
def test_images(place, count):
    import onnxruntime

    session = onnxruntime.InferenceSession(place / "model" / "image_encoder.onnx")
    model = medvlp.load(place / "last.ckpt")
    images = torch.randint(256, (count, 32, 32), dtype=torch.uint8)
    names = [output.name for output in session.get_outputs()]
    assert names == [*model.spaces, "tags"]
    expected = [*model.embed_images(images).values(), model.tags(images)]
    for name, found, value in zip(names, session.run(None, {"image": images.numpy()}), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=0, atol=1e-5, err_msg=name)


def test_the_model_card_needs_no_torch(place, tmp_path):
    away = shutil.copytree(place / "model", tmp_path / "model").parent
    _, snippet = snippets(away / "model" / "README.md")
    snippet = snippet.replace('["Pleural effusion.", "The lungs are clear."]', str(TEXTS))
    save = "\nnumpy.savez('found.npz', similarity=similarity, **dict(zip(spaces, read)))"
    python("import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n" + snippet + save, away)
    found = np.load(away / "found.npz")

    model = medvlp.load(place / "last.ckpt")
    text = model.embed_texts(TEXTS)
    for name, value in text.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5, err_msg=name)
    similarity = model.embedding(torch.zeros(1, 32, 32, dtype=torch.uint8)) @ model.text_embedding(TEXTS).T
    np.testing.assert_allclose(found["similarity"], similarity, rtol=0, atol=1e-5)


def test_medvlp_reads_the_same_folder(place):
    assert medvlp.load(place / "model").tag_names == medvlp.load(place / "last.ckpt").tag_names


def test_a_difference_stops_it(place, tmp_path, monkeypatch):
    model = medvlp.load(place / "last.ckpt")
    model.task.objectives["hierarchical"].image_heads["high"][3].bias.data += torch.arange(16.0)
    # Graphs of the model as it was.
    monkeypatch.setattr(
        torch.onnx, "export", lambda tower, inputs, path, **_: shutil.copy(place / "model" / path.name, path)
    )
    with pytest.raises(RuntimeError, match=r"image_encoder\.onnx differs from the checkpoint by"):
        onnx.add(model, tmp_path)


def test_a_missing_extra_is_named_before_anything_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "onnxscript" else util.find_spec(name))
    with pytest.raises(SystemExit):
        main(["export", "missing.ckpt", "--out", str(tmp_path / "model"), "--format", "onnx"])
    assert "--format onnx needs onnxscript: 'pip install medvlp[export]'" in capsys.readouterr().err
