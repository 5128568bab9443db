"""Scores of labels from embeddings or tags under a protocol.

Vectors are compared in double precision, so that neither the number of images nor their order changes a score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.errors import UserError
from medvlp.protocols.protocol import Protocol
from medvlp.types import entry_of, find_label

Embeddings = Mapping[str, Tensor]
"""Normalised embeddings (N, D), or tokens (N, P, D), by space, `objective/section`."""

Compare = Callable[[str, Tensor, Tensor], Tensor]
"""From a space, n images and m texts in it to their similarities (n, m)."""


def cosine_in(space: str, image: Tensor, text: Tensor) -> Tensor:
    """Return the products (N, M) of normalised vectors (N, D) and (M, D), in the precision of the texts."""
    return image.to(text.dtype) @ text.T


def zero_shot_scores(
    protocol: Protocol, labels: Sequence[str], image: Embeddings, text: Embeddings, compare: Compare = cosine_in
) -> Tensor:
    """Score labels in images; a label that stands for several findings has the score of the likeliest finding.

    Args:
        protocol: A protocol with prompts.
        labels: The L labels.
        image: Embeddings of images by space. Similarities are averaged over the spaces.
        text: Embeddings of `protocol.texts(labels)`, in that order.
        compare: The similarity in a space; by default the cosine of vectors.

    Returns:
        float64 (N, L), higher for a likelier label: probabilities for score `pair`, cosines for `similarity`. If one
        label of several is true, the highest score predicts it. Scores are standardised over these images if the
        protocol normalises.

    Raises:
        UserError: If the protocol has no prompts for a label.
    """
    pairs = [pair for label in labels for pair in protocol.of_label(label)]
    sides = list(dict.fromkeys(tuple(side) for pair in pairs for side in pair if side))
    similarity = dict(zip(sides, _side_similarities(protocol, labels, sides, image, text, compare), strict=True))

    def score(positive: Sequence[str], negative: Sequence[str]) -> Tensor:
        if protocol.score == "similarity":
            return similarity[tuple(positive)]
        return pair_probability(similarity[tuple(positive)], similarity[tuple(negative)], protocol.temperature)

    columns = [torch.stack([score(*sides) for sides in protocol.of_label(label)]).amax(0) for label in labels]
    scores = torch.stack(columns, 1)
    return standardise(scores) if protocol.normalise == "images" else scores


def tag_scores(protocol: Protocol, labels: Sequence[str], probability: Tensor, tags: Sequence[str]) -> Tensor:
    """Score labels in images by the tags that stand for them; several tags give the score of the likeliest.

    Args:
        protocol: A protocol with score `tags`.
        labels: The L labels.
        probability: Probabilities from the decoder, (N, T).
        tags: Names of its T tags.

    Returns:
        float64 (N, L), standardised over these images if the protocol normalises.

    Raises:
        UserError: If no tag stands for a label.
    """
    columns = []
    for label in labels:
        numbers = tag_columns(protocol, label, tags)
        if not numbers:
            raise UserError(f"protocol='{protocol.name}': no tag of the decoder stands for the label '{label}'.")
        columns.append(probability.double()[:, numbers].amax(1))
    scores = torch.stack(columns, 1)
    return standardise(scores) if protocol.normalise == "images" else scores


def tag_columns(protocol: Protocol, label: str, tags: Sequence[str]) -> list[int]:
    """Return the column numbers of a decoder's tags that stand for a label; empty if there are none.

    A tag with the name of the label takes precedence over the protocol's tags: some decoders are trained on the labels.
    """
    named = [label] if find_label(label, tags) else entry_of(label, protocol.prompts.tags) or []
    names = [find_label(tag, tags) for tag in named]
    return [tags.index(tag) for tag in names if tag is not None]


def pair_probability(positive: Tensor, negative: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the softmax of two similarities (N,), the probability of the first."""
    return torch.sigmoid((positive - negative) / temperature)


def standardise(scores: Tensor) -> Tensor:
    """Return scores (N, L) with mean 0 and standard deviation 1 over the images, as GLoRIA's code does.

    The scores of a single image are returned unchanged. A label with equal scores gets zeros.
    """
    if len(scores) == 1:
        return scores
    centred = scores - scores.mean(0)
    deviation = centred.square().mean(0).sqrt()
    return torch.where(deviation > 0, centred / deviation, 0.0)


def _side_similarities(
    protocol: Protocol,
    labels: Sequence[str],
    sides: Sequence[Sequence[str]],
    image: Embeddings,
    text: Embeddings,
    compare: Compare,
) -> list[Tensor]:
    """Return the similarity (N,) of images with the prompts of each side, averaged over the spaces.

    Pooling `max` takes the prompt of a side with the highest average over the spaces. Pooling `embedding` is that of
    vectors of length 1; in a space of other texts, such as tokens, the mean of their similarities takes its place.
    """
    position = {prompt: row for row, prompt in enumerate(protocol.texts(labels))}
    numbers = [[position[prompt] for prompt in side] for side in sides]
    if protocol.pooling == "max":
        of_prompts = [compare(space, image[space], _precise(rows)).double() for space, rows in text.items()]
        mean = torch.stack(of_prompts).mean(0)
        return [mean[:, side].amax(1) for side in numbers]
    of_spaces = []
    for space, rows in text.items():
        rows = _precise(rows)
        if protocol.pooling == "embedding" and _are_unit(rows):
            means = F.normalize(torch.stack([rows[side].mean(0) for side in numbers]), dim=1)
            of_spaces.append(compare(space, image[space], means).double())
        else:
            similarity = compare(space, image[space], rows).double()
            of_spaces.append(torch.stack([similarity[:, side].mean(1) for side in numbers], 1))
    return list(torch.stack(of_spaces).mean(0).unbind(1))


def _precise(rows: Tensor) -> Tensor:
    return rows.double() if rows.ndim == 2 else rows


def _are_unit(rows: Tensor) -> bool:
    return rows.ndim == 2 and bool((torch.linalg.vector_norm(rows, dim=1) - 1).abs().amax() < 1e-3)
