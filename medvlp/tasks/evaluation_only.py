"""Base of zero-shot classification, retrieval and grounding: a pre-trained model, evaluated as it is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from medvlp.data.preprocessing import Preprocessing
from medvlp.data.transforms import Framing
from medvlp.errors import UserError
from medvlp.models.pretrained import digest
from medvlp.models.published import names_published, origin
from medvlp.prepared import Prepared
from medvlp.tasks.checkpoints import load_pretraining
from medvlp.tasks.per_image import PerImageTask
from medvlp.types import Batch


class EvaluationOnlyTask(PerImageTask):
    """Evaluates a pre-trained model as it is; no training.

    Images are cut and scaled as they were in its pre-training, whatever `data.resize` and `data.crop` say.

    Args:
        weights: A checkpoint of pre-training, a folder of `medvlp export`, or a published pair of encoders; see
            `medvlp.models.published.find_dual`.
        trust: Packages beside medvlp whose classes the weights may name; `--trust` of the command line.
    """

    def __init__(self, weights: Path, trust: Sequence[str] = ()) -> None:
        super().__init__()
        # Whom one trusts is no part of a result.
        self.save_hyperparameters(ignore="trust")
        self.weights = str(weights)
        self.model = load_pretraining(weights, trust)
        self.encoder = self.model.image_encoder
        self.encoder_sha256 = digest(self.encoder)

    @property
    def settings(self) -> dict[str, Any]:
        """The options, and the architecture of the model."""
        return {**super().settings, "architecture": self.encoder.architecture}

    @property
    def framing(self) -> Framing:
        """The framing of the model's pre-training."""
        return Framing(self._preprocessing.side, self._preprocessing.crop)

    @property
    def trained_on(self) -> Mapping[str, Any] | None:
        """Description of the data of pre-training; None if they are not known."""
        return None if names_published(self.weights) else self.model.trained_on

    @abstractmethod
    def texts(self) -> Sequence[str]:
        """Return the texts to embed for the test."""

    def prepare_data(self) -> None:
        """Embed the texts with a frozen text encoder, on one process."""
        self.check_framing()
        self.model.text_encoder.open_cache(self.datamodule.text_cache)
        self.model.text_encoder.fill(list(self.texts()), self.trainer.strategy.root_device, progress=True)

    def setup(self, stage: str) -> None:
        """Check the images, and open the cache of text embeddings, on every process."""
        self.check_framing()
        self.model.text_encoder.open_cache(self.datamodule.text_cache)
        self.model.to(self.trainer.strategy.root_device)

    def on_test_start(self) -> None:
        """Also say where published weights are from."""
        super().on_test_start()
        if names_published(self.weights):
            self.notes += [f"its weights are {origin(self.weights)}."]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Never reached; the Trainer wants it before it asks for an optimiser."""

    def configure_optimizers(self) -> NoReturn:
        """Refuse to train.

        Raises:
            UserError: Always.
        """
        raise UserError(f"a {type(self).__name__} trains nothing: run 'medvlp test', or 'medvlp benchmark'.")

    def check_framing(self) -> None:
        """Refuse prepared images that cannot be framed as in pre-training.

        Raises:
            UserError: If they are too small, or fill their square in another way.
        """
        self._preprocessing.check(Prepared.open(self.datamodule.root))

    @property
    def _preprocessing(self) -> Preprocessing:
        assert self.model.preprocessing is not None  # a model that was loaded has it
        return self.model.preprocessing
