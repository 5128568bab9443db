"""Phrase grounding: compares the heat maps of a pre-trained model with the boxes of a phrase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from medvlp.data.dataset import PreparedDataset
from medvlp.data.transforms import Framing
from medvlp.errors import UnsuitableDataError, UserError
from medvlp.metrics import Statistic
from medvlp.metrics.bootstrap import Weighted, Weights, mean_of
from medvlp.metrics.grounding import (
    THRESHOLDS,
    box_mask,
    centre_window,
    contrast_to_noise,
    overlap,
    patch_pointing,
    pointing_chance,
    rescale,
    smooth,
    to_image,
)
from medvlp.objectives import Objective
from medvlp.prepared import Prepared
from medvlp.tasks.evaluation_only import EvaluationOnlyTask
from medvlp.tasks.phrases import (
    Phrase,
    RegionSource,
    object_phrases,
    region_caveat,
    region_phrases,
    unsuitable_source,
)
from medvlp.types import Batch, HeatSource

METRICS = ("pointing", "pointing_chance", "cnr", "cnr_signed", "miou", "dice", "recall", "iou")
BY_NAME = ("pointing", "pointing_chance", "cnr")
ROW = pa.struct(
    [("name", pa.string()), ("phrase", pa.string()), ("known", pa.bool_()), *((name, pa.float64()) for name in METRICS)]
)


class GroundingTask(EvaluationOnlyTask):
    """Compares heat maps of phrases with boxes.

    The truth is the union of all boxes of one name and one phrase in an image. Maps are enlarged to the pixels of the
    whole image. The encoder sees a crop of it, and pixels outside the crop do not count.

    Test metrics, each the mean over the pairs of image and phrase, as `medvlp.metrics.grounding` defines them:
    `pointing` (of the highest patch) and its `pointing_chance`, `cnr`, `cnr_signed`, `miou`; `dice`, `recall` and `iou`
    at one threshold; `pointing/NAME`, `pointing_chance/NAME` and `cnr/NAME`. The bootstrap of the intervals resamples
    images, each with all its phrases.

    Predictions: one row for each pair.

    Args:
        weights: A checkpoint of pre-training, or a folder of `medvlp export`.
        source: The source of the heat maps; `best` is the first of `VisionLanguageTask.heat_sources`.
        truth: `boxes`: the annotated objects, with `data.targets` box. `regions`: the anatomical regions of each
            sentence in the report, with `data.regions` true; negated sentences count, too.
        phrases: Phrases for objects that have a name but no phrase, by name, in any case. By default the name in lower
            case.
        smoothing: Standard deviation of a Gaussian that smooths a map, as a share of its side; 0 turns smoothing off.
            BioViL's is 0.1, 1.5 patches of 15.
        magnify: Factor by which images are larger than in pre-training, for finer maps.
        threshold: Threshold for Dice, recall and IoU, on maps rescaled to the range from 0 to 1.
        region_source: Required source of `regions`: `scene graphs` of Chest ImaGenome, or `automatic`, medvlp's own
            localiser. By default either.
        trust: See `EvaluationOnlyTask`.

    Raises:
        UserError: If the model has no maps of this source, or an option is out of range.
    """

    def __init__(
        self,
        weights: Path,
        source: HeatSource | Literal["best"] = "best",
        truth: Literal["boxes", "regions"] = "boxes",
        phrases: dict[str, str] | None = None,
        smoothing: float = 0.0,
        magnify: float = 1.0,
        threshold: float = 0.5,
        region_source: RegionSource | None = None,
        trust: Sequence[str] = (),
    ) -> None:
        super().__init__(weights, trust)
        self.phrases = phrases or {}
        self.smoothing, self.magnify, self.threshold = smoothing, magnify, threshold
        self.truth, sources = truth, self.model.heat_sources
        if magnify <= 0 or smoothing < 0:
            raise UserError(f"magnify={magnify} must be above 0, smoothing={smoothing} at least 0.")
        if source not in sources and not (source == "best" and sources):
            raise UserError(
                f"source='{source}': the model in weights='{weights}' has no such heat maps, but {', '.join(sources)}."
                if sources
                else f"the model in weights='{weights}' has no heat maps of texts."
            )
        self.source: HeatSource = sources[0] if source == "best" else source

    @property
    def framing(self) -> Framing:
        """The framing of the model's pre-training, magnified."""
        return Framing(self._side, round(self.magnify * self._preprocessing.crop))

    @property
    def _side(self) -> int:
        return round(self.magnify * self._preprocessing.side)

    @property
    def how(self) -> str:
        """The source of the maps, and the magnification of the images."""
        return f"{self.source} maps" + (f", magnified {self.magnify:g}" if self.magnify != 1 else "")

    @classmethod
    def check_data(cls, prepared: Prepared, options: Mapping[str, Any]) -> None:
        """Refuse regions from another source than `region_source`.

        Raises:
            UnsuitableDataError: If the data has other regions, or none.
        """
        required = options.get("region_source")
        if required is not None and (reason := unsuitable_source(prepared, required)):
            raise UnsuitableDataError(reason)

    def on_test_start(self) -> None:
        """Note the caveats of the truth."""
        super().on_test_start()
        if self.truth == "regions":
            self.notes += [region_caveat(Prepared.open(self.datamodule.root))]

    def texts(self) -> Sequence[str]:
        """Return all phrases of the test images."""
        dataset = self._check(self.datamodule.dataset("test"))
        return list(dict.fromkeys(phrase.text for i in range(len(dataset)) for phrase in self.of(dataset, i)))

    def of(self, dataset: PreparedDataset, i: int) -> list[Phrase]:
        """Return the phrases to localise in image i of a data set."""
        return region_phrases(dataset, i) if self.truth == "regions" else object_phrases(dataset, i, self.phrases)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the metrics of each phrase in each image."""
        loader: Any = self.trainer.test_dataloaders
        dataset = self._check(loader.dataset)
        phrases = [self.of(dataset, i) for i in batch["index"].tolist()]
        texts = dict.fromkeys(phrase.text for of_image in phrases for phrase in of_image)
        positions = {text: position for position, text in enumerate(filter(self._knows, texts))}
        drawn = [b for b, of_image in enumerate(phrases) if any(phrase.text in positions for phrase in of_image)]
        heat: dict[int, npt.NDArray[np.float32]] = {}
        if drawn:
            maps = self.model.text_heat_maps(batch["image"][drawn, 0], [*positions], self.source)
            heat = dict(zip(drawn, maps.float().cpu().numpy(), strict=True))
        rows: list[list[dict[str, Any]]] = [[] for _ in phrases]
        for b, of_image in enumerate(phrases):
            for name, text, boxes in of_image:
                row: dict[str, Any] = {"name": name, "phrase": text, "known": text in positions}
                if text in positions:
                    row |= self.measure(heat[b][positions[text]], boxes / dataset.prepared.size)
                rows[b].append(row)
        self.add_rows(batch, {"phrases": pa.array(rows, pa.list_(ROW))})

    def measure(self, heat: npt.NDArray[np.floating], boxes: npt.NDArray[np.floating]) -> dict[str, float]:
        """Return the metrics of one map; NaN if no box reaches into the crop.

        Args:
            heat: The map of the crop, (h, w).
            boxes: Boxes of the phrase, (n, 4), in shares of the image.
        """
        side, crop = self._side, self.framing.crop
        shape = (side, side)
        truth = box_mask(boxes * side, shape)
        if self.smoothing:
            heat = smooth(heat, self.smoothing * heat.shape[1])
        window = centre_window(shape, crop)
        whole = to_image(heat, shape, window)
        scaled = rescale(whole)
        iou = overlap(scaled, truth, THRESHOLDS).iou.mean()
        at = overlap(scaled, truth, [self.threshold])
        values = (
            patch_pointing(heat, truth, window),
            pointing_chance(whole, truth),
            contrast_to_noise(whole, truth),
            contrast_to_noise(whole, truth, signed=True),
            iou,
            at.dice[0],
            at.recall[0],
            at.iou[0],
        )
        return dict(zip(METRICS, map(float, values), strict=True))

    def compute_metrics(self, rows: pa.Table) -> dict[str, Statistic]:
        """Return the metrics over all pairs of image and phrase.

        Raises:
            UserError: If no test image has a phrase to localise.
        """
        lists = rows["phrases"].combine_chunks()
        image = pc.list_parent_indices(lists).to_numpy()
        pairs = pa.Table.from_struct_array(lists.flatten())
        self.predictions = pairs.add_column(0, "image_id", rows["image_id"].take(pa.array(image)))
        has_map, chance = pairs["known"].to_numpy(), pairs["pointing_chance"].fill_null(np.nan).to_numpy()
        measured = np.isfinite(chance)
        for what, count in (
            (f"phrases that name nothing the {self.source} maps know", (~has_map).sum()),
            ("phrases with all boxes outside the crop", (has_map & ~measured).sum()),
        ):
            if count:
                self.left_out[what] = f"{count:,} of {len(pairs):,}"
        if not measured.any():
            reasons = "; ".join(f"{what}: {count}" for what, count in self.left_out.items())
            raise UserError(f"root='{self.datamodule.root}' has no phrase to find in its test images. {reasons}")

        def of_phrases(metric: Weighted, weights: Weights) -> float:
            return metric(weights[image])

        values = {name: pairs[name].fill_null(np.nan).to_numpy() for name in METRICS}
        names = np.array(pairs["name"].fill_null("").to_pylist())
        for name in sorted({*names[measured]} - {""}):
            values |= {f"{metric}/{name}": np.where(names == name, values[metric], np.nan) for metric in BY_NAME}
        statistics = {}
        for name, array in values.items():
            if counted := np.isfinite(array).sum():
                total = (names == name.partition("/")[2]).sum() if "/" in name else len(pairs)
                statistic = Statistic.of(partial(of_phrases, mean_of(array)), len(rows))
                statistics[name] = statistic.counting(counted, total, "phrases")
        return statistics

    def check_framing(self) -> None:
        """Also refuse regions from another source, and set the encoder to magnified images."""
        super().check_framing()
        self.check_data(Prepared.open(self.datamodule.root), self.hparams)
        self.encoder.fit(self.framing.crop)

    def _knows(self, text: str) -> bool:
        """Return whether the model can draw a heat map for a text."""
        objectives = (objective for objective in self.model.objectives.values())
        return all(o.can_show(text) for o in objectives if isinstance(o, Objective) and o.heat_source == self.source)

    def _check(self, dataset: PreparedDataset) -> PreparedDataset:
        """Return the data set itself if it gives the truth.

        Raises:
            UserError: If the data module was not told to load the truth.
        """
        if (dataset.objects if self.truth == "boxes" else dataset.regions) is None:
            option = "--data.targets box" if self.truth == "boxes" else "--data.regions true"
            raise UserError(f"truth='{self.truth}', but the data module loads none: pass {option}.")
        return dataset
