"""Scores of labels from embeddings or tags under a protocol.

All computations use double precision, so that neither the number of images nor their order changes a score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.errors import UserError
from medvlp.protocols.protocol import Pooling, Protocol
from medvlp.types import entry_of, find_label

Embeddings = Mapping[str, Tensor]
"""Normalised embeddings (N, D) by space, `objective/section`."""


def zero_shot_scores(protocol: Protocol, labels: Sequence[str], image: Embeddings, text: Embeddings) -> Tensor:
    """Score labels in images; a label that stands for several findings has the score of the likeliest finding.

    Args:
        protocol: A protocol with prompts.
        labels: The L labels.
        image: Normalised embeddings (N, D) of images by space. Similarities are averaged over the spaces.
        text: Normalised embeddings (P, D) of `protocol.texts(labels)`, in that order.

    Returns:
        float64 (N, L), higher for a likelier label: probabilities for score `pair`, cosines for `similarity`. If one
        label of several is true, the highest score predicts it. Scores are standardised over these images if the
        protocol normalises.

    Raises:
        UserError: If the protocol has no prompts for a label.
    """
    position = {prompt: row for row, prompt in enumerate(protocol.texts(labels))}
    image, text = ({space: rows.double() for space, rows in rows_of.items()} for rows_of in (image, text))

    def similarity(side: list[str]) -> Tensor:
        rows = [position[prompt] for prompt in side]
        return side_similarity(image, {space: e[rows] for space, e in text.items()}, protocol.pooling)

    def score(positive: list[str], negative: list[str]) -> Tensor:
        if protocol.score == "similarity":
            return similarity(positive)
        return pair_probability(similarity(positive), similarity(negative), protocol.temperature)

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


def side_similarity(image: Embeddings, prompts: Embeddings, pooling: Pooling) -> Tensor:
    """Return the similarity (N,) of images with one side's prompts, averaged over the spaces.

    Args:
        image: Normalised embeddings (N, D) by space.
        prompts: Normalised embeddings (P, D) of P prompts by space.
        pooling: See `Protocol`. `max` takes the prompt with the highest average over the spaces.
    """
    if pooling == "embedding":
        prompts = {space: F.normalize(rows.mean(0, keepdim=True), dim=1) for space, rows in prompts.items()}
    similarity = torch.stack([rows @ prompts[space].T for space, rows in image.items()]).mean(0)
    return similarity.amax(1) if pooling == "max" else similarity.mean(1)


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
