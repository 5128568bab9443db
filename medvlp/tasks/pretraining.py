"""Pre-training: encoders run once a batch, and the losses of all objectives are summed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor, nn

from medvlp.data.audit import Audit
from medvlp.data.audit_report import audit
from medvlp.data.preprocessing import Preprocessing
from medvlp.errors import StoppedWithOthersError, UserError
from medvlp.models import ImageEncoder, TextEncoder
from medvlp.models.recipe import RECIPE
from medvlp.models.temperature import learned_temperatures
from medvlp.objectives import Objective
from medvlp.protocols import Protocol
from medvlp.tasks.checks import check_training, other_labels
from medvlp.tasks.continued import continue_from, start_of_encoder
from medvlp.tasks.embeddings import EmbeddingCollector
from medvlp.tasks.per_folder import Means, by_folder, without_lacking
from medvlp.tasks.texts import embed_ahead
from medvlp.tasks.training_data import check_resumed, describe
from medvlp.tasks.vision_language import VisionLanguageTask
from medvlp.types import Batch, ImageFeatures, TextFeatures


class PretrainingTask(VisionLanguageTask):
    """Pre-trains an image encoder (and, if not frozen, a text encoder) with a sum of objectives.

    Validation and test report retrieval of reports, from the embeddings of all objectives, and the objectives' own
    metrics. If the data has labels that the protocol knows, they also report zero-shot AUROC.

    Args:
        image_encoder: The image encoder.
        text_encoder: The text encoder.
        objectives: Functions that make an objective from the two encoders, by name.
        protocol: Protocol of zero-shot classification, a name or a file; see `medvlp.protocols`.
        weights: Another pre-training to start from, a checkpoint of `medvlp fit` or a folder of `medvlp export`. Its
            tensors are loaded by name when the run begins; see `continue_from`. A run that is resumed, or a checkpoint
            that is loaded, does not read it again.
        **kwargs: See `BaseTask`.

    Raises:
        UserError: If there is no objective, or none reads a layer of the image encoder that is to be trained.

    Attributes:
        preprocessing: Preprocessing from files to the encoder's input; None unless a trained checkpoint is loaded.
        trained_on: Description of the training data: data set, hashes, split, number of images, and `continued_from`,
            the description of the weights that training started from, if it did. Empty before training.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        objectives: dict[str, Callable[[ImageEncoder, TextEncoder], Objective]],
        protocol: str = "medvlp",
        weights: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not objectives:
            raise UserError("objectives is empty: name at least one, or there is no loss.")
        self.save_hyperparameters()
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        # Some libraries return networks in evaluation mode, and the Trainer would not change it.
        image_encoder.train()
        text_encoder.train()
        if text_encoder.frozen:
            text_encoder.requires_grad_(False)
            # The Trainer would warn of a frozen network as if evaluation mode were a mistake.
            warnings.filterwarnings("ignore", ".*in eval mode at the start of training")
        self.objectives = nn.ModuleDict({k: make(image_encoder, text_encoder) for k, make in objectives.items()})
        if not any(objective.reads_pooled for _, objective in self._named()):
            # DistributedDataParallel would wait for gradients of layers that only the pooled feature uses.
            trained = any(parameter.requires_grad for parameter in image_encoder.parameters())
            self.image_encoder.freeze_beyond_patches()
            if trained and not any(parameter.requires_grad for parameter in image_encoder.parameters()):
                raise UserError(
                    "trainable_layers: the patches, which alone the objectives read, depend on none of the layers to "
                    "train. Pass more --model.image_encoder.init_args.trainable_layers, or 0 to freeze the encoder."
                )
        reading = [o for _, o in self._named() if o.sections or o.reads_words or o.reads_sentences]
        if not any(objective.trains_texts for objective in reading):
            self.text_encoder.requires_grad_(False)
        self.protocol = Protocol.read(protocol)
        self.preprocessing: Preprocessing | None = None
        self.trained_on: dict[str, Any] = {}
        self._weights, self._fresh = weights, True
        self._audit: Audit | None = None
        self._continued_from: dict[str, Any] | None = None
        self._collector, self._means = EmbeddingCollector(), Means()
        self._unlabelled: set[str] = set()

    def prepare_data(self) -> None:
        """Look for known test sets in the training data, and embed all texts of the run, on one process.

        Only a frozen text encoder embeds ahead.
        """
        if self.trainer.state.fn == TrainerFn.FITTING and not self.datamodule.overfits:
            self._audit = audit(self.datamodule, Path(self.trainer.default_root_dir))
        embed_ahead(self, self.datamodule)

    def setup(self, stage: str) -> None:
        """Check the data, fit the image encoder to its images, and open the cache of text embeddings, on every process.

        Raises:
            UserError: If an objective cannot learn from the data.
        """
        if stage == TrainerFn.FITTING:
            self._audit = self.trainer.strategy.broadcast(self._audit)
            if self._audit and self.datamodule.leave_out_known_tests:
                rows = [self._audit.rows(number) for number in range(len(self.datamodule.roots))]
                self.datamodule.leave_out(rows)
            validated = self.trainer.limit_val_batches != 0 and not self.datamodule.overfits
            try:
                check_training(
                    self.datamodule, dict(self._named()), self.text_encoder, self.trainer.world_size, validated
                )
            except UserError as error:
                # All processes find the same error, and only the first one prints it.
                raise error if self.global_rank == 0 else StoppedWithOthersError(str(error)) from error
        self._unlabelled = other_labels(self.datamodule, dict(self._named()))
        made_for = self.image_encoder.side
        self.image_encoder.fit(self.datamodule.framing.crop)
        if self.image_encoder.side != made_for:
            rank_zero_info(
                f"The image encoder was made for images of {made_for} pixels, data.crop is {self.datamodule.crop}: its "
                "positions are resampled."
            )
        self.text_encoder.open_cache(self.datamodule.text_cache)
        self._collector.folder = Path(self.trainer.default_root_dir)

    def on_fit_start(self) -> None:
        """Load the weights to start from, unless the run is resumed, and describe the training data.

        Raises:
            UserError: If a resumed run leaves out what it has been trained on.
        """
        self._continue()
        described = self._describe()
        check_resumed(self.trained_on, described)
        self.trained_on = described

    def on_validation_start(self) -> None:
        """Load the weights to start from, if nothing else has been loaded."""
        self._continue()

    def on_test_start(self) -> None:
        """Load the weights to start from, if nothing else has been loaded."""
        self._continue()

    def on_train_epoch_start(self) -> None:
        """Tell the objectives which epoch begins."""
        for _, objective in self._named():
            objective.begin_epoch(self.current_epoch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make dropout a function of seed, step and process, so that a resumed run equals an uninterrupted one."""
        step = self.trainer.fit_loop.total_batch_idx
        seeds = np.random.SeedSequence((self.datamodule.seed, step, self.global_rank))
        torch.manual_seed(int(seeds.generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the sum of all terms, and log each term."""
        return self._loss("train", batch, *self.encode_batch(batch))

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log the terms, also those of each of several folders, and collect the embeddings for the end of the epoch."""
        image, text = self.encode_batch(batch)
        loaders: Any = self.trainer.val_dataloaders
        folder = (
            self.datamodule.roots.names[loaders[dataloader_idx].dataset.source] if isinstance(loaders, list) else ""
        )
        self._loss("val", batch, image, text, folder)
        self.collect(batch, image, text)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect the embeddings for the end of the epoch."""
        self.collect(batch, *self.encode_batch(batch))

    def on_validation_epoch_end(self) -> None:
        """Log retrieval, zero-shot classification and the objectives' own metrics."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log retrieval, zero-shot classification and the objectives' own metrics."""
        self._log_metrics("test")

    def collect(self, batch: Batch, image: ImageFeatures, text: TextFeatures) -> None:
        """Collect the inputs of the metrics from an evaluation batch and its features, see `encode_batch`."""
        source, roots = batch["source"], self.datamodule.roots
        rows = self.embedded(batch, image, text)
        for name, objective in self._named():
            # Zero-shot classification runs on data without regions, too.
            if (not objective.reads_regions or batch["region"] is not None) and name not in self._unlabelled:
                inputs = objective.evaluate(image, text, batch)
                if objective.reads_labels and "label" in inputs:
                    inputs["label"] = without_lacking(inputs["label"], source, roots)
                rows |= {f"own/{name}/{key}": value for key, value in inputs.items()}
        label = without_lacking(batch["label"], source, roots)
        self._collector.add(batch["index"], {**rows, "label": label, "source": source})

    def metrics(self) -> dict[str, float]:
        """Return retrieval, zero-shot AUROC and the objectives' own metrics, and clear the collected batches.

        Of several folders, those of all images, and under the name of each folder those of its own.
        """
        rows, roots, labels = self._collector.collect(), self.datamodule.roots, self.datamodule.labels
        metrics = self.measured(rows, labels)
        for name, own, known in by_folder(rows, roots) if len(roots) > 1 else ():
            metrics |= {f"{name}/{key}": value for key, value in self.measured(own, known).items()}
        return metrics

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the preprocessing, the description of the training data, and the recipe of the image encoder."""
        checkpoint["data"] = self.trained_on or self._describe()
        checkpoint[RECIPE] = self.image_encoder.recipe

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the description of the training data and the preprocessing."""
        super().on_load_checkpoint(checkpoint)
        self.trained_on = checkpoint.get("data", {})
        # The checkpoint holds what the weights to start from have become.
        self._fresh, self._continued_from = False, self.trained_on.get("continued_from")
        if self.trained_on:
            self.preprocessing = Preprocessing(**self.trained_on["preprocessing"])

    def overfit_quality(self, metrics: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the recall of reports by images, and the objectives' own quality; see `BaseTask`."""
        names = ["val/retrieval/report/i2t_R@1"] if self._judged_by_retrieval else []
        names += [f"val/{name}/{o.quality}" for name, o in self._named() if o.quality]
        return {name: float(metrics[name]) for name in names if name in metrics}

    @property
    def _judged_by_retrieval(self) -> bool:
        """Whether an objective with a joint space has no quality of its own; others learn labels, not reports."""
        return any(o.sections and not o.quality for _, o in self._named())

    def _continue(self) -> None:
        if not self._fresh:
            return
        self._fresh = False
        if self._weights is None:
            self._continued_from = start_of_encoder(self.hparams.get("image_encoder"))
            return
        self._continued_from = continue_from(self, self._weights)
        if self.text_encoder.cache is not None:
            # A frozen encoder may have parameters in the file. Its embeddings of before are in another cache.
            self.text_encoder.open_cache(self.datamodule.text_cache)

    def _describe(self) -> dict[str, Any]:
        ancestors = {"continued_from": self._continued_from} if self._continued_from else {}
        return describe(self.datamodule, self._audit) | ancestors

    def _loss(self, stage: str, batch: Batch, image: ImageFeatures, text: TextFeatures, folder: str = "") -> Tensor:
        """Return the sum of all terms, and log it and them, those of one of several folders under its name."""
        terms = {
            f"{stage}/{name}/{term}": value
            for name, objective in self._named()
            for term, value in objective(image, text, batch).items()
        }
        loss = torch.stack(list(terms.values())).sum()
        options: dict[str, Any] = {"batch_size": len(batch["image"]), "sync_dist": stage == "val"}
        values = {name: value.detach() for name, value in terms.items()}
        if folder:
            values |= {f"{stage}/loss": loss.detach()}
            self._means.add(values, len(batch["image"]))
            named = {f"{stage}/{folder}/{name.removeprefix(f'{stage}/')}": value for name, value in values.items()}
            self.log_dict(named, add_dataloader_idx=False, **options)
            return loss
        self.log_dict(values, **options)
        if stage == "train":
            self.log_dict({f"train/{name}": value for name, value in learned_temperatures(self.objectives).items()})
        self.log(f"{stage}/loss", loss.detach(), prog_bar=True, **options)
        return loss

    def _log_metrics(self, stage: str) -> None:
        metrics = self.metrics()
        if stage == "val":
            # The best checkpoint is chosen by `quality`; validation images may have no reports to retrieve.
            qualities = [metrics[key] for name, o in self._named() if (key := f"{name}/{o.quality}") in metrics]
            own = sum(qualities) / max(len(qualities), 1)
            metrics["quality"] = metrics.get("retrieval/report/i2t_R@5", own) if self._judged_by_retrieval else own
        self.log_dict({f"{stage}/{name}": value for name, value in metrics.items()}, sync_dist=True)
        # Of several loaders; those of one are logged as they come.
        self.log_dict(self._means.collect(), prog_bar=True, sync_dist=True)
