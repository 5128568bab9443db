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
    """Outputs of the head.

    Attributes:
        head: `cls_logits`, `bbox_regression` and `bbox_ctrness`, (B, K, ...), K cells of all levels.
        anchors: The square (x1, y1, x2, y2) of each cell, (K, 4) for each image.
        cells: Number of cells on each level.
    """

    head: dict[str, Tensor]
    anchors: list[Tensor]
    cells: list[int]


class TorchvisionDetectionTask(BoxTask):
    """Trains torchvision's FCOS with a feature pyramid, an anchor-free detector: the modern alternative.

    A learning rate of 1e-4 suits AdamW, a fifth of that in the configs of `DetectionTask`. The finest cells have 8
    pixels. Smaller objects may fall between cells, and the detector then does not learn them: it needs larger images.

    The task calls the parts of FCOS one by one. FCOS's own `forward` takes images instead of maps, and returns either
    losses or detections.

    Args:
        channels: Number of channels in pyramid and head, a multiple of 32; fewer suit a CPU.
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
        # Distances to the sides pass a ReLU, in units of the cell. With torchvision's bias of 0 and untrained features,
        # all distances are 0 after a few steps, and then have no gradient.
        nn.init.ones_(self.detector.head.regression_head.bbox_reg.bias)

    def forward(self, batch: Batch) -> Outputs:
        """Return the outputs of the head for each cell."""
        levels = self.detector.backbone(self.features(batch))
        head = {name: output.float() for name, output in self.detector.head(levels).items()}
        # The generator reads only shapes, and the type of the levels; bf16 cannot hold all pixels above 256.
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
        """Decode boxes, and suppress overlapping ones."""
        head = {name: list(output.split(outputs.cells, dim=1)) for name, output in outputs.head.items()}
        anchors = [list(anchor.split(outputs.cells)) for anchor in outputs.anchors]
        detections = self.detector.postprocess_detections(head, anchors, [(self.side, self.side)] * len(anchors))
        return [(image["boxes"], image["scores"]) for image in detections]


class _Pyramid(nn.Module):
    """A feature pyramid of five levels, strides 8 to 128, on the maps of an encoder."""

    def __init__(self, widths: Sequence[int], strides: Sequence[int], channels: int) -> None:
        super().__init__()
        self.strides, self.out_channels = list(strides), channels
        self.network = FeaturePyramidNetwork(list(widths), channels, LastLevelP6P7(channels, channels))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the levels (B, out_channels, h, w), fine to coarse."""
        levels = {str(i): level for i, level in enumerate(pyramid(maps, self.strides))}
        return list(self.network(levels).values())
