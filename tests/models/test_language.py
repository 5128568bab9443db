"""Language models of other families than BERT: cut, trained in part, pooled, and what none of them can do."""

import numpy as np
import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from medvlp.errors import UserError
from medvlp.models import HFTextEncoder
from medvlp.types import SentenceBatch
from tests.support.tiny import WORDS, make_language_model

TEXTS = ["no effusion .", "", "there is large left pleural effusion .", "normal", "no " * 20, "right effusion"]
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
SIZE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2, "initializer_factor": 3.0}
DISTIL = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32}
MARKS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
WIDE = {"initializer_range": 0.5}
# Config, whether tokens see those behind them, and whether the tokenizer marks the ends of a text.
FAMILIES = {
    "bert": (hf.BertConfig(**SIZE, **WIDE), True, True),
    "roberta": (hf.RobertaConfig(**SIZE, **WIDE, pad_token_id=0, max_position_embeddings=66), True, True),
    "electra": (hf.ElectraConfig(**SIZE, **WIDE, embedding_size=8), True, True),
    "albert": (hf.AlbertConfig(**SIZE, **WIDE, embedding_size=8), True, True),
    "distilbert": (hf.DistilBertConfig(**DISTIL, **WIDE), True, True),
    "mpnet": (hf.MPNetConfig(**SIZE, **WIDE, pad_token_id=0), True, True),
    "deberta": (hf.DebertaConfig(**SIZE, **WIDE, relative_attention=True, pos_att_type=["c2p", "p2c"]), True, True),
    "deberta-v2": (hf.DebertaV2Config(**SIZE, **WIDE, relative_attention=True, pos_att_type=["c2p"]), True, True),
    "modernbert": (hf.ModernBertConfig(**SIZE, **MARKS, **WIDE, initializer_cutoff_factor=9.0), True, True),
    "t5": (hf.T5Config(**T5, pad_token_id=0, eos_token_id=2, decoder_start_token_id=0), True, True),
    "clip": (hf.CLIPTextConfig(**SIZE, pad_token_id=0, bos_token_id=1, eos_token_id=2), False, True),
    "qwen2": (hf.Qwen2Config(**SIZE, **WIDE, num_key_value_heads=1), False, False),
    "gpt2": (hf.GPT2Config(n_embd=16, n_layer=3, n_head=2, bos_token_id=1, eos_token_id=2, **WIDE), False, False),
}
LAYERED = [name for name in FAMILIES if name != "albert"]
CAUSAL = [name for name, (_, both_ways, _) in FAMILIES.items() if not both_ways]


def make_tokenizer(marked, bytewise=False):
    """A fast tokenizer of words, with [CLS] and [SEP] at the ends or without, or of bytes, as GPT-2's."""
    if bytewise:
        pieces = [*SPECIAL, "<|endoftext|>", *pre_tokenizers.ByteLevel.alphabet()]
        tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
        tokenizer.pre_tokenizer, tokenizer.decoder = (
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            decoders.ByteLevel(),
        )
    else:
        pieces = [*SPECIAL, *WORDS]
        tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, "[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if marked:
        tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)])
        marks = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"}
    else:
        # Such as GPT-2's: nothing to pad with, and padded in front if one had it.
        marks = {"bos_token": "[CLS]", "eos_token": "[SEP]", "padding_side": "left"}
    # Those of BERT, of which many a model takes no token_type_ids.
    names = ["input_ids", *(["token_type_ids"] if marked else []), "attention_mask"]
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=names, **marks)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model of each family with weights that tell texts apart, and its tokenizer."""
    made = {}
    for name, (config, _, marked) in FAMILIES.items():
        folder = tmp_path_factory.mktemp(name)
        # Whatever the folder holds, transformers makes Qwen2's of bytes.
        tokenizer = make_tokenizer(marked, bytewise=name == "qwen2")
        config.vocab_size = len(tokenizer)
        torch.manual_seed(0)
        # Of T5 the hub has encoder and decoder.
        model = hf.AutoModel.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if name == "clip" and parameter.ndim > 1:
                    parameter.normal_(std=0.5)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        made[name] = str(folder)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_an_embedding_does_not_depend_on_the_other_texts(folders, name):
    pooling = "mean" if name in CAUSAL else "cls"
    for options in ({}, {"trainable_layers": None}):
        encoder = HFTextEncoder(folders[name], pooling=pooling, max_length=32, **options).eval()
        with torch.no_grad():
            together, alone = encoder(TEXTS), torch.cat([encoder([text]) for text in TEXTS])
        assert together.isfinite().all()
        torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
        gaps = torch.cdist(together, together) + torch.eye(len(TEXTS))
        assert gaps.min() > 1e-2  # each text has its own


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_equals_the_bare_model(folders, name):
    pooling = "mean" if name in CAUSAL else "cls"
    encoder = HFTextEncoder(folders[name], pooling=pooling, max_length=64)
    kind = hf.T5EncoderModel if name == "t5" else hf.AutoModel
    bare, tokenizer = kind.from_pretrained(folders[name]).eval(), hf.AutoTokenizer.from_pretrained(folders[name])
    for text in (text for text in TEXTS if text):
        with torch.no_grad():
            hidden = bare(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0]
        expected = hidden.mean(0) if pooling == "mean" else hidden[0]
        torch.testing.assert_close(encoder([text])[0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERED)
def test_the_first_layers_are_kept(folders, name, tmp_path):
    encoder = HFTextEncoder(folders[name], pooling="mean", max_length=32, layers=2)
    whole = HFTextEncoder(folders[name], pooling="mean", max_length=32)
    assert encoder.language_model.config.num_hidden_layers == 2
    before, after = (sum(p.numel() for p in e.language_model.parameters()) for e in (whole, encoder))
    assert 0.4 * before < after < before
    with torch.no_grad():
        assert not torch.allclose(encoder(TEXTS), whole(TEXTS), rtol=1e-3)
    # What export writes is the model as it was cut.
    encoder.write(tmp_path)
    again = HFTextEncoder(str(tmp_path / "text_encoder"), pooling="mean", max_length=32, layers=2)
    torch.testing.assert_close(again(TEXTS), encoder(TEXTS), rtol=0, atol=0)
    with pytest.raises(UserError, match=r"layers=0.*has 3: pass 1 to 3"):
        HFTextEncoder(folders[name], pooling="mean", max_length=32, layers=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERED)
def test_the_last_layers_are_trained(folders, name):
    encoder = HFTextEncoder(folders[name], trainable_layers=1, pooling="mean", max_length=32)
    trained = {key for key, p in encoder.named_parameters() if p.requires_grad}
    assert trained
    assert all(".2." in key for key in trained)
    encoder(TEXTS).sum().backward()
    lacking = [key for key, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
    assert not lacking  # DistributedDataParallel would stop
    both = HFTextEncoder(folders[name], trainable_layers=1, layers=2, pooling="mean", max_length=32)
    assert all(".1." in key for key, p in both.named_parameters() if p.requires_grad)
    with pytest.raises(UserError, match="trainable_layers=4"):
        HFTextEncoder(folders[name], trainable_layers=4, pooling="mean", max_length=32)


@pytest.mark.parametrize("name", FAMILIES)
def test_all_layers_are_trained(folders, name):
    encoder = HFTextEncoder(folders[name], trainable_layers=None, pooling="mean", max_length=32)
    encoder(TEXTS).square().sum().backward()
    assert not [key for key, p in encoder.named_parameters() if p.grad is None]


@pytest.mark.parametrize("option", [{"layers": 2}, {"trainable_layers": 1}])
def test_shared_layers_are_neither_cut_nor_trained_in_part(folders, option):
    with pytest.raises(UserError, match="AlbertModel has no list of its 3 layers") as error:
        HFTextEncoder(folders["albert"], **option)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", CAUSAL)
def test_the_first_token_of_a_causal_model_is_no_embedding(folders, name):
    for options in ({}, {"trainable_layers": 1}):
        with pytest.raises(UserError, match="pass pooling=mean") as error:
            HFTextEncoder(folders[name], max_length=32, **options)
        assert "\n" not in str(error.value)


def test_a_text_longer_than_the_model_reads_is_refused_before_the_first_step(folders):
    for name, most in (("clip", 77), ("bert", 512), ("roberta", 65)):
        with pytest.raises(UserError, match=f"reads {most} tokens at most"):
            HFTextEncoder(folders[name], pooling="mean", max_length=most + 1)
        encoder = HFTextEncoder(folders[name], pooling="mean", max_length=most)
        assert encoder(["no " * 600]).isfinite().all()


def test_models_that_do_not_read_texts_alone_are_refused(tmp_path):
    tokenizer = make_tokenizer(marked=True)
    text, vision = {**SIZE, "vocab_size": len(tokenizer)}, {**SIZE, "image_size": 32, "patch_size": 16}
    clip = hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    bart = hf.BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=32,
        decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2,
    )  # fmt: skip
    for config in (clip, bart):
        folder = tmp_path / config.model_type
        hf.AutoModel.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        with pytest.raises(UserError, match="does not read texts alone") as error:
            HFTextEncoder(str(folder), pooling="mean", max_length=16)
        assert "\n" not in str(error.value)


def test_weights_in_bf16_are_read_in_fp32(tmp_path):
    folder = make_language_model(tmp_path / "bert")
    hf.AutoModel.from_pretrained(folder).to(torch.bfloat16).save_pretrained(folder)
    encoder = HFTextEncoder(str(folder))
    encoder.open_cache(tmp_path / "text")
    assert encoder(TEXTS).dtype == torch.float32


@pytest.mark.parametrize("bytewise", [False, True])
def test_every_word_of_every_sentence_is_read(folders, tmp_path, bytewise):
    # The offsets of byte-level tokenizers begin at the space in front of a word.
    tokenizer = make_tokenizer(marked=False, bytewise=bytewise)
    config = hf.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2)
    hf.AutoModel.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    encoder = HFTextEncoder(str(tmp_path), trainable_layers=None, pooling="mean", max_length=64).eval()
    report, sentences = "no effusion . normal . left effusion .", ["no effusion .", "normal .", "left effusion ."]
    places = np.array([(0, report.index(s), report.index(s) + len(s)) for s in sentences], np.int64)
    empty = torch.zeros(0)
    batch = SentenceBatch(sentences, *[empty] * 4, torch.from_numpy(places), empty, empty)
    _, words, sentence = encoder.read([report], batch, pooled=False)
    assert sentence.bincount().tolist() == [3, 2, 3]
    assert words.shape == (8, 16)
