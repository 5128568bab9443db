"""Transformer decoder with queries over the patches of an image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class QueryDecoder(nn.Module):
    """A pre-norm transformer decoder, as in DETR and MedKLIP: queries attend to each other and to patches.

    Queries have no positions. Patches have none beyond those of the image encoder (ASG).

    Args:
        query_width: Number of features of a query; a linear layer projects them if it is not `dim`.
        patch_width: Number of channels of a patch, likewise.
        dim: Width of the decoder.
        layers: Number of layers.
        heads: Number of attention heads.
        hidden: Number of hidden units of the feed-forward networks.
        dropout: Dropout in the layers and after the last one.
    """

    def __init__(
        self,
        query_width: int,
        patch_width: int,
        dim: int = 768,
        layers: int = 4,
        heads: int = 4,
        hidden: int = 1024,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.query = nn.Identity() if query_width == dim else nn.Linear(query_width, dim)
        self.patch = nn.Identity() if patch_width == dim else nn.Linear(patch_width, dim)
        layer = nn.TransformerDecoderLayer(dim, heads, hidden, dropout, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, layers, nn.LayerNorm(dim))
        self.dropout = nn.Dropout(dropout)
        for module in self.decoder.modules():
            # As in the official code; without this, torch starts all layers with equal weights.
            if isinstance(module, nn.MultiheadAttention):
                nn.init.normal_(module.in_proj_weight, std=0.02)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, query: Tensor, patches: Tensor) -> Tensor:
        """Return the outputs (N, T, D) of T queries (T, E) for the patches (N, C, H, W) of N images."""
        memory = self.patch(patches.flatten(2).transpose(1, 2))
        # The number of images comes from the shape, because len would fix it in an exported graph.
        queries = self.query(query).expand(patches.shape[0], -1, -1)
        answers: Tensor = self.dropout(self.decoder(queries, memory))
        return answers

    def attention(self, query: Tensor, patches: Tensor) -> Tensor:
        """Return the attention (N, T, H, W) of the queries in the last layer, averaged over heads; maps sum to 1."""
        attention = self.decoder.layers[-1].multihead_attn
        calls: list[tuple[Any, ...]] = []
        hook = attention.register_forward_pre_hook(lambda _, arguments: calls.append(arguments))
        try:
            self(query, patches)
        finally:
            hook.remove()
        _, weights = attention(*calls[0], need_weights=True)
        return torch.unflatten(weights, 2, patches.shape[-2:])
