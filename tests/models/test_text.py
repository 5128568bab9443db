"""The text encoder against a slow computation with transformers, its cache, and what of it is trained."""

import json
import subprocess
import sys

import pytest
import torch
from transformers import BertModel, BertTokenizerFast

from medvlp.errors import UserError
from medvlp.models import HFTextEncoder
from tests.support.tiny import make_language_model

TEXTS = ["no effusion .", "", "there is large left pleural effusion .", "normal", "no " * 40, "unheard-of words"]


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return make_language_model(tmp_path_factory.mktemp("bert") / "bert")


def slow_embedding(folder, text, pooling, max_length):
    """One text at a time, so that nothing is padded."""
    model, tokenizer = BertModel.from_pretrained(folder).eval(), BertTokenizerFast.from_pretrained(folder)
    pieces = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))[: max_length - 2]
    ids = torch.tensor([[tokenizer.cls_token_id, *pieces, tokenizer.sep_token_id]])
    with torch.no_grad():
        hidden = model(input_ids=ids).last_hidden_state[0]
    return hidden[0] if pooling == "cls" else hidden.mean(0)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("max_length", [256, 6])
@pytest.mark.parametrize("trainable_layers", [0, None])
def test_equals_a_slow_computation(language, pooling, max_length, trainable_layers):
    encoder = HFTextEncoder(str(language), trainable_layers, pooling, max_length).eval()
    expected = torch.stack([slow_embedding(language, text, pooling, max_length) for text in TEXTS])
    with torch.no_grad():
        torch.testing.assert_close(encoder(TEXTS), expected, rtol=1e-4, atol=1e-5)
    assert encoder.width == 16


def test_more_texts_than_a_batch_of_the_encoder(language):
    encoder = HFTextEncoder(str(language))
    texts = [f"{'no ' * i}effusion" for i in range(35)]
    torch.testing.assert_close(encoder(texts), torch.cat([encoder([t]) for t in texts]), rtol=1e-4, atol=1e-5)


def test_a_frozen_model_is_no_part_of_the_module(language):
    encoder = HFTextEncoder(str(language))
    assert not list(encoder.parameters())
    assert not encoder.state_dict()
    assert not list(encoder.children())
    encoder.train()
    torch.testing.assert_close(encoder(TEXTS), encoder(TEXTS), rtol=0, atol=0)
    assert not encoder(TEXTS).requires_grad


def test_a_trained_model_is(language):
    encoder = HFTextEncoder(str(language), trainable_layers=None)
    assert all(module.training for module in encoder.modules())
    assert not torch.allclose(encoder(TEXTS), encoder(TEXTS))  # dropout
    assert all(p.requires_grad for p in encoder.parameters())
    encoder(TEXTS).sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())  # DistributedDataParallel would stop


def test_last_layers_are_trained(language):
    encoder = HFTextEncoder(str(language), trainable_layers=1)
    trained = {name.split("layer.")[-1][0] for name, p in encoder.named_parameters() if p.requires_grad}
    assert trained == {"1"}
    frozen = [name for name, p in encoder.named_parameters() if not p.requires_grad]
    assert any("embeddings" in name for name in frozen)
    assert any("layer.0" in name for name in frozen)


def test_cached_equals_uncached(language, tmp_path):
    bare, encoder = HFTextEncoder(str(language)), HFTextEncoder(str(language))
    encoder.open_cache(tmp_path)
    assert list(encoder.cache.missing(TEXTS)) == TEXTS
    for _ in range(2):
        torch.testing.assert_close(encoder(TEXTS), bare(TEXTS), rtol=1e-4, atol=1e-5)
    assert not encoder.cache.missing(TEXTS)


def test_what_is_cached_is_not_embedded_again(language, tmp_path):
    first = HFTextEncoder(str(language))
    first.open_cache(tmp_path)
    first.fill(TEXTS)
    second = HFTextEncoder(str(language))
    second.open_cache(tmp_path)
    second._embed = None
    torch.testing.assert_close(second([*TEXTS, TEXTS[0]]), first([*TEXTS, TEXTS[0]]), rtol=0, atol=0)


def change_weights(folder):
    model = BertModel.from_pretrained(folder)
    with torch.no_grad():
        model.encoder.layer[0].output.dense.bias[3] += 1e-3
    model.save_pretrained(folder)


def change_tokenizer(folder):
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "do_lower_case": False}))


@pytest.mark.parametrize("options", [{"pooling": "mean"}, {"max_length": 5}])
def test_other_options_have_another_cache(language, tmp_path, options):
    encoder, other = HFTextEncoder(str(language)), HFTextEncoder(str(language), **options)
    encoder.open_cache(tmp_path)
    encoder(TEXTS)
    other.open_cache(tmp_path)
    assert other.cache.missing(TEXTS) == TEXTS


@pytest.mark.parametrize("change", [None, change_weights, change_tokenizer])
def test_other_models_have_another_cache(tmp_path, change):
    folder = make_language_model(tmp_path / "bert")
    encoder = HFTextEncoder(str(folder))
    encoder.open_cache(tmp_path / "text")
    encoder(TEXTS)
    # The cache does not hang on where the folder lies.
    moved = folder.rename(tmp_path / "elsewhere").rename(tmp_path / "again").rename(tmp_path / "bert")
    if change:
        change(moved)
    other = HFTextEncoder(str(moved))
    other.open_cache(tmp_path / "text")
    assert other.cache.missing(TEXTS) == (TEXTS if change else [])


def test_the_use_of_the_tokenizer_does_not_change_the_cache(language, tmp_path):
    encoder = HFTextEncoder(str(language))
    encoder.open_cache(tmp_path)
    encoder(TEXTS)
    encoder.open_cache(tmp_path)
    assert not encoder.cache.missing(TEXTS)


def test_dropout_embeds_anew(language, tmp_path):
    encoder = HFTextEncoder(str(language), dropout=True)
    encoder.open_cache(tmp_path)
    assert not torch.allclose(encoder(TEXTS), encoder(TEXTS))
    assert not list(tmp_path.iterdir())
    assert not list(encoder.parameters())


def test_a_model_that_embeds_at_each_step_follows_the_device(language):
    encoder = HFTextEncoder(str(language), dropout=True).to("meta")
    assert next(encoder._frozen[0].parameters()).device.type == "meta"


@pytest.mark.parametrize("cached", [False, True])
def test_fp32_under_autocast(language, tmp_path, cached):
    encoder = HFTextEncoder(str(language))
    expected = encoder(TEXTS)
    if cached:
        encoder.open_cache(tmp_path)
    with torch.autocast("cpu", torch.bfloat16):
        got = encoder(TEXTS)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_unknown_model_is_refused_in_one_line():
    # In a process of its own, because the hub reads its settings at import.
    code = (
        "import time, medvlp.models as m; from medvlp.errors import UserError; start = time.perf_counter()\n"
        "try: m.HFTextEncoder('nobody/no-such-model')\n"
        "except UserError as e: print(round(time.perf_counter() - start), e)"
    )
    environment = {"HF_HUB_OFFLINE": "1", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    (line,) = done.stdout.splitlines()
    assert "name='nobody/no-such-model' could not be loaded" in line
    assert "local folder" in line
    assert int(line.split()[0]) <= 5


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="could not be loaded") as error:
        HFTextEncoder(str(tmp_path))
    assert "\n" not in str(error.value)
