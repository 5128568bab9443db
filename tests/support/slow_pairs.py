"""The losses and similarities of images with sentences as loops written from their formulas, in double precision."""

import math

import numpy as np


def slow_attended_cosine(image, text, temperature):
    """RadZero's VL-CABS of one image (P, D) and one text (D,), all of length 1; tokens of zeros are padding."""
    image, text = np.asarray(image, np.float64), np.asarray(text, np.float64)
    tokens = [token for token in image if token.any()]
    cosine = [sum(a * b for a, b in zip(token, text, strict=True)) for token in tokens]
    raised = [math.exp(c / temperature) for c in cosine]
    attended = np.zeros(len(text))
    for token, weight in zip(tokens, raised, strict=True):
        attended += token * weight / sum(raised)
    return float(attended @ text / math.sqrt(attended @ attended))


def slow_multi_positive_loss(logits, positive, negative):
    """InfoNCE over the negatives of either side of each positive pair, the mean over the positives of each text."""
    logits = np.asarray(logits, np.float64)
    images, texts = logits.shape
    of_text = []
    for m in range(texts):
        costs = []
        for n in range(images):
            if not positive[n, m]:
                continue
            own = math.exp(logits[n, m])
            other_texts = sum(math.exp(logits[n, k]) for k in range(texts) if negative[n, k])
            other_images = sum(math.exp(logits[k, m]) for k in range(images) if negative[k, m])
            costs.append((-math.log(own / (own + other_texts)) - math.log(own / (own + other_images))) / 2)
        if costs:
            of_text.append(sum(costs) / len(costs))
    return sum(of_text) / len(of_text) if of_text else 0.0


def slow_pairs(studies, order, kept, alike):
    """Masks of positive and negative pairs of the studies in an order with their kept sentences."""
    sentences = [(i, j) for i in order for j in range(len(studies.saying[i]))]

    def same(a, b):
        saying, statement = ([of_study[i][j] for i, j in (a, b)] for of_study in (studies.saying, studies.statement))
        return saying[0] == saying[1] or statement[0] == statement[1] != 0

    positive, negative = [], []
    for i in order:
        mine = [s for s in sentences if s[0] == i]
        said = [any(same(s, own) for own in mine) for s in sentences]
        own = [s[0] == i for s in sentences]
        positive.append([a or b for a, b in zip(own, said, strict=True)] if alike == "positive" else own)
        out = own if alike == "negative" else said
        negative.append([not x and bool(mine) for x in out])
    columns = [s for s, (i, j) in enumerate(sentences) if kept(i, j)]
    return np.array(positive)[:, columns], np.array(negative)[:, columns], [sentences[s] for s in columns]
