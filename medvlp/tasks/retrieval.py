"""Retrieval of reports by images, and of images by reports."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from medvlp.errors import UserError
from medvlp.metrics import Statistic
from medvlp.metrics.bootstrap import Weighted, mean_of, median_of
from medvlp.metrics.recall import class_hits, ranks
from medvlp.objectives.base import section_texts
from medvlp.tasks.embeddings import Candidates, EmbeddingCollector, candidates, under
from medvlp.tasks.evaluation_only import EvaluationOnlyTask
from medvlp.types import PRESENT, Batch

RECALLS = (1, 5, 10)
PRECISIONS = (5, 10, 100)


class RetrievalTask(EvaluationOnlyTask):
    """Ranks all distinct reports of the test images for each image, and all images for each report.

    The similarity of an image and a report is that of the model, by default a cosine, as the mean over all joint spaces
    whose section the report has.

    Test metrics: `i2t_R@k` and `t2i_R@k` (k = 1, 5, 10), `i2t_median_rank` and `t2i_median_rank`. With `classes` also
    `i2t_P@k` and `t2i_P@k` (k = 5, 10, 100), the share of the first k results with the query's class.

    Predictions, for each image: `report`, the number of its report; `i2t_rank`, the rank of this report; `t2i_rank`,
    the rank of the report's best image with the report as the query.

    Args:
        weights: A checkpoint of pre-training, or a folder of `medvlp export`.
        classes: Labels of which each image has one, as those of the 5x200 sets. P@k leaves out images with none or
            several.
        trust: See `EvaluationOnlyTask`.

    Raises:
        UserError: If no objective of the model aligns whole images with reports.
    """

    def __init__(self, weights: Path, classes: Sequence[str] | None = None, trust: Sequence[str] = ()) -> None:
        super().__init__(weights, trust)
        self.classes = classes
        self._collector = EmbeddingCollector()
        if not self.model.sections:
            raise UserError(f"weights='{weights}' align no whole images with reports: there is nothing to retrieve.")

    @property
    def how(self) -> str:
        """The measure of similarity."""
        return "cosine" if self.model.has_vectors else "similarity of the model"

    @property
    def reads_sentences(self) -> bool:
        """Whether the model reads sentences of reports; see `CXRDataModule`."""
        return self.model.reads_sentences

    def texts(self) -> Sequence[str]:
        """Return the reports of the test images."""
        findings, impression = self.datamodule.reports(["test"])
        return [text for section in self.model.sections for text in section_texts(section, findings, impression)]

    def setup(self, stage: str) -> None:
        """Also set the folder of temporary files; see `EvaluationOnlyTask`."""
        super().setup(stage)
        self._collector.folder = Path(self.trainer.default_root_dir)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the embeddings."""
        rows = self.model.embedded(batch, *self.model.encode_batch(batch))
        self._collector.add(batch["index"], {**rows, "label": batch["label"]})
        self.add_rows(batch, {})

    def compute_metrics(self, rows: pa.Table) -> dict[str, Statistic]:
        """Return recalls, median ranks and precisions of all images that have a report.

        Raises:
            UserError: If no test image has a report, or the model represents no reports.
        """
        collected = self._collector.collect()
        image, texts, ids = (under(collected, prefix) for prefix in ("image", "text", "id"))
        if not texts:
            raise UserError("the model compares images with texts, but not with reports: there is nothing to retrieve.")
        reports = candidates(image, texts, ids, self.model.compare)
        if not len(reports.similarity):
            raise UserError(
                f"root='{self.datamodule.root}' has no reports among its test images: there is nothing to retrieve."
            )
        of_image, of_text = (rank.numpy() for rank in ranks(reports.similarity, reports.text_of_image))
        text = reports.text_of_image.numpy()
        has = reports.rows.numpy()
        if not has.all():
            self.left_out["images"] = f"{(~has).sum():,} without a report"
        columns = {"report": text, "i2t_rank": of_image, "t2i_rank": of_text[text]}
        for name, values in columns.items():
            whole = np.zeros(len(has), np.int64)
            whole[has] = values
            rows = rows.append_column(name, pa.array(whole, mask=~has))
        self.predictions = rows
        by_query = {"i2t": of_image, "t2i": of_text}
        metrics: dict[str, Weighted] = {}
        for direction, rank in by_query.items():
            weigh = partial(_weighted, text if direction == "t2i" else None, has)
            metrics |= {f"{direction}_R@{k}": weigh(mean_of(rank <= k)) for k in RECALLS}
            metrics[f"{direction}_median_rank"] = weigh(median_of(rank))
        counted = dict.fromkeys(metrics, has)
        if self.classes is not None:
            precisions, counted_there = self._precisions(reports, collected["label"][reports.rows], has)
            metrics |= precisions
            counted |= dict.fromkeys(precisions, counted_there)
        return {
            name: Statistic.of(metric, len(rows)).counting(counted[name].sum(), len(rows), "images")
            for name, metric in metrics.items()
        }

    def _precisions(
        self, reports: Candidates, label: Tensor, has: npt.NDArray[np.bool_]
    ) -> tuple[dict[str, Weighted], npt.NDArray[np.bool_]]:
        """Return P@k over the images with exactly one of the classes and their reports, and a mask of these images."""
        data = self.datamodule
        classes = data.find_labels(self.classes or [], "classes")
        present = label[:, [data.labels.index(name) for name in classes]] == PRESENT
        one = present.sum(1) == 1
        if not one.any():
            self.left_out["P@k"] = "no image has just one of the classes"
            return {}, np.zeros_like(has)
        texts, text = reports.text_of_image[one].unique(return_inverse=True)
        of_image = present[one].int().argmax(1)
        # Labels come from the report: images of one report have the same labels.
        of_text = torch.empty(len(texts), dtype=torch.long).scatter_(0, text, of_image)
        counted = has.copy()
        counted[has] = one.numpy()
        similarity = reports.similarity[one][:, texts]
        metrics = {}
        for direction, scores, query, candidate in (
            ("i2t", similarity, of_image, of_text),
            ("t2i", similarity.T, of_text, of_image),
        ):
            of_query = text.numpy() if direction == "t2i" else None
            for k, precision in class_hits(scores, query, candidate, PRECISIONS).items():
                metrics[f"{direction}_P@{k}"] = _weighted(of_query, counted, mean_of(precision.numpy()))
        return metrics, counted


def _weighted(text: npt.NDArray[np.int64] | None, has: npt.NDArray[np.bool_], metric: Weighted) -> Weighted:
    """Return a metric of queries as a function of the weights (N,) of all images.

    Args:
        text: If texts are the queries, the text of each image that counts; the weight of a text is the mean weight of
            its images. None if images are the queries.
        has: Mask of the images that count, bool (N,).
        metric: A function of the weights of the queries.
    """
    if text is None:
        return lambda weights: metric(weights[has])
    images = np.bincount(text)
    return lambda weights: metric(np.bincount(text, weights[has]) / images)
