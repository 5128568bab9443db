"""Pictures of the heat maps of report texts, and the callback that logs them to Weights & Biases."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from medvlp.data import CXRDataModule, collate
from medvlp.inference.drawing import Bytes, Scale, coloured, enlarge
from medvlp.objectives import HeatMap
from medvlp.tasks import PretrainingTask
from medvlp.types import Batch

SIDE = 320
GREEN = (90, 255, 120)


def overlay(image: Tensor, heat_map: HeatMap, side: int = SIDE) -> Bytes:
    """Return an image with its heat map in colour and the boxes of the regions, RGB (side, side, 3).

    The colour scale runs from the least to the greatest value of the map.

    Args:
        image: The image, uint8 (H, W), H = W.
        heat_map: A heat map of this image.
        side: Side of the picture in pixels.
    """
    grey = np.asarray(cv2.resize(image.cpu().numpy(), (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)
    heat = heat_map.heat.double().cpu().numpy()
    scale = Scale(float(heat.min()), float(heat.max()), "")
    picture = coloured(grey, scale.share(enlarge(heat, grey.shape, (0, 0, side, side))))
    for box in heat_map.box.float().cpu().numpy() * (side / image.shape[0]):
        x1, y1, x2, y2 = (round(float(edge)) for edge in box)
        cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), GREEN, 1)
    return picture


class HeatMaps(Callback):
    """Logs heat maps of the first validation studies to Weights & Biases, one panel per objective with heat maps.

    Images and sentences of patients stay on this machine: by default only synthetic data are logged. Before you set
    `log_patient_data`, read in the data use agreement of your data set who may receive them.

    Args:
        studies: Number of studies.
        log_patient_data: Whether to log images and sentences of patients as well.
    """

    def __init__(self, studies: int = 4, log_patient_data: bool = False) -> None:
        self.studies, self.log_patient_data = studies, log_patient_data
        self._batch: Batch | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the heat maps and log them, on rank zero only."""
        logger = trainer.logger
        if trainer.sanity_checking or not trainer.is_global_zero or not isinstance(logger, WandbLogger):
            return
        data: CXRDataModule = trainer.datamodule  # type: ignore[attr-defined]  # set by a connector
        if not isinstance(pl_module, PretrainingTask):
            return
        if not (self.log_patient_data or all(folder.synthetic for folder in data.roots.open())):
            return
        if self._batch is None:
            dataset = data.dataset("validate")
            self._batch = collate([dataset[i] for i in range(min(self.studies, len(dataset)))])
        batch = pl_module.transfer_batch_to_device(self._batch, pl_module.device, 0)
        training = pl_module.training
        with torch.inference_mode():
            maps = pl_module.eval().heat_maps(batch)
        pl_module.train(training)
        for name, drawn in maps.items():
            pictures = [overlay(batch["image"][heat_map.study, 0], heat_map) for heat_map in drawn]
            logger.log_image(f"val/{name}/heat_maps", pictures, caption=[heat_map.text for heat_map in drawn])
