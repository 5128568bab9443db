"""Segmentation of one class on a pre-trained encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from torch import Tensor, nn

from medvlp.errors import UserError
from medvlp.losses import segmentation_loss
from medvlp.metrics.bootstrap import Statistic
from medvlp.metrics.dice import dice, legacy_share, mean_dice
from medvlp.models import setr, unet
from medvlp.models.setr import SETRDecoder
from medvlp.models.unet import UNetDecoder
from medvlp.run_lengths import encode
from medvlp.tasks.downstream import DownstreamTask
from medvlp.types import Batch


class SegmentationTask(DownstreamTask):
    """Trains a decoder to predict the annotated masks as MGCA does.

    A convolutional encoder gets the decoder of a U-Net, a vision transformer that of SETR-PUP. The loss reads soft
    masks, whose borders cover a part of a pixel. The metrics count pixels of which the mask covers more than a half.

    Test metrics: `dice`, the mean over images, 1 if mask and prediction are empty and 0 if only one is;
    `dice_positive`, the mean over the images with a mask; `dice_legacy`, the mean over batches of their means. The
    released codes report `dice_legacy`, which depends on the batch size.

    Predictions: `dice`, `pixels_true`, `pixels_predicted` and `mask`, the predicted mask encoded by
    `medvlp.run_lengths`.

    Args:
        channels: Number of channels at each step of the decoder, coarse to fine; by default those of the papers. Fewer
            suit a CPU.
        **kwargs: See `DownstreamTask`.
    """

    reads: ClassVar[Literal["pooled", "maps"]] = "maps"

    def __init__(self, channels: Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decoder: nn.Module
        # A vision transformer has maps of several depths, all of one size.
        if len(set(self.strides)) == 1:
            self.decoder = SETRDecoder(self.widths[-1], channels or setr.WIDTHS)
        else:
            self.decoder = UNetDecoder(self.widths, self.strides, channels or unet.WIDTHS)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss."""
        return self._loss("train", batch)[0]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss and the mean Dice."""
        _, predicted, true = self._loss("val", batch)
        self.log("val/dice", dice(predicted, true).mean(), prog_bar=True, batch_size=len(true), sync_dist=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the Dice and the predicted mask of each image."""
        _, predicted, true = self._loss("test", batch)
        columns = {
            "dice": dice(predicted, true),
            "pixels_true": true.sum((1, 2)),
            "pixels_predicted": predicted.sum((1, 2)),
            "mask": [encode(mask) for mask in predicted.cpu().numpy()],
        }
        self.add_rows(batch, columns)

    def compute_metrics(self, rows: pa.Table) -> dict[str, Statistic]:
        """Return `dice`, `dice_legacy` and, if any image has a mask, `dice_positive`."""
        values, positive = rows["dice"].to_numpy(), rows["pixels_true"].to_numpy() > 0
        shares = {"dice": np.ones(len(rows)), "dice_legacy": legacy_share(len(rows), self.datamodule.batch_size)}
        if positive.any():
            shares["dice_positive"] = positive
        else:
            self.left_out["dice_positive"] = "no test image has a mask"
        return {name: Statistic.of(mean_dice(values, share), len(rows)) for name, share in shares.items()}

    def forward(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        """Return the logits (B, H, W), with `size` as height and width."""
        logits: Tensor = self.decoder(self.features(batch), size)
        return logits[:, 0]

    def _loss(self, stage: str, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Log the loss, and return it with predicted and true masks, bool (B, H, W).

        Raises:
            UserError: If the batch has no masks.
        """
        if batch["mask"] is None:
            raise UserError("segmentation needs masks: pass --data.targets mask.")
        true = batch["mask"][:, 0] / 255
        logits = self(batch, true.shape[-2:])
        terms = segmentation_loss(logits, true)
        loss = terms["focal"] + terms["soft_dice"]
        options: dict[str, Any] = {"batch_size": len(true), "sync_dist": stage != "train"}
        self.log_dict({f"{stage}/{name}": value.detach() for name, value in terms.items()}, **options)
        self.log(f"{stage}/loss", loss.detach(), prog_bar=True, **options)
        # Logits decide exactly; in 16 bits the probability of a logit of 0.001 is already 0.5.
        return loss, logits > 0, true > 0.5
