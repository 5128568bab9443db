"""Scores by protocols against slow loops and today's zero-shot scores; they depend on no other image."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.errors import UserError
from medvlp.parse import LABEL_SETS
from medvlp.protocols import Protocol, tag_columns, tag_scores, zero_shot_scores
from medvlp.protocols.scoring import standardise

SPACES = ["a/findings", "a/impression"]
LABELS = ["Edema", "Pneumonia", "Support Devices"]


def embeddings(rows, seed, dim=6):
    generator = torch.Generator().manual_seed(seed)
    return {s: torch.nn.functional.normalize(torch.randn(rows, dim, generator=generator), dim=1) for s in SPACES}


def made(**changes):
    """A protocol: two findings of one label, unequal numbers of prompts on the two sides."""
    prompts = {
        "pairs": {"positive": ["{}.", "seen {}"], "phrases": {"Support Devices": ["tube", "line"]}},
        "texts": {"Pneumonia": {"positive": ["opacity of pneumonia"]}},
    }
    if changes.get("score", "pair") == "pair":
        prompts["pairs"]["negative"] = ["no {}", "normal", "clear of {}"]
        prompts["texts"]["Pneumonia"]["negative"] = ["normal", "clear"]
    return Protocol.of({"name": "made", "version": 1, "source": "a test", "prompts": prompts, **changes})


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def slow_similarity(image, prompts, pooling):
    """One image with the prompts of one side; `image` and each prompt are lists of vectors, one a space."""
    if pooling == "embedding":
        values = []
        for space, vector in enumerate(image):
            mean = [sum(column) / len(prompts) for column in zip(*(p[space] for p in prompts), strict=True)]
            values.append(dot(vector, mean) / math.sqrt(dot(mean, mean)))
        return sum(values) / len(values)
    each = [sum(dot(v, p[s]) for s, v in enumerate(image)) / len(image) for p in prompts]
    return max(each) if pooling == "max" else sum(each) / len(each)


def slow_scores(protocol, labels, image, text):
    texts = protocol.texts(labels)
    vectors = {t: [text[s][row].tolist() for s in SPACES] for row, t in enumerate(texts)}
    table = []
    for i in range(len(image[SPACES[0]])):
        x, row = [image[s][i].tolist() for s in SPACES], []
        for label in labels:
            findings = []
            for positive, negative in protocol.of_label(label):
                score = slow_similarity(x, [vectors[t] for t in positive], protocol.pooling)
                if negative:
                    against = slow_similarity(x, [vectors[t] for t in negative], protocol.pooling)
                    parts = [math.exp(value / protocol.temperature) for value in (score, against)]
                    score = parts[0] / sum(parts)
                findings.append(score)
            row.append(max(findings))
        table.append(row)
    if protocol.normalise:
        columns = np.array(table)
        table = (columns - columns.mean(0)) / columns.std(0)
    return np.array(table)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from(["embedding", "mean", "max"]),
    st.sampled_from([{"temperature": 1.0}, {"temperature": 0.07}, {"score": "similarity"}]),
    st.sampled_from([None, "images"]),
)
def test_scores_equal_a_slow_loop(seed, pooling, score, normalise):
    protocol = made(pooling=pooling, normalise=normalise, **score)
    image, text = embeddings(7, seed), embeddings(len(protocol.texts(LABELS)), seed + 1)
    got = zero_shot_scores(protocol, LABELS, image, text)
    np.testing.assert_allclose(got, slow_scores(protocol, LABELS, image, text), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in Protocol.names() if name != "tags"])
@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_scores_depend_on_no_other_image(name, batch_size):
    protocol = Protocol.read(name)
    labels = protocol.prompts.labels or LABELS
    image, text = embeddings(50, 0, 64), embeddings(len(protocol.texts(labels)), 1, 64)
    whole, order = zero_shot_scores(protocol, labels, image, text), torch.randperm(50)
    batches = [
        zero_shot_scores(protocol, labels, {s: image[s][rows] for s in SPACES}, text)
        for rows in order.split(batch_size)
    ]
    different = (torch.cat(batches) - whole[order]).abs().max().item()
    if protocol.normalise and batch_size < 50:
        assert different > 0.01
    else:
        assert different < 1e-12


def test_one_label_of_several():
    """Embeddings of images that are those of one class's prompts."""
    protocol = Protocol.read("cxrclip-5x200")
    labels = protocol.prompts.labels
    texts = protocol.texts(labels)
    text = {"a": torch.nn.functional.normalize(torch.randn(len(texts), 512), dim=1)}
    for number, label in enumerate(labels):
        rows = [texts.index(t) for t in protocol.of_label(label)[0].positive]
        image = {"a": torch.nn.functional.normalize(text["a"][rows].mean(0, keepdim=True), dim=1)}
        assert zero_shot_scores(protocol, labels, image, text).argmax(1).tolist() == [number]


def test_standardised_scores():
    scores = torch.randn(30, 2, dtype=torch.double) * torch.tensor([3.0, 0.1]) + 5
    standard = standardise(torch.cat([scores, torch.full((30, 1), 0.3)], 1))
    np.testing.assert_allclose(standard[:, :2], ((scores - scores.mean(0)) / scores.std(0, correction=0)))
    assert standard[:, 2].abs().max() < 1e-6
    torch.testing.assert_close(standardise(scores[:1]), scores[:1])


def test_tags_stand_for_labels():
    protocol, tags = Protocol.read("tags"), list(LABEL_SETS["asg"])
    probability = torch.rand(9, len(tags))
    got = tag_scores(protocol, ["Edema", "Lung Lesion"], probability, tags)
    chosen = [tags.index(name) for name in ("nodule", "mass", "lesion")]
    assert got[:, 0].tolist() == probability[:, tags.index("edema")].tolist()
    assert got[:, 1].tolist() == probability[:, chosen].max(1).values.tolist()


def test_a_decoder_of_the_labels_themselves():
    protocol, tags = Protocol.read("tags"), list(LABEL_SETS["chexpert"])
    probability = torch.rand(9, len(tags))
    got = tag_scores(protocol, tags, probability, tags)
    assert got.tolist() == probability.double().tolist()
    assert tag_columns(protocol, "Hernia", tags) == []
    with pytest.raises(UserError, match="no tag of the decoder stands for the label 'Hernia'"):
        tag_scores(protocol, ["Hernia"], probability, tags)
    with pytest.raises(UserError, match="no tag of the decoder stands for the label 'No Finding'"):
        tag_scores(protocol, ["No Finding"], torch.rand(9, 40), list(LABEL_SETS["asg"]))
