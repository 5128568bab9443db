"""Detection of one class on a pre-trained encoder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from medvlp.errors import UserError
from medvlp.losses import detection_loss
from medvlp.metrics.average_precision import MAX_DETECTIONS, average_precision, legacy_average_precision
from medvlp.metrics.bootstrap import Statistic
from medvlp.models.pyramid import LEVELS, STRIDES
from medvlp.models.yolo import WIDTHS, YOLOHead, suppress
from medvlp.tasks.downstream import DownstreamTask
from medvlp.types import Batch

# MGCA keeps detections from 0.5 on, which cuts the curve that average precision is the area of; `map_legacy` does so.
CONFIDENCE = 0.01
OVERLAP = 0.5

CORNERS = ("x1", "y1", "x2", "y2")

Array = npt.NDArray[np.float32]
Found = list[tuple[Tensor, Tensor]]
"""Boxes (n, 4) in pixels of the first view and scores (n,) of each image."""


class BoxTask(DownstreamTask):
    """Base of the detectors: they learn the annotated boxes, and average precision tests them.

    Test metrics: `map`, COCO's average precision over all images, the mean over IoUs 0.4 to 0.75; `map_legacy`, what
    the released codes report under that name, see `legacy_average_precision`.

    Predictions: `boxes`, up to 100 of each image, (x1, y1, x2, y2, score) by falling score, and `truth`, (x1, y1, x2,
    y2), in pixels of the crop that the task sees.

    Args:
        **kwargs: See `DownstreamTask`.

    Raises:
        UserError: If the encoder has fewer than three maps.
    """

    reads: ClassVar[Literal["pooled", "maps"]] = "maps"
    levels: ClassVar[slice] = LEVELS

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if len(self.strides) != len(STRIDES):
            raise UserError(
                f"a detector reads three maps, but the image encoder {self.encoder.architecture} has "
                f"{len(self.strides)}: let its method 'maps' return more."
            )

    @abstractmethod
    def forward(self, batch: Batch) -> Any:
        """Return the outputs of the head."""

    @abstractmethod
    def loss(self, outputs: Any, truth: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the terms of the loss, scalars to be added up; truth is as `Batch.box`, each box with an area."""

    @abstractmethod
    def find(self, outputs: Any) -> Found:
        """Return at most 100 detections an image, the highest score first."""

    @property
    def side(self) -> int:
        """Side of the images that the task sees, in pixels."""
        return self.datamodule.framing.crop

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss."""
        return self._loss("train", batch, self(batch))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss and keep the detections."""
        self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the average precision of all images."""
        predicted, truth = _unpack(self.gather_rows())
        value = average_precision(*predicted, truth)(np.ones(len(truth)))
        if np.isnan(value) and not self.trainer.sanity_checking:
            rank_zero_warn("no validation image has an object: val/map is not defined.")
        self.log("val/map", value, prog_bar=True, sync_dist=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss and keep the detections."""
        self._evaluate("test", batch)

    def compute_metrics(self, rows: pa.Table) -> dict[str, Statistic]:
        """Return `map` and `map_legacy`; neither where no image has an object."""
        predicted, truth = _unpack(rows)
        if not any(map(len, truth)):
            self.left_out |= dict.fromkeys(("map", "map_legacy"), "no test image has an object")
            return {}
        metrics = {
            "map": average_precision(*predicted, truth),
            "map_legacy": legacy_average_precision(*predicted, truth),
        }
        return {name: Statistic.of(metric, len(truth)) for name, metric in metrics.items()}

    def _loss(self, stage: str, batch: Batch, outputs: Any) -> Tensor:
        terms = self.loss(outputs, _truth(batch))
        loss = torch.stack(list(terms.values())).sum()
        options: dict[str, Any] = {"batch_size": len(batch["index"]), "sync_dist": stage != "train"}
        self.log_dict({f"{stage}/{name}": term.detach() for name, term in terms.items()}, **options)
        self.log(f"{stage}/loss", loss.detach(), prog_bar=True, **options)
        return loss

    def _evaluate(self, stage: str, batch: Batch) -> None:
        outputs = self(batch)
        self._loss(stage, batch, outputs)
        predicted = [torch.cat([boxes, scores[:, None]], 1) for boxes, scores in self.find(outputs)]
        self.add_rows(batch, {"boxes": _lists(predicted, (*CORNERS, "score")), "truth": _lists(_truth(batch), CORNERS)})


class DetectionTask(BoxTask):
    """Trains the head of YOLOv3 as MGCA does.

    Args:
        channels: Of the head at each of its three levels, fine to coarse; fewer for a CPU.
        **kwargs: See `DownstreamTask`.
    """

    def __init__(self, channels: Sequence[int] = WIDTHS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.head = YOLOHead(self.widths, self.strides, channels)

    def forward(self, batch: Batch) -> list[Tensor]:
        """Return the outputs of the head at its levels; see `YOLOHead`."""
        outputs: list[Tensor] = self.head(self.features(batch))
        return outputs

    def loss(self, outputs: list[Tensor], truth: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return `centre`, `size`, `object` and `class`; see `detection_loss`."""
        return detection_loss(outputs, truth, self.head.anchors, self.side)

    def find(self, outputs: list[Tensor]) -> Found:
        """Decode and suppress."""
        return suppress(*self.head.decode(outputs, self.side), CONFIDENCE, OVERLAP, MAX_DETECTIONS)


def _truth(batch: Batch) -> list[Tensor]:
    """Return the annotated boxes that have an area inside the crop."""
    if batch["box"] is None:
        raise UserError("the data module gives no boxes: pass --data.targets box.")
    return [box[(box[:, 2:] > box[:, :2]).all(1)] for box in batch["box"]]


def _lists(rows: Sequence[Tensor], names: Sequence[str]) -> pa.ListArray:
    """Return one list of structs for each tensor (n, len(names))."""
    values = torch.cat([row.detach().float() for row in rows]).cpu().numpy()
    fields = [pa.array(values[:, i]) for i in range(len(names))]
    return pa.ListArray.from_arrays(
        np.cumsum([0, *map(len, rows)], dtype=np.int32), pa.StructArray.from_arrays(fields, names)
    )


def _unpack(rows: pa.Table) -> tuple[tuple[list[Array], list[Array]], list[Array]]:
    """Return boxes and scores, and true boxes, of each row."""

    def columns(name: str, fields: Sequence[str]) -> list[Array]:
        lists = rows[name].combine_chunks()
        values = np.stack([lists.flatten().field(field).to_numpy() for field in fields], 1)
        return np.split(values, np.cumsum(lists.value_lengths().to_numpy())[:-1])

    predicted = columns("boxes", (*CORNERS, "score"))
    return ([row[:, :4] for row in predicted], [row[:, 4] for row in predicted]), columns("truth", CORNERS)
