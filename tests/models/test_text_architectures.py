"""Text encoders of many architectures: features as transformers' own, words, layers, cache, and CXR-BERT as a BERT."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from medvlp.errors import UserError
from medvlp.models import HFTextEncoder
from medvlp.models.language import parameters_by_depth
from medvlp.types import SentenceBatch
from tests.models.test_language import FAMILIES, SIZE, SPECIAL, WIDE
from tests.support.tiny import WORDS

pytestmark = pytest.mark.slow

PIECES = [*SPECIAL, *WORDS, "pneumo", "##thorax", "##s", "##es", "mass", "opaci", "##ties"]
REPORT = "large pneumothorax . no masses . there is left pleural effusion . opacities"
SENTENCES = ["large pneumothorax .", "no masses .", "opacities"]
CXR_BERT = "cxr-bert"
# Those of the families in test_language that read both ways, and need no tokenizer of their own.
NAMES = [name for name, (_, both_ways, _) in FAMILIES.items() if both_ways] + [CXR_BERT]


def make_tokenizer():
    """A fast tokenizer with word pieces, such as "pneumo" and "##thorax"."""
    vocabulary = {piece: i for i, piece in enumerate(PIECES)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)])
    marks = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"}
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks)


def make_cxr_bert(folder):
    """Save a tiny CXR-BERT in its published layout: a BERT under `bert.`, two heads, and code that nobody may run."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PIECES[5:]]))
    config = hf.BertConfig(**SIZE, **WIDE, vocab_size=len(PIECES), hidden_dropout_prob=0.25)
    torch.manual_seed(0)
    whole = hf.BertForMaskedLM(config)
    state = {key: value.clone() for key, value in whole.state_dict().items() if "decoder" not in key}
    head = {"dense_to_hidden.weight": (8, 16), "dense_to_hidden.bias": (8,), "LayerNorm.weight": (8,)}
    state |= {f"cls_projection_head.{key}": torch.randn(shape) for key, shape in head.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    code = {"AutoConfig": "configuration_cxrbert.CXRBertConfig", "AutoModel": "modeling_cxrbert.CXRBertModel"}
    named = {"model_type": "cxr-bert", "architectures": ["CXRBertModel"], "auto_map": code, "projection_size": 8}
    (folder / "config.json").write_text(json.dumps({**config.to_dict(), **named}))
    own = {"AutoTokenizer": ["configuration_cxrbert.CXRBertTokenizer", None]}
    settings = {"tokenizer_class": "CXRBertTokenizer", "auto_map": own, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for module in ("configuration_cxrbert.py", "modeling_cxrbert.py"):
        (folder / module).write_text("raise SystemExit('code of the folder has run')\n")
    return whole.bert.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made, bare = {}, {}
    for name in NAMES:
        folder = tmp_path_factory.mktemp("models") / name
        if name == CXR_BERT:
            bare[name] = make_cxr_bert(folder)
        else:
            tokenizer, config = make_tokenizer(), FAMILIES[name][0]
            config.vocab_size = len(tokenizer)
            torch.manual_seed(0)
            hf.AutoModel.from_config(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            kind = hf.T5EncoderModel if name == "t5" else hf.AutoModel
            bare[name] = kind.from_pretrained(folder).eval()
        made[name] = str(folder)
    return made, bare


def hidden_states(model, encoder, text):
    """Last hidden states of one text, and the word of each token, by transformers alone."""
    tokens = encoder.tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        return model(tokens["input_ids"]).last_hidden_state[0], tokens.word_ids(0), tokens


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trainable", [0, None])
def test_features_are_those_of_transformers(folders, name, trainable):
    path, model = folders[0][name], folders[1][name]
    for pooling in ("cls", "mean"):
        encoder = HFTextEncoder(path, trainable, pooling, max_length=32).eval()
        hidden, *_ = hidden_states(model, encoder, REPORT)
        expected = hidden[0] if pooling == "cls" else hidden.mean(0)
        with torch.no_grad():
            torch.testing.assert_close(encoder([REPORT, "no"])[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_words_are_sums_of_their_pieces(folders, name):
    path, model = folders[0][name], folders[1][name]
    encoder = HFTextEncoder(path, None, max_length=32).eval()
    hidden, word_ids, tokens = hidden_states(model, encoder, REPORT)
    expected, sentences = [], []
    for s, sentence in enumerate(SENTENCES):
        start = REPORT.index(sentence)
        for word in range(max(w for w in word_ids if w is not None) + 1):
            pieces = [i for i, w in enumerate(word_ids) if w == word]
            span = tokens.token_to_chars(0, pieces[0])
            if start <= span.start < start + len(sentence):
                expected.append(hidden[pieces].sum(0))
                sentences.append(s)
    assert max(word_ids.count(w) for w in set(word_ids) - {None}) > 1  # "pneumothorax" has two pieces
    places = [(0, REPORT.index(s), REPORT.index(s) + len(s)) for s in SENTENCES]
    empty = torch.zeros(0)
    place = torch.from_numpy(np.array(places, np.int64))
    said = SentenceBatch(SENTENCES, empty, empty, empty, empty, place, empty, empty)
    with torch.no_grad():
        report, words, sentence = encoder.read([REPORT], said, pooled=True)
    torch.testing.assert_close(words, torch.stack(expected), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(report[0], hidden[0], rtol=1e-4, atol=1e-5)
    assert sentence.tolist() == sentences


@pytest.mark.parametrize("name", NAMES)
def test_each_layer_has_its_parameters(folders, name):
    model = HFTextEncoder(folders[0][name], None, max_length=32).language_model
    names = {parameter: key for key, parameter in model.named_parameters()}
    groups = parameters_by_depth(model)
    assert sorted(names[p] for group in groups for p in group) == sorted(names.values())  # each once
    if name == "albert":
        assert len(groups) == 1
        return
    assert len(groups) == 4
    for depth, group in enumerate(groups):
        inside = {".".join(part for part in names[p].split(".") if part.isdigit())[:1] for p in group} - {""}
        assert inside == ({str(depth - 1)} if depth else set())
    assert any("embed" in names[p] or "shared" in names[p] for p in groups[0])
    assert not any("embed" in names[p] for p in groups[-1])
    final = [key for key in names.values() if "final" in key]
    assert {names[p] for p in groups[-1]} >= {*final}
    assert HFTextEncoder(folders[0][name], 0, max_length=32).parameters_by_depth() == []


@pytest.mark.parametrize("name", NAMES)
def test_a_cache_belongs_to_one_encoder(folders, name, tmp_path):
    path = folders[0][name]
    made = {
        key: HFTextEncoder(path, max_length=length, pooling=pooling).identity()
        for key, pooling, length in (("a", "cls", 32), ("b", "cls", 32), ("c", "mean", 32), ("d", "cls", 31))
    }
    assert made["a"] == made["b"]
    assert len(set(made.values())) == 3
    encoder = HFTextEncoder(path, max_length=32)
    with torch.no_grad():
        next(encoder.language_model.parameters())[0] += 1e-3
    assert encoder.identity() not in made.values()
    encoder.open_cache(tmp_path)
    expected = encoder.constant([REPORT])
    torch.testing.assert_close(encoder([REPORT]), expected, rtol=1e-5, atol=1e-6)
    encoder.write(tmp_path)
    again = HFTextEncoder(str(tmp_path / "text_encoder"), max_length=32)
    torch.testing.assert_close(again([REPORT]), encoder.constant([REPORT]), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trainable", [None, 1])
def test_gradient_checkpointing_changes_no_gradient(folders, name, trainable):
    if name in ("albert", "mpnet"):
        with pytest.raises(UserError, match="gradient_checkpointing=true, but transformers has none for"):
            HFTextEncoder(folders[0][name], None, max_length=32, gradient_checkpointing=True)
        return
    gradients, kept = [], []
    for option in (False, True):
        encoder = HFTextEncoder(folders[0][name], trainable, max_length=32, gradient_checkpointing=option)
        saved = 0

        def count(tensor):
            nonlocal saved
            saved += tensor.numel()
            return tensor

        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = encoder([REPORT, "no effusion ."] * 4).square().sum()
        loss.backward()
        gradients.append({k: p.grad for k, p in encoder.named_parameters() if p.requires_grad})
        kept.append(saved)
    assert gradients[0]
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient, rtol=1e-4, atol=1e-5, msg=key)
    assert kept[1] < kept[0]


def test_gradient_checkpointing_of_a_frozen_encoder_is_refused(folders):
    with pytest.raises(UserError, match="gradient_checkpointing=true, but it is frozen"):
        HFTextEncoder(folders[0]["bert"], 0, max_length=32, gradient_checkpointing=True)


def test_cxr_bert_is_a_bert(folders, tmp_path):
    encoder = HFTextEncoder(folders[0][CXR_BERT], layers=2, trainable_layers=1, max_length=32)
    assert type(encoder.language_model) is hf.BertModel
    trained = {key for key, p in encoder.named_parameters() if p.requires_grad}
    assert trained
    assert all("layer.1." in key for key in trained)
    # What is exported needs no code either, and says that it is a BERT.
    encoder.write(tmp_path)
    written = json.loads((tmp_path / "text_encoder" / "config.json").read_text())
    assert written["model_type"] == "bert"
    assert "auto_map" not in written


def change(folder, into, **settings):
    into.mkdir()
    for path in folder.iterdir():
        (into / path.name).write_bytes(path.read_bytes())
    content = json.loads((into / "config.json").read_text())
    (into / "config.json").write_text(json.dumps({**content, **settings}))
    return into


@pytest.mark.parametrize("name", ["bert", CXR_BERT, "modernbert"])
def test_weights_that_are_not_those_of_the_config_are_refused(folders, tmp_path, name):
    folder = Path(folders[0][name])
    # ModernBERT lists the kinds of its layers, too.
    message = "could not be loaded" if name == "modernbert" else r"are missing, 0 have no place, such as '.*\.3\."
    with pytest.raises(UserError, match=message) as error:
        HFTextEncoder(str(change(folder, tmp_path / "deeper", num_hidden_layers=4)), max_length=32)
    assert "\n" not in str(error.value)
    lacking = change(folder, tmp_path / "lacking")
    state = load_file(lacking / "model.safetensors")
    gone = next(key for key in state if "embeddings.norm" in key or "LayerNorm" in key)
    del state[gone]
    save_file(state, lacking / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="1 tensors are missing"):
        HFTextEncoder(str(lacking), max_length=32)


def test_an_unknown_type_that_is_no_bert_is_refused(folders, tmp_path):
    folder = change(Path(folders[0]["bert"]), tmp_path / "other", model_type="own", auto_map={"AutoConfig": "own.Own"})
    content = json.loads((folder / "config.json").read_text())
    del content["type_vocab_size"]
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "own.py").write_text("raise SystemExit('code of the folder has run')\n")
    with pytest.raises(UserError, match="could not be loaded") as error:
        HFTextEncoder(str(folder), max_length=32)
    assert "\n" not in str(error.value)
