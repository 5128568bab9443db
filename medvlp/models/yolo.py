"""The head of YOLOv3 for the maps of any encoder."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms

from medvlp.models.pyramid import pyramid

# Width and height of YOLOv3's anchors on COCO, in pixels of images with a side of 416; maps from fine to coarse.
ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
ANCHOR_IMAGE = 416
WIDTHS = (128, 256, 512)
# Outputs for each anchor of a cell: x, y, logarithms of width and height, objectness, one class.
OUTPUTS = 6
# Its exponential is 62, so boxes stay finite for any output. torchvision's detectors have the same bound.
LOG_SIZE = 4.135
# Number of boxes before suppression, whose time grows with the square of this number.
CANDIDATES = 1000


class YOLOHead(nn.Module):
    """YOLOv3's head for one class, with the layers that MGCA trains on a frozen ResNet-50.

    Args:
        widths: Number of channels of each of three maps of an encoder, fine to coarse.
        strides: Strides of the maps in pixels; see `medvlp.models.pyramid`.
        channels: Number of channels of the head at each map.

    Attributes:
        anchors: Width and height of the anchors of each level, as a share of the image, (3, 3, 2).
    """

    anchors: Tensor

    def __init__(self, widths: Sequence[int], strides: Sequence[int], channels: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.strides = list(strides)
        self.register_buffer("anchors", torch.tensor(ANCHORS) / ANCHOR_IMAGE, persistent=False)
        above = (*channels[:-1], 0)  # channels that a level gets from the next coarser one
        self.necks = nn.ModuleList(
            nn.Sequential(
                _layer(map_width + extra, width, 1),
                _layer(width, 2 * width, 3),
                _layer(2 * width, width, 1),
                _layer(width, 2 * width, 3),
                _layer(2 * width, width, 1),
            )
            for map_width, extra, width in zip(widths, above, channels, strict=True)
        )
        self.heads = nn.ModuleList(
            nn.Sequential(_layer(width, 2 * width, 3), nn.Conv2d(2 * width, len(ANCHORS[0]) * OUTPUTS, 1))
            for width in channels
        )
        self.down = nn.ModuleList(_layer(coarse, fine, 1) for fine, coarse in itertools.pairwise(channels))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs of each level, (B, 3, h, w, 6): anchors, rows, columns, and x, y, w, h, objectness, class.

        Args:
            maps: Maps (B, C, h, w) of an encoder, fine to coarse.
        """
        outputs: list[Tensor] = []
        coarser: Tensor | None = None
        levels = pyramid(maps, self.strides)
        for i in reversed(range(len(levels))):
            x = levels[i]
            if coarser is not None:
                x = torch.cat([F.interpolate(self.down[i](coarser), size=x.shape[-2:]), x], 1)
            coarser = self.necks[i](x)
            output = self.heads[i](coarser).unflatten(1, (len(ANCHORS[0]), OUTPUTS))
            outputs.insert(0, output.movedim(2, -1))
        return outputs

    def decode(self, outputs: Sequence[Tensor], side: int) -> tuple[Tensor, Tensor]:
        """Decode the outputs of the levels to boxes, and to their scores, which are the objectness.

        Args:
            outputs: Outputs of `forward`.
            side: Side of the images in pixels.

        Returns:
            Boxes (B, K, 4): x1, y1, x2, y2 in pixels, not clipped to the image; scores (B, K) from 0 to 1.
        """
        boxes, scores = [], []
        for output, anchors in zip(outputs, self.anchors, strict=True):
            output = output.float()
            rows, columns = output.shape[2:4]
            grid = torch.stack(
                torch.meshgrid(
                    torch.arange(columns, device=output.device), torch.arange(rows, device=output.device), indexing="xy"
                ),
                -1,
            )
            centre = (output[..., :2].sigmoid() + grid) / output.new_tensor([columns, rows])
            half = output[..., 2:4].clamp(max=LOG_SIZE).exp() * anchors[:, None, None] / 2
            boxes.append(torch.cat([centre - half, centre + half], -1).flatten(1, 3) * side)
            scores.append(output[..., 4].sigmoid().flatten(1))
        return torch.cat(boxes, 1), torch.cat(scores, 1)


def suppress(
    boxes: Tensor, scores: Tensor, confidence: float, overlap: float, limit: int
) -> list[tuple[Tensor, Tensor]]:
    """Apply a score threshold and non-maximum suppression to the boxes of each image.

    Args:
        boxes: (B, K, 4): x1, y1, x2, y2.
        scores: (B, K).
        confidence: Lowest score to keep.
        overlap: IoU above which only the box with the higher score is kept.
        limit: Maximum number of boxes for each image.

    Returns:
        Boxes (n, 4) and scores (n,) of each image, the highest score first.
    """
    scores, best = scores.topk(min(CANDIDATES, scores.shape[1]))
    boxes = boxes.gather(1, best[..., None].expand(-1, -1, 4))
    sure = scores >= confidence
    image = sure.nonzero()[:, 0]
    box, score = boxes[sure], scores[sure]
    kept = batched_nms(box, score, image, overlap)
    rows = [kept[image[kept] == i][:limit] for i in range(len(boxes))]
    return [(box[k], score[k]) for k in rows]


def _layer(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1))
