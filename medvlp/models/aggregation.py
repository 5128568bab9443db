"""IMITATE's multi-level feature: one attention over channels of all stages as tokens (arXiv 2310.07355)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def adaptive_average_pool(x: Tensor, grid: int) -> Tensor:
    """Pool (N, C, H, W) to (N, C, grid, grid) with two matrix products, as `torch.nn.AdaptiveAvgPool2d` does.

    The backward pass of torch's module is several times slower, most of all if it magnifies (7 x 7 to 16 x 16).
    """
    rows, columns = (_bins(size, grid, x) for size in x.shape[2:])
    # Sums come before the division: ones are exact in any precision, thirds are not.
    return rows @ (x @ columns.T) / (rows.sum(1)[:, None] * columns.sum(1))


def _bins(size: int, grid: int, like: Tensor) -> Tensor:
    """Return the assignment of the pixels of a line to bins: ones and zeros (grid, size)."""
    pixel, number = torch.arange(size, device=like.device), torch.arange(grid, device=like.device)[:, None]
    first, last = number * size // grid, ((number + 1) * size - 1) // grid
    return ((first <= pixel) & (pixel <= last)).to(like.dtype)


class ChannelAggregation(nn.Module):
    """Aggregates a pyramid of feature maps to one vector.

    Training draws a share of the channels of every stage, the same for the whole batch. Each drawn channel is pooled to
    grid x grid and flattened to a token. A learned CLS token attends to all tokens once; its output (with residual) is
    the multi-level feature. There is no layer norm and no feed-forward network. Evaluation is deterministic (the
    official code draws there, too).

    The draws depend only on `seed` and on the number of earlier draws, which is part of the state. So a resumed run
    repeats the draws of an uninterrupted one, and all processes draw alike.

    Args:
        widths: Channels C_l of the stages.
        ratios: Share of channels to draw from each stage; 0 leaves a stage out. The official code draws as many from
            the four stages of ResNet-50: 64 of 256, 76 of 512, 102 of 1024, 204 of 2048.
        grid: Side of the pooled channel; the width of tokens and feature is grid squared.
        heads: Number of attention heads.
        position: Owner of a learned position: the `channel`, or `none`, or the `slot` of the token as in the official
            code. Another channel fills a slot at each draw.
        replacement: Whether to draw channels with replacement, as the official code does.
        single_stage: Whether to draw one stage and use all its channels (the official code's "scale" mode).
        evaluation: Tokens in evaluation: `all` channels, or the same number as in training, evenly spaced (`subset`).
        padding: Number of tokens to reach with zeros, which take part in the attention, as in the official code (512).
            Needs position `slot`.
        seed: Seed of the draws.
    """

    def __init__(
        self,
        widths: Sequence[int],
        ratios: Sequence[float] = (0.25, 0.15, 0.10, 0.10),
        grid: int = 16,
        heads: int = 4,
        position: Literal["channel", "slot", "none"] = "channel",
        replacement: bool = False,
        single_stage: bool = False,
        evaluation: Literal["all", "subset"] = "all",
        padding: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if len(ratios) != len(widths):
            raise ValueError(
                f"ratios={list(ratios)} has {len(ratios)} entries, but the encoder has {len(widths)} stages."
            )
        if padding is not None and position != "slot":
            raise ValueError(f"padding={padding} needs position='slot', not position={position!r}.")
        self.widths, self.grid = tuple(widths), grid
        self.counts = [int(width * ratio) for width, ratio in zip(widths, ratios, strict=True)]
        self.replacement, self.single_stage, self.padding = replacement, single_stage, padding
        self.position, self.evaluation = position, evaluation
        self.seed, self.draws = seed, 0
        self.width = grid * grid
        most = sum(self.counts) if evaluation == "subset" and not single_stage else sum(self.widths)
        positions = {"channel": sum(self.widths), "slot": max(most, padding or 0), "none": 0}[position]
        # Zeros, as in the official code. Without positions, an empty parameter would never have a gradient.
        self.positions = nn.Parameter(torch.zeros(positions, self.width)) if positions else None
        self.cls = nn.Parameter(torch.zeros(1, 1, self.width))
        self.attention = nn.MultiheadAttention(self.width, heads, batch_first=True)

    def forward(self, pyramid: Sequence[Tensor], draws: int = 1) -> list[Tensor]:
        """Aggregate feature maps (N, C_l, H_l, W_l) to one feature (N, grid * grid) for each draw of channels.

        Args:
            pyramid: The maps, fine to coarse.
            draws: Number of draws; in evaluation all draws are equal.
        """
        drawn = [self.draw() if self.training else self.fixed() for _ in range(draws)]
        tokens: list[list[Tensor]] = [[] for _ in drawn]
        for stage, *chosen in zip(pyramid, *drawn, strict=True):
            if not sum(map(len, chosen)):
                continue
            # One selection for all draws, because the gradient of each selection is a map as large as the stage.
            kept = stage.flatten(2)[:, torch.cat(chosen).to(stage.device)].unflatten(2, stage.shape[2:])
            pooled = adaptive_average_pool(kept, self.grid).flatten(2)
            for parts, part in zip(tokens, pooled.split([len(c) for c in chosen], 1), strict=True):
                parts.append(part)
        return [self._attend(torch.cat(t, 1), channels) for t, channels in zip(tokens, drawn, strict=True)]

    def _attend(self, x: Tensor, channels: Sequence[Tensor]) -> Tensor:
        if self.padding is not None:
            x = F.pad(x, (0, 0, 0, max(0, self.padding - x.shape[1])))
        if self.positions is not None:
            x = x + self.positions[self._slots(channels) if self.position == "channel" else slice(x.shape[1])]
        # Only the output of the CLS token is used, so only its row of the self-attention is computed. With one query,
        # the key projection folds into the query, and the value projection into the attended mean.
        attention, cls = self.attention, self.cls[0, 0]
        query_weight, key_weight, value_weight = attention.in_proj_weight.chunk(3)
        query_bias, _, value_bias = attention.in_proj_bias.chunk(3)  # a key bias adds the same to all scores
        query = F.linear(cls, query_weight, query_bias).unflatten(0, (attention.num_heads, -1))
        query = torch.einsum("hd,hdw->hw", query, key_weight.unflatten(0, query.shape)) / query.shape[1] ** 0.5
        # The number of images comes from the shape, because len would fix it in an exported graph.
        scores = torch.cat([x @ query.T, (cls @ query.T).expand(x.shape[0], 1, -1)], 1)
        weight = scores.float().softmax(1).to(x.dtype).transpose(1, 2)
        mean = weight[..., :-1] @ x + weight[..., -1:] * cls
        heads = torch.einsum("nhw,hdw->nhd", mean, value_weight.unflatten(0, (attention.num_heads, -1)))
        attended: Tensor = attention.out_proj(heads.flatten(1) + value_bias)
        return cls + attended

    def _slots(self, channels: Sequence[Tensor]) -> Tensor:
        """Return the numbers of channels, counted over all stages."""
        starts = itertools.accumulate(self.widths[:-1], initial=0)
        return torch.cat([chosen + start for chosen, start in zip(channels, starts, strict=True)])

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def draw(self) -> list[Tensor]:
        """Draw the channels of each stage, sorted unless drawn with replacement."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.draws)
        self.draws += 1
        if self.single_stage:
            used = [level for level, count in enumerate(self.counts) if count]
            level = used[int(torch.randint(len(used), (), generator=generator))]
            return [torch.arange(width if i == level else 0) for i, width in enumerate(self.widths)]
        stages = zip(self.widths, self.counts, strict=True)
        if self.replacement:
            return [torch.randint(width, (count,), generator=generator) for width, count in stages]
        return [torch.randperm(width, generator=generator)[:count].sort().values for width, count in stages]

    def fixed(self) -> list[Tensor]:
        """Return the channels of each stage in evaluation."""
        if self.evaluation == "subset":
            return [torch.arange(c) * w // max(c, 1) for w, c in zip(self.widths, self.counts, strict=True)]
        return [torch.arange(w if c else 0) for w, c in zip(self.widths, self.counts, strict=True)]

    def get_extra_state(self) -> Any:
        """Return the number of draws so far, so that a checkpoint continues their sequence."""
        return {"draws": self.draws}

    def set_extra_state(self, state: Any) -> None:
        """Continue the sequence of draws."""
        self.draws = state["draws"]
