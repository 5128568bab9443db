"""Words of sentences: sums of word pieces, each in its own sentence, as far as the report is read."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.data.sentences import StudySentences, collate_sentences
from medvlp.data.statements import Statements
from medvlp.models import HFTextEncoder
from tests.support.tiny import WORDS, make_language_model

PIECES = [*WORDS, "##s", "##ly", "heart", "large", "is", ","]


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return str(make_language_model(tmp_path_factory.mktemp("words") / "bert", PIECES))


def sentences_of(reports):
    """Return reports as texts, and those of their sentences that are marked True."""
    texts, studies = [], []
    for report in reports:
        text, spans = "", []
        for sentence, marked in report:
            start = len(text) + bool(text)
            text = f"{text} {sentence}".strip()
            if marked:
                spans.append((start, start + len(sentence)))
        texts.append(text)
        said, none = [text[a:b] for a, b in spans], np.zeros(len(spans), np.int64)
        nothing, place = Statements.nothing(), np.array(spans, np.int64).reshape(-1, 2)
        studies.append(StudySentences(said, place, none, none, nothing.existence[none], nothing.region[none]))
    return texts, collate_sentences(studies)


def slow_words(encoder, texts, sentences):
    """One report and one token at a time."""
    words = []
    for s, sentence in enumerate(sentences.text):
        text = texts[int(sentences.study[s])]
        tokens = encoder.tokenizer(text, return_offsets_mapping=True, truncation=True, max_length=encoder.max_length)
        hidden = encoder.model(torch.tensor([tokens["input_ids"]])).last_hidden_state[0]
        study, start, end = sentences.place[s].tolist()
        assert study == sentences.study[s]
        assert text[start:end] == sentence
        sums, seen = {}, []
        for k, (a, _) in enumerate(tokens["offset_mapping"]):
            word = tokens.word_ids()[k]
            if word is not None and start <= a < end:
                sums[word] = sums.get(word, 0) + hidden[k]
                seen += [word] if word not in seen else []
        words += [(s, sums[word]) for word in seen]
    return words


REPORTS = [
    [("no effusions .", True), ("heart is largely normal", False), ("heart is large .", True)],
    [],
    [("no .", False), ("normal", False)],
    [("small left effusions , right effusions .", True), ("is", True)],
]


@pytest.mark.parametrize("max_length", [256, 8])
def test_words_equal_a_slow_computation(language, max_length):
    encoder = HFTextEncoder(language, trainable_layers=None, max_length=max_length).eval()
    texts, sentences = sentences_of(REPORTS)
    with torch.no_grad():
        report, word, sentence = encoder.read(texts, sentences, True)
        expected = slow_words(encoder, texts, sentences)
        torch.testing.assert_close(report, encoder(texts))
    assert sentence.tolist() == [s for s, _ in expected]
    torch.testing.assert_close(word, torch.stack([w for _, w in expected]), rtol=1e-4, atol=1e-5)
    # The last sentence of a long report is cut off, and has no word.
    assert (len(sentences.text) - 1 in sentence) == (max_length == 256)


@pytest.mark.parametrize("trainable_layers", [None, 0])
def test_a_phrase_is_read_as_a_report_of_one_sentence(language, trainable_layers):
    encoder = HFTextEncoder(language, trainable_layers=trainable_layers).eval()
    texts, sentences = sentences_of([[("no effusions .", True)], [("small left effusions , right effusions .", True)]])
    with torch.no_grad():
        phrases = encoder.phrases(texts)
        report, word, sentence = encoder.read(texts, sentences, True)
    assert phrases.texts == texts
    torch.testing.assert_close(phrases.pooled, report)
    torch.testing.assert_close(phrases.word, word)
    torch.testing.assert_close(phrases.word_phrase, sentence)


def test_no_phrases_and_empty_ones_have_no_words(language):
    encoder = HFTextEncoder(language, trainable_layers=None).eval()
    for texts in ([], [""], ["", ""]):
        assert encoder.phrases(texts).word.shape == (0, encoder.width)


def test_words_carry_gradients(language):
    encoder = HFTextEncoder(language, trainable_layers=1)
    report, word, _ = encoder.read(*sentences_of(REPORTS), False)
    assert report is None
    word.sum().backward()
    assert any(p.grad is not None for p in encoder.parameters())


def test_no_sentence_at_all(language):
    for layers in (None, 0):
        texts, sentences = sentences_of([[("no effusions .", False)], []])
        report, word, sentence = HFTextEncoder(language, trainable_layers=layers).read(texts, sentences, True)
        assert (len(report), tuple(word.shape), len(sentence)) == (2, (0, 16), 0)


def test_a_frozen_encoder_reads_each_sentence_alone(language, tmp_path):
    encoder = HFTextEncoder(language)
    texts, sentences = sentences_of(REPORTS)
    for _ in range(2):
        report, word, sentence = encoder.read(texts, sentences, True)
        torch.testing.assert_close(report, encoder(texts))
        torch.testing.assert_close(word, encoder(sentences.text))
        assert sentence.tolist() == list(range(len(sentences.text)))
        assert encoder.read(texts, sentences, False)[0] is None
        encoder.open_cache(tmp_path)


def test_the_first_layers_are_kept(language):
    encoder, whole = HFTextEncoder(language, None, layers=1), HFTextEncoder(language, None)
    assert len(encoder.model.encoder.layer) == 1
    for ours, theirs in zip(encoder.model.encoder.parameters(), whole.model.encoder.parameters(), strict=False):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from(["heart .", "no effusions", "é 3,5", "İ"]), st.booleans())), min_size=1)
)
def test_every_word_lies_in_its_sentence(language, reports):
    encoder = HFTextEncoder(language, trainable_layers=None, max_length=12).eval()
    texts, sentences = sentences_of(reports)
    with torch.no_grad():
        _, word, sentence = encoder.read(texts, sentences, False)
        expected = slow_words(encoder, texts, sentences)
    assert sentence.tolist() == [s for s, _ in expected]
    if expected:
        torch.testing.assert_close(word, torch.stack([w for _, w in expected]), rtol=1e-4, atol=1e-5)


def test_constant_texts_have_no_dropout(language):
    for layers, dropout in ((None, False), (0, True)):
        encoder = HFTextEncoder(language, trainable_layers=layers, dropout=dropout)
        with torch.no_grad():
            assert not torch.equal(encoder(["heart"]), encoder(["heart"]))
        torch.testing.assert_close(encoder.constant(["heart"]), encoder.constant(["heart"]), rtol=0, atol=0)
        with torch.no_grad():
            assert not torch.equal(encoder(["heart"]), encoder(["heart"]))  # and is back afterwards
