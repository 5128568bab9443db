"""A model for use: what its methods return does not depend on company, and is what the task says."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import medvlp
from medvlp.errors import NotFoundError, UserError
from medvlp.inference.model import DEFAULT_FINDINGS, PART, Model
from medvlp.inference.reading import read_file
from medvlp.protocols import Protocol
from tests.support.untrained import CROP, make_checkpoint


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def model(place):
    return medvlp.load(make_checkpoint(place))


@pytest.fixture(scope="module")
def images():
    return torch.randint(256, (PART + 7, CROP, CROP), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


# The processes that decode files import the second and the third.
@pytest.mark.parametrize("module", ["medvlp", "medvlp.inference.reading", "medvlp.prepare.chunks"])
def test_importing_it_is_light(module):
    code = f"import sys, medvlp, {module}; print('torch' in sys.modules, callable(medvlp.load))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"


@pytest.mark.slow
def test_files_are_read_as_the_task_sees_them(model, tmp_path):
    paths = []
    for i, suffix in enumerate(("png", "jpg")):
        paths.append(tmp_path / f"{i}.{suffix}")
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (90, 60), np.uint8)).save(paths[-1])
    seen = model.read_many(paths)
    assert seen.shape == (2, CROP, CROP)
    assert seen.dtype == torch.uint8
    for path, image in zip(paths, seen, strict=True):
        assert (read_file(path, model.preprocessing)[0] == image.numpy()).all()
        assert (model.read(str(path)) == image).all()
    assert model.read_many([]).shape == (0, CROP, CROP)


def test_unreadable_files_are_named(model, tmp_path):
    with pytest.raises(NotFoundError, match=r"image '.*nowhere.png': no such file"):
        model.read(tmp_path / "nowhere.png")
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(UserError, match=r"image '.*a.png' cannot be read: unreadable image"):
        model.read(tmp_path / "a.png")


def test_embeddings_are_those_of_the_task(model, images):
    task = model.task
    with torch.inference_mode():
        expected = task.embed_images(task.image_encoder(images[:4]))
        texts = task.embed_texts(["no effusion", "large left effusion"])
    assert model.spaces == list(expected) == list(texts)
    for space, rows in model.embed_images(images[:4]).items():
        torch.testing.assert_close(rows, expected[space])
    for space, rows in model.embed_texts(["no effusion", "large left effusion"]).items():
        torch.testing.assert_close(rows, texts[space])


def test_a_product_of_embeddings_is_the_mean_cosine(model, images):
    texts = ["no effusion", "large cardiomegaly .", "normal"]
    image, text = model.embed_images(images), model.embed_texts(texts)
    mean = torch.stack([image[space] @ text[space].T for space in model.spaces]).mean(0)
    joined = model.embedding(images) @ model.text_embedding(texts).T
    torch.testing.assert_close(joined, mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.embedding(images).norm(dim=1), torch.ones(len(images)))


@pytest.mark.parametrize("protocol", ["medvlp", "tags", "chexzero"])
def test_scores_do_not_depend_on_company(model, images, protocol):
    findings = ["Pleural Effusion", "Cardiomegaly"]
    together = model.scores(images, findings, protocol)
    assert together.dtype == torch.float64
    assert together.shape == (len(images), 2)
    assert together.std(0).min() > 0
    alone = torch.cat([model.scores(image[None], findings, protocol) for image in images[:5]])
    torch.testing.assert_close(alone, together[:5], atol=1e-6, rtol=0)
    backwards = model.scores(images.flip(0), findings[::-1], protocol).flip(0, 1)
    torch.testing.assert_close(backwards, together, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.scores(model.features(images), findings, protocol), together, atol=1e-6, rtol=0)


def test_prompts_are_those_that_are_asked(model, images):
    """What was embedded for one question does not answer the next."""
    first = model.scores(images[:3], ["Edema"])
    model.scores(images[:3], ["Cardiomegaly", "No Finding"], "chexzero")
    torch.testing.assert_close(model.scores(images[:3], ["Edema"]), first)
    assert model.scores(images[:3]).shape == (3, len(DEFAULT_FINDINGS))
    read = Protocol.read("medvlp")
    assert model.task.zero_shot_scores(model.embed_images(images[:3]), ["Edema"], read).allclose(first)


def test_tags_are_those_of_the_decoder(model, images):
    tags = model.tags(images)
    assert tags.shape == (len(images), len(model.tag_names))
    assert model.tag_names[:2] == ["pleural effusion", "opacity"]
    with torch.inference_mode():
        expected = model.task.objectives["tag"].logits(model.features(images)).sigmoid()
    torch.testing.assert_close(tags, expected, atol=1e-6, rtol=0)
    assert ((tags > 0) & (tags < 1)).all()


def test_heat_maps_of_each_source(model, images):
    assert model.heat_sources == ["region", "global", "tag"]
    for source in model.heat_sources:
        heat = model.heat_map(images[0], "left pleural effusion", source)
        assert heat.ndim == 2
        with torch.inference_mode():
            assert heat.equal(model.task.text_heat_maps(images[:1], ["left pleural effusion"], source)[0, 0])
    assert model.heat_map(images[0], "normal").equal(model.heat_map(images[0], "normal", "region"))


def test_no_images_give_no_rows(model, images):
    none = images[:0]
    assert model.embedding(none).shape == (0, model.text_embedding(["normal"]).shape[1])
    assert model.tags(none).shape == (0, len(model.tag_names))
    assert model.scores(none, ["Edema"]).shape == (0, 1)


@pytest.mark.parametrize("wrong", [torch.zeros(1, 32, 32), torch.zeros(32, 32, dtype=torch.uint8)])
def test_images_of_another_kind_are_refused(model, wrong):
    with pytest.raises(ValueError, match=r"images must be uint8 \(N, H, W\), not"):
        model.embed_images(wrong)


@pytest.mark.slow
def test_what_a_model_lacks_is_said(place, images):
    tags = Model.load(make_checkpoint(place, ("tag",)))
    assert tags.spaces == []
    assert tags.heat_sources == ["tag"]
    assert tags.embed_images(images[:2]) == {}
    for ask in (lambda: tags.scores(images[:2]), lambda: tags.embedding(images[:2])):
        with pytest.raises(UserError, match="no joint space"):
            ask()
    assert tags.scores(images[:2], ["Edema"], "tags").shape == (2, 1)
    plain = Model.load(make_checkpoint(place, ("report",)))
    assert plain.tag_names == []
    with pytest.raises(UserError, match="no tag decoder"):
        plain.tags(images[:2])
    with pytest.raises(UserError, match="no tag decoder"):
        plain.scores(images[:2], ["Edema"], "tags")


@pytest.mark.slow
def test_wrong_names_are_said(model, place, images):
    with pytest.raises(NotFoundError, match=r"weights='nowhere'"):
        medvlp.load("nowhere")
    with pytest.raises(UserError, match=r"device='cuda:77'"):
        medvlp.load(make_checkpoint(place), device="cuda:77")
    with pytest.raises(UserError, match=r"device='moon'"):
        model.to("moon")
    with pytest.raises(UserError, match="protocol"):
        model.scores(images[:1], ["Edema"], "chexzeroo")
    with pytest.raises(UserError, match="has no prompts for the label 'Edema'"):
        model.scores(images[:1], ["Edema"], "biovil-rsna")


@pytest.mark.slow
def test_three_lines_in_a_new_process(place):
    path = make_checkpoint(place)
    Image.fromarray(np.full((40, 40), 99, np.uint8)).save(place / "x.png")
    code = (
        f"import medvlp\nmodel = medvlp.load({str(path)!r})\n"
        f"print(model.scores(model.read_many([{str(place / 'x.png')!r}]), ['Edema']).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.home())
    assert done.stdout == "torch.Size([1, 1])\n"
