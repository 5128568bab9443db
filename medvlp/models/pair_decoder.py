"""Transformer decoder of pairs: every query attends to the tokens of every image, or text, on its own."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PairLayer(nn.Module):
    """One pre-norm layer: cross-attention, and a feed-forward network, each with a residual.

    Args:
        dim: Width of queries and tokens.
        heads: Number of attention heads.
        hidden: Number of hidden units of the feed-forward network.
        dropout: Dropout rate.
    """

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.hidden_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.hidden = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, memory: Tensor, padding: Tensor) -> Tensor:
        """Return the queries (N, M, D) after the layer; padding is bool (N, P)."""
        attended, _ = self.attention(
            self.attention_norm(query), memory, memory, key_padding_mask=padding, need_weights=False
        )
        query = query + self.dropout(attended)
        out: Tensor = query + self.dropout(self.hidden(self.hidden_norm(query)))
        return out

    def weights(self, query: Tensor, memory: Tensor, padding: Tensor) -> Tensor:
        """Return the attention (N, M, P) of queries to tokens, averaged over the heads."""
        query = self.attention_norm(query)
        weights: Tensor = self.attention(query, memory, memory, key_padding_mask=padding)[1]
        return weights


class PairDecoder(nn.Module):
    """The decoder of CARZero, without self-attention: one output for each pair of a query and a set of tokens.

    Queries do not see each other, so that an output depends on its pair alone. One layer norm is that of queries,
    tokens and outputs.

    Args:
        dim: Width of queries, tokens and outputs.
        layers: Number of layers, at least 1.
        heads: Most attention heads; the largest number up to this that divides `dim` is taken.
        hidden: Number of hidden units of the feed-forward networks.
        dropout: Dropout rate in the layers, and of the outputs.
    """

    def __init__(self, dim: int, layers: int = 4, heads: int = 4, hidden: int = 1024, dropout: float = 0.1) -> None:
        super().__init__()
        heads = max(number for number in range(1, heads + 1) if dim % number == 0)
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(PairLayer(dim, heads, hidden, dropout) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.MultiheadAttention):
                nn.init.normal_(module.in_proj_weight, std=0.02)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """Return the outputs (N, M, D) of M queries (M, D) for N sets of tokens (N, P, D).

        A token of zeros is padding. A set of padding alone has an output without meaning.
        """
        if not (query.shape[0] and memory.shape[0]):
            # Torch's attention takes no empty tensors; without an output all gradients are zero.
            more: Tensor = self(*(F.pad(rows, (0, 0) * (rows.ndim - 1) + (0, 1)) for rows in (query, memory)))
            return more[:-1, :-1]
        x, memory, padding = self._prepare(query, memory)
        for layer in self.layers:
            x = layer(x, memory, padding)
        outputs: Tensor = self.dropout(self.norm(x))
        return outputs

    def attention(self, query: Tensor, memory: Tensor) -> Tensor:
        """Return the attention (N, M, P) of the queries, averaged over heads and layers; it sums to 1."""
        x, memory, padding = self._prepare(query, memory)
        weights = []
        for layer in cast("list[PairLayer]", list(self.layers)):
            weights.append(layer.weights(x, memory, padding))
            x = layer(x, memory, padding)
        return torch.stack(weights).mean(0)

    def _prepare(self, query: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (N, M, D) and tokens after the norm, and a mask of the tokens that are padding."""
        padding = torch.linalg.vector_norm(memory.float(), dim=2) == 0
        # A softmax over nothing is NaN.
        padding = padding & ~padding.all(1, keepdim=True)
        x = self.norm(query).expand(memory.shape[0], -1, -1)
        return x, self.norm(memory), padding


class PairHead(nn.Sequential):
    """The head of CARZero and VECL on the outputs of a `PairDecoder`: four linear layers with ReLU and dropout.

    Args:
        dim: Width of the outputs.
        out: Number of logits.
        dropout: Dropout rate.
        bias: Whether the last layer has a bias.
    """

    def __init__(self, dim: int, out: int, dropout: float, bias: bool = True) -> None:
        widths, steps = (dim, 1024, 512, 256), list[nn.Module]()
        for width, wide in pairwise(widths):
            steps += [nn.Linear(width, wide), nn.ReLU(), nn.Dropout(dropout)]
        super().__init__(*steps, nn.Linear(widths[-1], out, bias=bias))


def score(outputs: Tensor, classifier: nn.Module) -> Tensor:
    """Return the logit of each pair, in single precision, (N, M) of outputs (N, M, D)."""
    logits: Tensor = classifier(outputs).squeeze(2)
    return logits.float()


def scaled(logits: Tensor) -> Tensor:
    """Return logits at the scale of a cosine, l / 10: differences and means keep their order, too."""
    return logits / 10
