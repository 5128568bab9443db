"""transformers reads an exported folder as the model card says, and gets what medvlp gets."""

import runpy
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import medvlp
from medvlp.errors import UserError
from medvlp.export import export, huggingface
from medvlp.export.huggingface import MedVLPModel, MedVLPProcessor
from tests.support.checkpoints import python, save, settings, snippets
from tests.support.tiny import make_language_model

TEXTS = ["Pleural effusion.", "The lungs are clear."]
CODE = """
import numpy
from PIL import Image
arrays = {name: outputs[name].numpy() for name in outputs}
arrays["pixels"] = processor(images=Image.open("image.png").convert("RGB"))["pixel_values"].numpy()
numpy.savez("found.npz", **arrays)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("huggingface")
    make_language_model(folder / "bert")
    save(folder / "last.ckpt", settings(folder / "bert", pooling="mean"))
    export(folder / "last.ckpt", out=folder / "model", format="huggingface")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90), dtype=np.uint8)).save(folder / "image.png")
    return folder


@pytest.mark.slow
def test_a_new_process_gets_the_same_through_transformers(place, tmp_path):
    away = shutil.copytree(place / "model", tmp_path / "model").parent
    shutil.copy(place / "image.png", away)
    _, snippet = snippets(away / "model" / "README.md")
    python(snippet + CODE, away)
    found = np.load(away / "found.npz")

    model = medvlp.load(place / "last.ckpt")
    images = model.read_many([place / "image.png"])
    image, text = model.embedding(images), model.text_embedding(TEXTS)
    expected = {"image_embeds": image, "text_embeds": text, "tags": model.tags(images), "pixels": images}
    expected |= {"logits_per_image": image @ text.T, "logits_per_text": text @ image.T}
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_medvlp_reads_the_same_folder(place):
    assert medvlp.load(place / "model").spaces == medvlp.load(place / "last.ckpt").spaces


def test_without_medvlp_the_error_names_it(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "medvlp.export.huggingface", None)
    with pytest.raises(ImportError, match="classes of medvlp"):
        runpy.run_path(str(place / "model" / "modeling_medvlp.py"))


def test_what_is_no_folder_comes_from_the_hub(place, monkeypatch):
    asked = []
    monkeypatch.setattr(huggingface, "snapshot_download", lambda *a, **k: asked.append((a, k)) or str(place / "model"))
    MedVLPProcessor.from_pretrained("somebody/model", revision="main", trust_remote_code=True)
    model = MedVLPModel.from_pretrained("somebody/model", revision="main", trust_remote_code=True)
    assert asked == [(("somebody/model",), {"revision": "main"})] * 2
    assert not model.training


def test_the_parameters_move_with_the_model(place):
    model = MedVLPModel.from_pretrained(str(place / "model")).to("meta")
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"meta"}
    assert {p.device.type for p in model.text.encoder.language_model.parameters()} == {"meta"}


@pytest.mark.parametrize("options", [{"dtype": torch.bfloat16}, {"device_map": "auto"}])
def test_other_ways_to_load_are_refused(place, options):
    with pytest.raises(UserError, match="move it with"):
        MedVLPModel.from_pretrained(str(place / "model"), **options)


def test_a_model_is_not_saved_without_what_it_needs(place, tmp_path):
    with pytest.raises(UserError, match="copy the folder"):
        MedVLPModel.from_pretrained(str(place / "model")).save_pretrained(tmp_path)


def test_unreadable_images_are_named(place, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"broken\.png.*not a known format"):
        MedVLPProcessor.from_pretrained(str(place / "model"))(images=[tmp_path / "broken.png"])
