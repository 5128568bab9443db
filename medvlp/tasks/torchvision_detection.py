"""Detection of one class by a detector of torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from medvlp.metrics.average_precision import MAX_DETECTIONS
from medvlp.models.pyramid import pyramid
from medvlp.tasks.detection import CONFIDENCE, OVERLAP, BoxTask, Found
from medvlp.types import Batch

CHANNELS = 256


@dataclass
class Outputs:
    """What the head says.

    Attributes:
        head: `cls_logits`, `bbox_regression` and `bbox_ctrness`, (B, K, ...), K cells of all levels.
        anchors: The square (x1, y1, x2, y2) of each cell, (K, 4) for each image.
        cells: How many of them each level has.
    """

    head: dict[str, Tensor]
    anchors: list[Tensor]
    cells: list[int]


class TorchvisionDetectionTask(BoxTask):
    """Trains torchvision's FCOS with a feature pyramid, a detector without anchors: the modern alternative.

    A learning rate of AdamW of 1e-4 suits it, a fifth of that of `DetectionTask`. Objects smaller than the 8 pixels of
    its finest cells may fall between these, and then are not learnt: it wants larger images.

    Its parts are called one by one: its own `forward` takes images and not maps, and gives either losses or detections.

    Args:
        channels: Of its pyramid and head, a multiple of 32; fewer for a CPU.
        **kwargs: See `DownstreamTask`.
    """

    def __init__(self, channels: int = CHANNELS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.detector = FCOS(
            _Pyramid(self.widths, self.strides, channels),
            num_classes=1,
            score_thresh=CONFIDENCE,
            nms_thresh=OVERLAP,
            detections_per_img=MAX_DETECTIONS,
        )
        self.detector.transform = nn.Identity()
        # Distances to the sides go through a ReLU, at first in units of the cell. From torchvision's bias of 0 they all
        # are 0 after a few steps on features that are not trained, and then have no gradient.
        nn.init.ones_(self.detector.head.regression_head.bbox_reg.bias)

    def forward(self, batch: Batch) -> Outputs:
        """Return what the head says of each cell."""
        levels = self.detector.backbone(self.features(batch))
        head = {name: output.float() for name, output in self.detector.head(levels).items()}
        # Of images and levels only shapes are read, and the type of the levels, which in bf16 has no pixels above 256.
        images = levels[0].new_empty(()).expand(len(levels[0]), 1, self.side, self.side)
        anchors = self.detector.anchor_generator(
            ImageList(images, [(self.side, self.side)] * len(images)), [level.float() for level in levels]
        )
        return Outputs(head, anchors, [level[0, 0].numel() for level in levels])

    def loss(self, outputs: Outputs, truth: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return `classification`, `bbox_regression` and `bbox_ctrness`."""
        targets = [{"boxes": box, "labels": box.new_zeros(len(box), dtype=torch.long)} for box in truth]
        with torch.autocast(self.device.type, enabled=False):
            terms: dict[str, Tensor] = self.detector.compute_loss(targets, outputs.head, outputs.anchors, outputs.cells)
        return terms

    def find(self, outputs: Outputs) -> Found:
        """Decode and suppress."""
        head = {name: list(output.split(outputs.cells, dim=1)) for name, output in outputs.head.items()}
        anchors = [list(anchor.split(outputs.cells)) for anchor in outputs.anchors]
        found = self.detector.postprocess_detections(head, anchors, [(self.side, self.side)] * len(anchors))
        return [(image["boxes"], image["scores"]) for image in found]


class _Pyramid(nn.Module):
    """A feature pyramid of five levels, strides 8 to 128, on maps that the encoder has computed."""

    def __init__(self, widths: Sequence[int], strides: Sequence[int], channels: int) -> None:
        super().__init__()
        self.strides, self.out_channels = list(strides), channels
        self.network = FeaturePyramidNetwork(list(widths), channels, LastLevelP6P7(channels, channels))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the levels (B, out_channels, h, w), fine to coarse."""
        levels = {str(i): level for i, level in enumerate(pyramid(maps, self.strides))}
        return list(self.network(levels).values())
