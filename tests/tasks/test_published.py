"""Published pairs of encoders: the features and logits of their own implementations."""

import contextlib
import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoTokenizer, BertTokenizer

from medvlp.errors import NotFoundError, UserError
from medvlp.models.pretrained import digest, load_image_encoder
from medvlp.models.published import fingerprint
from medvlp.tasks.checkpoints import load_pretraining
from tests.support.pairs import MEAN, OPEN_CLIP, STD, make_biovil, make_clip, make_open_clip, make_siglip

TEXTS = ["no pleural effusion .", "there is a large left effusion", "cardiomegaly", "", "right " * 40]
SPACE = "shared/report"


def pictures(side):
    """Return two images that are unlike, (2, side, side)."""
    images = np.random.default_rng(0).integers(0, 256, (2, side, side), dtype=np.uint8)
    images[1] = images[1] // 8
    images[1, side // 2 :, : side // 2] += 200
    return images


def ours(task, images):
    features = task.image_encoder(torch.from_numpy(images))
    image, text = task.embed_images(features)[SPACE], task.embed_texts(TEXTS)[SPACE]
    return image, text, task.objectives["shared"].logits(image, text)


def same(seen, image, text, scale, bias=0.0):
    image, text = F.normalize(image, dim=1), F.normalize(text, dim=1)
    torch.testing.assert_close(seen[0], image, atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[1], text, atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[2], scale * image @ text.T + bias, atol=1e-4 * scale, rtol=0)
    # Not all alike, or the above would say nothing.
    assert (image[0] - image[1]).norm() > 1e-3
    assert (text[0] - text[1]).norm() > 1e-3


@pytest.mark.parametrize("kind", OPEN_CLIP)
def test_open_clip(kind, tmp_path):
    model = make_open_clip(tmp_path / "model", kind)
    task = load_pretraining(f"open_clip:{tmp_path / 'model'}")
    side = OPEN_CLIP[kind]["vision_cfg"]["image_size"]
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(size=side, mean=MEAN, std=STD), is_train=False
    )
    images = pictures(side)
    with torch.no_grad():
        image = model.encode_image(torch.stack([transform(Image.fromarray(picture)) for picture in images]))
        text = model.encode_text(open_clip.get_tokenizer(f"local-dir:{tmp_path / 'model'}")(TEXTS))
    bias = 0.0 if model.logit_bias is None else model.logit_bias.item()
    same(ours(task, images), image, text, model.logit_scale.exp().item(), bias)
    preprocessing = task.preprocessing
    assert (preprocessing.size, preprocessing.fit, preprocessing.resize, preprocessing.crop) == (
        side,
        "crop",
        None,
        side,
    )


def test_clip_of_transformers(tmp_path):
    model = make_clip(tmp_path)
    images, processor = pictures(32), AutoImageProcessor.from_pretrained(tmp_path)
    tokens = AutoTokenizer.from_pretrained(tmp_path)(
        TEXTS, padding=True, truncation=True, max_length=12, return_tensors="pt"
    )
    with torch.no_grad():
        pixels = processor([Image.fromarray(picture).convert("RGB") for picture in images], return_tensors="pt")
        image = model.get_image_features(**pixels).pooler_output
        text = model.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output
    task = load_pretraining(f"hf:{tmp_path}")
    same(ours(task, images), image, text, model.logit_scale.exp().item())
    assert (task.preprocessing.size, task.preprocessing.fit, task.preprocessing.crop) == (32, "crop", 32)
    assert task.heat_sources == []


def test_siglip_of_transformers(tmp_path):
    model = make_siglip(tmp_path)
    images, processor = pictures(32), AutoImageProcessor.from_pretrained(tmp_path)
    tokens = AutoTokenizer.from_pretrained(tmp_path)(
        TEXTS, padding="max_length", truncation=True, max_length=12, return_tensors="pt"
    )
    with torch.no_grad():
        pixels = processor([Image.fromarray(picture).convert("RGB") for picture in images], return_tensors="pt")
        image = model.get_image_features(**pixels).pooler_output
        text = model.get_text_features(tokens["input_ids"]).pooler_output
    task = load_pretraining(f"hf:{tmp_path}")
    same(ours(task, images), image, text, model.logit_scale.exp().item(), model.logit_bias.item())
    assert (task.preprocessing.size, task.preprocessing.fit, task.preprocessing.crop) == (32, "squash", 32)
    assert task.heat_sources == ["global"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["biovil-t", "biovil"])
def test_biovil(name, tmp_path):
    image, text = make_biovil(tmp_path / "model", name == "biovil-t")
    images = pictures(96)
    tokens = BertTokenizer.from_pretrained(tmp_path / "model")(
        TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False
    )
    task = load_pretraining(f"{name}:{tmp_path / 'model'}")
    with torch.no_grad():
        patches = image(torch.from_numpy(images)[:, None].repeat(1, 3, 1, 1) / 255)
        seen = ours(task, images)
        same(seen, patches.mean((2, 3)), text(**tokens), float(1 / task.objectives["shared"].temperature.value))
        heat = task.text_heat_maps(torch.from_numpy(images), TEXTS[:2], "patch")
    torch.testing.assert_close(
        heat, torch.einsum("ndhw,md->nmhw", F.normalize(patches, dim=1), seen[1][:2]), atol=1e-4, rtol=0
    )
    assert task.heat_sources == ["patch"]
    assert (task.preprocessing.size, task.preprocessing.fit) == (512, "crop")
    assert task.preprocessing.crop == (448 if name == "biovil-t" else 480)


@pytest.mark.slow
def test_chexzero(tmp_path):
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32-quickgelu").eval()
    torch.save(model.state_dict(), tmp_path / "best.pt")
    task = load_pretraining(f"chexzero:{tmp_path / 'best.pt'}")
    images = pictures(224)
    with torch.no_grad():
        # zero_shot.py of CheXzero, of grey levels from 0 to 255.
        pixels = (torch.from_numpy(images)[:, None].repeat(1, 3, 1, 1).float() - 101.48761) / 83.43944
        image, text = model.encode_image(pixels), model.encode_text(open_clip.tokenize(TEXTS))
    same(ours(task, images), image, text, model.logit_scale.exp().item())
    preprocessing = task.preprocessing
    assert (preprocessing.size, preprocessing.fit, preprocessing.resize, preprocessing.crop) == (320, "pad", 224, 224)


def test_presets_of_downloaded_files(tmp_path):
    make_open_clip(tmp_path / "bert", "bert")
    make_siglip(tmp_path / "siglip")
    for preset, name, side in (("biomedclip", "open_clip", 160), ("medsiglip", "hf", 32)):
        folder = tmp_path / {"open_clip": "bert", "hf": "siglip"}[name]
        images = pictures(side)
        for one, other in zip(
            ours(load_pretraining(f"{preset}:{folder}"), images),
            ours(load_pretraining(f"{name}:{folder}"), images),
            strict=True,
        ):
            assert torch.equal(one, other)
        # The image encoder alone, for a linear probe.
        encoder = load_image_encoder(f"{preset}:{folder}")
        assert digest(encoder) == digest(load_image_encoder(f"{name}:{folder}"))
        assert fingerprint(f"{preset}:{folder}") == fingerprint(f"{name}:{folder}")
    with pytest.raises(NotFoundError, match=r"there is no file .*none\.pt"):
        fingerprint(f"chexzero:{tmp_path / 'none.pt'}")


def test_no_code_of_a_folder_runs(tmp_path):
    folder = tmp_path / "model"
    make_open_clip(folder, "bert")
    content = json.loads((folder / "open_clip_config.json").read_text())
    content["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    for place, name in ((folder, "tokenizer_config.json"), (folder / "language", "config.json")):
        settings = json.loads((place / name).read_text())
        kinds = {"AutoTokenizer": [None, "evil.Evil"], "AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}
        (place / name).write_text(json.dumps(settings | {"auto_map": kinds}))
        (place / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Evil: ...\n")
    with contextlib.suppress(UserError):
        load_pretraining(f"open_clip:{folder}")
    assert not (tmp_path / "ran").exists()


def test_weights_that_do_not_fit_are_refused(tmp_path):
    make_open_clip(tmp_path / "one", "clip")
    make_open_clip(tmp_path / "other", "siglip")
    weights = "open_clip_model.safetensors"
    (tmp_path / "one" / weights).write_bytes((tmp_path / "other" / weights).read_bytes())
    with pytest.raises(UserError, match="tensors are missing or of another shape"):
        load_pretraining(f"open_clip:{tmp_path / 'one'}")
    (tmp_path / "one" / weights).write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"open_clip_model\.safetensors"):
        load_pretraining(f"open_clip:{tmp_path / 'one'}")


def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "clip")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    for name, error, words in (
        ("openclip:x", NotFoundError, "open_clip:..., hf:..., biomedclip"),
        ("nothing.ckpt", NotFoundError, "no such file"),
        ("rad-dino", UserError, "image encoder alone"),
        ("torchxrayvision:densenet121-res224-all", UserError, "image encoder alone"),
        ("chexzero", UserError, "chexzero:FILE"),
        ("chexzero:no.pt", NotFoundError, "no.pt': no such file"),
        ("hf:bert", UserError, "type 'bert'"),
        ("hf:google/medsiglip-448", UserError, "accept its terms and log in"),
        ("open_clip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", UserError, "cannot be had"),
        ("open_clip:clip", UserError, "has no file 'open_clip_config.json'"),
        ("open_clip:NoSuch/openai", UserError, "no model 'NoSuch'"),
        ("biovil-t:clip", UserError, "has no file 'biovil_t_image_model_proj_size_128.pt'"),
        ("clip", UserError, "Is it hf:clip?"),
    ):
        with pytest.raises(error, match=words) as caught:
            load_pretraining(name)
        assert "\n" not in str(caught.value)
