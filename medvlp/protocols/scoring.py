"""Scores of labels from embeddings or tags, as a protocol has it.

Everything is computed in double precision, in which neither the number of the images nor their order changes a score.
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
    """Score labels in images; a label that stands for several findings has the score of the likeliest.

    Args:
        protocol: A protocol with prompts.
        labels: The L labels.
        image: Normalised embeddings (N, D) of images by space. Similarities are averaged over the spaces.
        text: Those (P, D) of `protocol.texts(labels)`, in that order.

    Returns:
        float64 (N, L), the higher the likelier: probabilities of pairs, cosines of similarities; of several labels of
        which one is true, the highest is it. Standardised over these images if the protocol says so.

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
    """Score labels in images by the tags that stand for them; of several tags, by the likeliest.

    Args:
        protocol: A protocol with score `tags`.
        labels: The L labels.
        probability: What the decoder gives, (N, T).
        tags: Names of its T tags.

    Returns:
        float64 (N, L). Standardised over these images if the protocol says so.

    Raises:
        UserError: If no tag stands for a label.
    """
    columns = []
    for label in labels:
        known = tag_columns(protocol, label, tags)
        if not known:
            raise UserError(f"protocol='{protocol.name}': no tag of the decoder stands for the label '{label}'.")
        columns.append(probability.double()[:, known].amax(1))
    scores = torch.stack(columns, 1)
    return standardise(scores) if protocol.normalise == "images" else scores


def tag_columns(protocol: Protocol, label: str, tags: Sequence[str]) -> list[int]:
    """Return which tags of a decoder stand for a label, by their numbers; none, where none does.

    A tag with the name of the label stands for it alone: decoders trained on the labels themselves are asked for those.
    """
    named = [label] if find_label(label, tags) else entry_of(label, protocol.prompts.tags) or []
    found = [find_label(tag, tags) for tag in named]
    return [tags.index(tag) for tag in found if tag is not None]


def side_similarity(image: Embeddings, prompts: Embeddings, pooling: Pooling) -> Tensor:
    """Return the similarity (N,) of images with one side's prompts, averaged over the spaces.

    Args:
        image: Normalised embeddings (N, D) by space.
        prompts: Those of P prompts, (P, D).
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

    A single image has its scores as they are, a label with equal scores zeros.
    """
    if len(scores) == 1:
        return scores
    centred = scores - scores.mean(0)
    deviation = centred.square().mean(0).sqrt()
    return torch.where(deviation > 0, centred / deviation, 0.0)
