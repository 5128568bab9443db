"""A transformer decoder without self-attention: queries that do not see each other, over the tokens of others."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CrossLayer(nn.Module):
    """A pre-norm layer: attention to the memory, and a feed-forward network.

    Args:
        dim: Width.
        heads: Number of attention heads.
        hidden: Number of hidden units of the feed-forward network.
        dropout: Dropout rate.
    """

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.norms = nn.ModuleList([nn.LayerNorm(dim), nn.LayerNorm(dim)])
        self.feed = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, memory: Tensor, missing: Tensor | None, weights: bool) -> tuple[Tensor, Tensor]:
        """Return the queries (N, M, D) after the layer, and their attention to the memory (N, M, P) if asked for."""
        seen, attention = self.attention(self.norms[0](query), memory, memory, missing, need_weights=weights)
        query = query + self.dropout(seen)
        return query + self.dropout(self.feed(self.norms[1](query))), attention


class CrossDecoder(nn.Module):
    """Layers of cross-attention alone, as in CARZero and VECL: each query is compared with each memory by itself.

    Args:
        dim: Width of queries and memory.
        layers: Number of layers.
        heads: Number of attention heads; must divide `dim`.
        hidden: Number of hidden units of the feed-forward networks.
        dropout: Dropout in the layers and after the last one.
    """

    def __init__(self, dim: int, layers: int = 4, heads: int = 4, hidden: int = 1024, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm_query, self.norm_memory, self.norm = (nn.LayerNorm(dim) for _ in range(3))
        self.layers = nn.ModuleList([CrossLayer(dim, heads, hidden, dropout) for _ in range(layers)])
        self.dropout = nn.Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.MultiheadAttention):
                nn.init.normal_(module.in_proj_weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, query: Tensor, memory: Tensor, present: Tensor | None = None) -> Tensor:
        """Return the outputs (N, M, D) of M queries (M, D) for N memories (N, P, D).

        Args:
            query: The queries.
            memory: The memories.
            present: Mask of the tokens that exist, bool (N, P), at least one a memory; all by default.
        """
        outputs: Tensor = self.dropout(self._run(query, memory, present, weights=False)[0])
        return outputs

    def attention(self, query: Tensor, memory: Tensor) -> Tensor:
        """Return the attention (N, M, P) of the queries to the memory, averaged over heads and layers."""
        return torch.stack(self._run(query, memory, None, weights=True)[1]).mean(0)

    def _run(self, query: Tensor, memory: Tensor, present: Tensor | None, weights: bool) -> tuple[Tensor, list[Tensor]]:
        # The number of memories comes from the shape, because len would fix it in an exported graph.
        queries = self.norm_query(query).expand(memory.shape[0], -1, -1)
        memory, missing, attention = self.norm_memory(memory), None if present is None else ~present, []
        for layer in self.layers:
            queries, weight = layer(queries, memory, missing, weights)
            attention.append(weight)
        return self.norm(queries), attention
