"""Samples of a prepared folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from medvlp.data.regions import ImageBoxes, RegionList, StudyRegions, collate_regions, study_regions
from medvlp.data.transforms import View
from medvlp.data.triplets import ReportTriplets
from medvlp.errors import UserError
from medvlp.prepared import LABEL_PREFIX, TRIPLETS, Prepared
from medvlp.types import NOT_MENTIONED, Batch


class Transform(Protocol):
    """Turns a stored image (S, S) and the boxes (R, 4) of its regions into one view, the same for the same seed."""

    def __call__(self, image: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float32], seed: int) -> View:
        """Return the view."""


class Sample(TypedDict):
    """One study with one image; see `Batch` for the keys."""

    image: npt.NDArray[np.uint8]
    findings: str
    impression: str
    label: npt.NDArray[np.int8]
    finding: npt.NDArray[np.int8]
    index: int
    region: StudyRegions | None


class PreparedDataset(Dataset[Sample]):
    """Images of some splits of a prepared folder, with their reports and labels.

    Args:
        root: The prepared folder.
        splits: Splits to read.
        transform: Makes a view from a stored image.
        views: Number V of views a sample.
        seed: Views are a function of this, the epoch, the image and the number of the view: a run can be resumed,
            and the number of workers changes nothing.
        regions: The anatomical regions to give, where the report speaks of them; None gives none.

    Raises:
        UserError: If no image is in these splits, or regions are wanted and no image has any.
    """

    def __init__(
        self,
        root: Path,
        splits: Sequence[str],
        transform: Transform,
        views: int = 1,
        seed: int = 0,
        regions: RegionList | None = None,
    ) -> None:
        self.prepared = Prepared.open(root)
        self.transform, self.views, self.seed = transform, views, seed
        self.labels = self.prepared.labels
        label_columns = [LABEL_PREFIX + name for name in self.labels]
        columns = ["row", "image_id", "study_id", "findings", "impression", *label_columns]
        table = self.prepared.of_splits(splits, [*columns, *(["regions"] if regions else [])])
        if not len(table):
            known = ", ".join(sorted(self.prepared.index["split"].unique().to_pylist()))
            raise UserError(f"splits={list(splits)} of root='{root}' have no image; splits there: {known}.")
        self.image_id = table["image_id"]
        self.rows = table["row"].to_numpy()
        labels = [table[column].fill_null(NOT_MENTIONED).to_numpy() for column in label_columns]
        self.label = np.stack(labels, 1) if labels else np.empty((len(self.rows), 0), np.int8)
        self.findings = table["findings"].fill_null("").combine_chunks()
        self.impression = table["impression"].fill_null("").combine_chunks()
        studies = table["study_id"].to_pylist()
        self.triplets = ReportTriplets(Path(root) / TRIPLETS, studies, sentences=regions is not None)
        self.regions = regions
        self.boxes = ImageBoxes(table["regions"], regions) if regions else None
        if self.boxes is not None and not len(self.boxes):
            raise UserError(
                f"regions are wanted, but no image of root='{root}' has boxes of regions: prepare with --scene_graphs "
                "or --regions automatic."
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Return sample i, or sample i as epoch e sees it: the key is i or (e, i)."""
        epoch, i = key if isinstance(key, tuple) else (0, key)
        stored = self.prepared.images[self.rows[i]]
        findings, impression = self.findings[i].as_py(), self.impression[i].as_py()
        region, boxes = None, np.zeros((0, 4), np.float32)
        if self.regions is not None and self.boxes is not None:
            sections = {"findings": findings, "impression": impression}
            region, boxes = study_regions(self.boxes.of(i), self.triplets.sentences(i), sections, self.regions)
        seeds = np.random.SeedSequence((self.seed, epoch, i)).generate_state(self.views)
        views = [self.transform(stored, boxes, int(seed)) for seed in seeds]
        if region is not None:
            region.box, region.visible = np.stack([v.box for v in views]), np.stack([v.visible for v in views])
        return Sample(
            image=np.stack([view.image for view in views]),
            findings=findings,
            impression=impression,
            label=self.label[i],
            finding=self.triplets.finding[i],
            index=i,
            region=region,
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Make a batch of samples."""
    findings, impression = [s["findings"] for s in samples], [s["impression"] for s in samples]
    regions = [s["region"] for s in samples if s["region"] is not None]
    return Batch(
        image=torch.from_numpy(np.stack([s["image"] for s in samples])),
        findings=findings,
        impression=impression,
        findings_mask=torch.tensor([bool(text) for text in findings]),
        impression_mask=torch.tensor([bool(text) for text in impression]),
        label=torch.from_numpy(np.stack([s["label"] for s in samples])),
        finding=torch.from_numpy(np.stack([s["finding"] for s in samples])),
        index=torch.tensor([s["index"] for s in samples]),
        region=collate_regions(regions) if regions else None,
    )
