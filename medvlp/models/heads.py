"""Small networks between the encoders and the joint space."""

from __future__ import annotations

from typing import Literal

from torch import nn

from medvlp.models.batch_norm import GlobalBatchNorm

HeadKind = Literal["batch_norm", "mlp", "linear"]
"""`batch_norm` is `ProjectionHead`; `mlp` is linear, ReLU, linear (ConVIRT); `linear` is one layer (CLIP)."""


class ProjectionHead(nn.Sequential):
    """The head of IMITATE and ASG: linear, batch norm, ReLU, linear, batch norm.

    The first batch norm has affine parameters, the second has none.

    Args:
        width: Number of input features.
        hidden: Number of hidden features.
        out: Dimension of the joint space.
        sync: Whether batch statistics are those of all processes (official code: of each process alone).
    """

    def __init__(self, width: int, hidden: int, out: int, sync: bool = True) -> None:
        super().__init__(
            nn.Linear(width, hidden),
            GlobalBatchNorm(hidden, sync=sync),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, out),
            GlobalBatchNorm(out, affine=False, sync=sync),
        )


def make_head(kind: HeadKind, width: int, hidden: int, out: int, sync: bool = True) -> nn.Module:
    """Return a head of a kind; see `ProjectionHead` for the options, of which `linear` reads only the widths."""
    match kind:
        case "batch_norm":
            return ProjectionHead(width, hidden, out, sync)
        case "mlp":
            return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))
        case "linear":
            return nn.Linear(width, out)
