"""Base of classification, segmentation and detection: a pre-trained encoder, and one result per test image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from medvlp.data.features import FeatureStore
from medvlp.data.transforms import EvaluationTransform
from medvlp.errors import UserError
from medvlp.models.image import ImageEncoder
from medvlp.models.pretrained import digest, load_image_encoder, pretrained_on
from medvlp.prepared import IMAGES, Prepared
from medvlp.tasks.base import READ
from medvlp.tasks.parameter_groups import Layers
from medvlp.tasks.per_image import PerImageTask
from medvlp.types import Batch

ENCODER = "encoder."
NO_BOXES = np.zeros((0, 4), np.float32)


class DownstreamTask(PerImageTask):
    """Trains a head on the features of a pre-trained image encoder, frozen or not.

    A subclass says what it `reads`, gives the training, validation and test steps, and makes its metrics of the rows
    that its test step has kept.

    Args:
        weights: Where the encoder comes from: `imagenet`, `random`, a checkpoint of `medvlp fit`, a name such as
            `rad-dino` or `hf:OWNER/NAME`, or another file; see `load_image_encoder`.
        architecture: Name of the network in timm or another name of `TimmEncoder`, if the weights do not hold it.
        image_size: Side of the images in pixels; by default that of the data.
        freeze: Train the head alone; the encoder stays as it is, the statistics of its batch norms included.
        adapt_batch_norm: Let these statistics follow the images of the new data nevertheless, as the released codes
            do: MGCA freezes parameters only. Published segmentations and detections contain this leak.
        cache_features: Compute the features of a frozen encoder once for each image, and keep them in the prepared
            folder for all fractions and seeds. Training then sees the centre crop of the images, without augmentation.
        trust: Packages beside medvlp whose encoder the weights may name; `--trust` of the command line.
        normalisation: Mean and std that the weights of another file were trained with; see `TimmEncoder`.
        **kwargs: See `BaseTask`.

    Attributes:
        reads: Whether `features` returns pooled features or maps.
        levels: Which of the encoder's maps.
        encoder_sha256: Of the encoder that training starts from.

    Raises:
        UserError: If the encoder cannot be had, or features that change were to be cached.
    """

    reads: ClassVar[Literal["pooled", "maps"]]
    levels: ClassVar[slice] = slice(None)

    def __init__(
        self,
        weights: str = "imagenet",
        architecture: str | None = None,
        image_size: int | None = None,
        freeze: bool = True,
        adapt_batch_norm: bool = False,
        cache_features: bool = False,
        trust: Sequence[str] = (),
        normalisation: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Whom one trusts is no part of a result.
        self.save_hyperparameters(ignore="trust")
        if cache_features and (adapt_batch_norm or not freeze):
            changing = "adapt_batch_norm=True" if freeze else "freeze=False"
            raise UserError(f"cache_features=True, but with {changing} features change while training: pass one only.")
        self.frozen, self.adapt_batch_norm, self.cache_features = freeze, adapt_batch_norm, cache_features
        self.weights = weights
        self.encoder: ImageEncoder = load_image_encoder(weights, architecture, image_size, trust, normalisation)
        self.encoder_sha256 = digest(self.encoder)
        if freeze:
            self.encoder.requires_grad_(False)
            # The Trainer takes a frozen network for a forgotten one.
            warnings.filterwarnings("ignore", ".*in eval mode at the start of training")
        self.train()

    @property
    def how(self) -> str:
        """Whether the encoder was frozen."""
        return "frozen encoder" if self.frozen else "full fine-tuning"

    @property
    def settings(self) -> dict[str, Any]:
        """The hyper-parameters, and the architecture in the weights."""
        return {**super().settings, "architecture": self.encoder.architecture}

    @property
    def trained_on(self) -> dict[str, Any] | None:
        """Description of the data of pre-training; None if the weights hold none."""
        return pretrained_on(self.weights)

    @property
    def encoder_layers(self) -> dict[str, Layers]:
        """The parameters of the image encoder by layer; see `BaseTask.encoder_layers`."""
        return {"image": self.encoder.parameters_by_depth()}

    @property
    def widths(self) -> list[int]:
        """Channels of each of `features`."""
        return [self.encoder.width] if self.reads == "pooled" else self.encoder.map_widths[self.levels]

    @property
    def strides(self) -> list[int]:
        """Pixels of the image between two cells of each of the maps."""
        return self.encoder.map_strides[self.levels]

    def prepare_data(self) -> None:
        """Compute the features of the images of this run that are not stored yet.

        Raises:
            UserError: If there are several folders, or an augmentation would change images whose features are computed
                once.
        """
        Prepared.open(self.datamodule.root)
        self.encoder.fit(self.datamodule.framing.crop)
        if not self.cache_features:
            return
        data, verb = self.datamodule, self.trainer.state.fn
        if verb == TrainerFn.FITTING and not data.augmentation.off:
            raise UserError(
                "cache_features=True, but the augmentation changes the images in each epoch: set all its probabilities "
                "to 0, or pass --model.cache_features false."
            )
        home, device = self.device, self.trainer.strategy.root_device
        self.encoder.to(device)
        images, transform = Prepared.open(data.root).images, EvaluationTransform(data.framing.crop, data.framing.resize)

        def encode(rows: npt.NDArray[np.int64]) -> list[Tensor]:
            views = np.stack([transform(images[row], NO_BOXES, 0).image for row in rows])
            # The same fp32 features whatever the precision of the training around it.
            with torch.no_grad(), torch.autocast(device.type, enabled=False):
                return self.encode_images(torch.from_numpy(views).to(device))

        self._store().fill(np.concatenate([data.dataset(name).rows for name in READ[verb]]), encode)
        self.encoder.to(home)

    def setup(self, stage: str) -> None:
        """Make the encoder take the images of the data, and open the stored features, on every process."""
        self.encoder.fit(self.datamodule.framing.crop)
        self.stored_features = self._store() if self.cache_features else None

    def train(self, mode: bool = True) -> DownstreamTask:
        """Set the mode of all modules. A frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
            for module in self.encoder.modules():
                if self.adapt_batch_norm and isinstance(module, _BatchNorm):
                    module.train(mode)
        return self

    def features(self, batch: Batch) -> list[Tensor]:
        """Return the encoder's features of the first view: one tensor (B, D), or maps (B, C_l, H_l, W_l)."""
        if batch["feature"] is not None:
            return [feature.float() for feature in batch["feature"]]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.encode_images(batch["image"][:, 0])

    def encode_images(self, image: Tensor) -> list[Tensor]:
        """Return the features of images, uint8 (B, H, W)."""
        if self.reads == "pooled":
            return [self.encoder(image).pooled]
        return self.encoder.maps(image)[self.levels]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Drop the frozen encoder, which `weights` restore."""
        checkpoint["encoder_sha256"] = self.encoder_sha256
        if self.frozen:
            # The running statistics that training has adapted come back from nowhere else.
            kept = {f"{ENCODER}{name}" for name, _ in self.encoder.named_buffers()} if self.adapt_batch_norm else set()
            checkpoint["state_dict"] = {
                name: value
                for name, value in checkpoint["state_dict"].items()
                if not name.startswith(ENCODER) or name in kept
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the frozen encoder.

        Raises:
            UserError: If the encoder is not the one that the checkpoint was trained with.
        """
        super().on_load_checkpoint(checkpoint)
        if not self.frozen:
            return
        if checkpoint["encoder_sha256"] != self.encoder_sha256:
            raise UserError(
                f"weights='{self.weights}' are not those that the checkpoint was trained with, and a checkpoint of a "
                "frozen encoder does not hold them. Pass the same --model.weights."
            )
        encoder = {f"{ENCODER}{name}": value for name, value in self.encoder.state_dict().items()}
        checkpoint["state_dict"] = encoder | checkpoint["state_dict"]

    def _store(self) -> FeatureStore:
        data = self.datamodule
        prepared = Prepared.open(data.root)
        settings = {
            "encoder": self.encoder_sha256,
            "reads": self.reads,
            "levels": [self.levels.start, self.levels.stop, self.levels.step],
            "crop": data.framing.crop,
            "resize": data.framing.resize,
            "images": prepared.manifest["sha256"][IMAGES],
        }
        return FeatureStore(prepared.root, settings, len(prepared.images))
