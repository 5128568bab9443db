"""MedCLIP's and UniCL's losses against loops written from their formulas."""

import math

import numpy as np
import pytest
import torch

from medvlp.losses import label_contrast_loss, semantic_matching_loss

SIZES = [(6, 9), (1, 4), (5, 1), (0, 3), (4, 0)]


def cosine(a, b):
    norms = math.sqrt(a @ a) * math.sqrt(b @ b)
    return a @ b / norms if norms else 0.0


def slow(image, text, image_label, text_label, temperature, target_of):
    """The sum of both directions; `target_of` gives the targets of one row of labels."""
    sides = [np.asarray(side, np.float64) for side in (image, text, image_label, text_label)]
    total = 0.0
    for x, y, x_label, y_label in (sides, [sides[1], sides[0], sides[3], sides[2]]):
        for i in range(len(x)):
            scores = [cosine(x[i], row) / temperature for row in y]
            log_sum = math.log(sum(map(math.exp, scores))) if scores else 0.0
            target = target_of(x_label[i], y_label)
            total -= sum(t * (s - log_sum) for t, s in zip(target, scores, strict=True)) / len(x)
    return total


def matching_target(label, others):
    mass = [math.exp(cosine(label, other)) for other in others]
    return [value / sum(mass) for value in mass]


def equal_target(label, others):
    equal = [bool((label == other).all()) for other in others]
    return [value / max(sum(equal), 1) for value in equal]


def case(images, texts):
    generator = torch.Generator().manual_seed(images + 10 * texts)
    image, text = torch.randn(images, 5, generator=generator), torch.randn(texts, 5, generator=generator)
    labels = torch.randint(-1, 2, (images + texts, 3), generator=generator).float()
    return image, text, labels[:images], labels[images:]


@pytest.mark.parametrize(("images", "texts"), SIZES)
def test_semantic_matching_equals_the_formula(images, texts):
    features = case(images, texts)
    got = semantic_matching_loss(*features, temperature=0.2)
    assert got.item() == pytest.approx(slow(*features, 0.2, matching_target) / 2, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("images", "texts"), SIZES)
def test_label_contrast_equals_the_formula(images, texts):
    image, text, image_label, text_label = case(images, texts)
    features = image, text, image_label > 0, text_label > 0
    got = label_contrast_loss(*features, temperature=0.2)
    assert got.item() == pytest.approx(slow(*features, 0.2, equal_target), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("loss", [semantic_matching_loss, label_contrast_loss])
def test_order_does_not_matter(loss):
    image, text, image_label, text_label = case(6, 9)
    image_label, text_label = image_label.abs(), text_label.abs()
    i, j = torch.randperm(6), torch.randperm(9)
    expected = loss(image, text, image_label, text_label, temperature=0.2)
    torch.testing.assert_close(loss(image[i], text[j], image_label[i], text_label[j], temperature=0.2), expected)


def test_unicl_with_labels_of_one_study_each_is_clip():
    image, text, _, _ = case(5, 5)
    labels = torch.eye(5).bool()
    logits = torch.nn.functional.normalize(image) @ torch.nn.functional.normalize(text).T / 0.1
    own = torch.arange(5)
    expected = torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)
    torch.testing.assert_close(label_contrast_loss(image, text, labels, labels, temperature=0.1), expected)
