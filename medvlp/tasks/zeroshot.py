"""Zero-shot classification and retrieval of a pre-trained checkpoint."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch

from medvlp.errors import NotFoundError, UserError
from medvlp.prompts import Prompts
from medvlp.tasks.base import BaseTask
from medvlp.tasks.pretraining import PretrainingTask
from medvlp.types import Batch


def load_pretraining(weights: Path) -> PretrainingTask:
    """Rebuild the task of a checkpoint that `medvlp fit` wrote, without running any code of the file.

    Raises:
        UserError: If there is no such file, or it holds something else.
    """
    if not Path(weights).is_file():
        raise NotFoundError(
            f"weights='{weights}': no such file. Pass a checkpoint of 'medvlp fit', runs/.../last.ckpt."
        )
    try:
        encoder = torch.load(weights, "cpu", weights_only=True, mmap=True)["hyper_parameters"]["image_encoder"]
        # The checkpoint holds its weights: those it started from need not be at hand.
        encoder["init_args"].update(pretrained=False, weights=None)
        task = L.LightningModule.load_from_checkpoint(weights, "cpu", weights_only=True, image_encoder=encoder)
    except Exception as error:  # whatever a damaged or foreign file makes of the unpickler
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"weights='{weights}' is no checkpoint of 'medvlp fit': {reason}") from error
    if not isinstance(task, PretrainingTask):
        raise UserError(f"weights='{weights}' holds a {type(task).__name__}, not a PretrainingTask.")
    return task


class ZeroShotTask(BaseTask):
    """Tests a pre-trained model on data it need not have seen: AUROC of each label, and retrieval of reports.

    `medvlp test --config CONFIG` without weights, CONFIG being the pre-training's, gives the same figures for the
    untrained network.

    Args:
        weights: Checkpoint of a pre-training.
        prompts: Prompts of the labels.
    """

    def __init__(self, weights: Path, prompts: Prompts | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = load_pretraining(weights)
        self.model.prompts = prompts or Prompts()

    def prepare_data(self) -> None:
        """Embed reports and prompts with a frozen text encoder, on one process."""
        self.model.embed_ahead(self.trainer)

    def setup(self, stage: str) -> None:
        """Read the embedded texts, on every process."""
        self.model.text_encoder.open_cache(self.datamodule.text_cache)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the embeddings for the end of the epoch."""
        self.model.keep(batch, *self.model.encode(batch))

    def on_test_epoch_end(self) -> None:
        """Log retrieval and zero-shot classification."""
        metrics = self.model.metrics(self.datamodule.labels)
        self.log_dict({f"test/{name}": value for name, value in metrics.items()}, sync_dist=True)
