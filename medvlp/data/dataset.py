"""Samples of a prepared folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from medvlp.data.objects import ObjectBoxes
from medvlp.data.regions import ImageBoxes, RegionList, StudyRegions, collate_regions, study_regions
from medvlp.data.selection import Rows, Targets, joined, select
from medvlp.data.sentences import ReportSentences, StudySentences, collate_sentences
from medvlp.data.subset import Subset
from medvlp.data.transforms import View
from medvlp.data.triplets import ReportTriplets
from medvlp.data.views import StudyImages
from medvlp.errors import UserError
from medvlp.parse import FINDINGS
from medvlp.prepared import TRIPLETS, Prepared
from medvlp.types import NOT_MENTIONED, Batch

Mask = npt.NDArray[np.uint8]
ViewSource = Literal["image", "study"]


class Transform(Protocol):
    """Turns a stored image (S, S), its boxes (R, 4) and its mask (S, S) into one view, the same for the same seed."""

    def __call__(
        self, image: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float32], seed: int, mask: Mask | None = None
    ) -> View:
        """Return the view."""


class Sample(TypedDict):
    """One study with one image; see `Batch` for the keys."""

    image: npt.NDArray[np.uint8]
    findings: str
    impression: str
    label: npt.NDArray[np.int8]
    existence: npt.NDArray[np.int8]
    index: int
    source: int
    sentence: StudySentences | None
    region: StudyRegions | None
    mask: Mask | None
    box: npt.NDArray[np.float32] | None


class Spoken(NamedTuple):
    """What a report says of the regions in an image.

    Attributes:
        sentence: Its sentences.
        region: The regions that they mention, with empty `box` and `visible`.
        box: Their boxes (R, 4) in pixels of the stored image.
    """

    sentence: StudySentences
    region: StudyRegions
    box: npt.NDArray[np.float32]


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
        variant: The way the data is split, one of `Prepared.split_variants`; by default the first.
        targets: Annotations to load, `mask` or `box`. Images that were never annotated are dropped: they would count
            as empty.
        subset: Which of the images to keep; None keeps all.
        sentences: Whether to give all sentences of the reports; regions imply them.
        view_source: Source of the views after the first: `image`, or `study` for other images of the same study among
            these images, as far as there are any. Boxes and masks are those of the first, so it goes without them.
        left_out: Rows of images.npy to leave out.
        labels: Names of the labels to give, in any case; those that the folder lacks are not mentioned. By default
            those of the folder.

    Attributes:
        source: Number of the folder, among several of a run.
        first: Number of samples of the folders before it.
        image_id: Names of the images.
        rows: Their rows in images.npy.
        unannotated: Number of images dropped because they have no annotation.
        study: The other images of each study, if views are drawn from them.

    Raises:
        UserError: If no image is in these splits, or regions or targets are wanted and no image has any.
    """

    def __init__(
        self,
        root: Path,
        splits: Sequence[str],
        transform: Transform,
        views: int = 1,
        seed: int = 0,
        regions: RegionList | None = None,
        variant: str | None = None,
        targets: Targets | None = None,
        subset: Subset | None = None,
        sentences: bool = False,
        view_source: ViewSource = "image",
        left_out: Rows | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        self.prepared = Prepared.open(root)
        self.transform, self.views, self.seed = transform, views, seed
        self.source = self.first = 0
        columns = ["study_id", "findings", "impression", *(["regions"] if regions else [])]
        table, label, self.unannotated = select(self.prepared, splits, variant, targets, subset, columns, left_out)
        self.labels = self.prepared.labels if labels is None else list(labels)
        self.label = label if labels is None else joined(label, self.prepared.labels, labels)
        self.targets = targets
        self.objects = ObjectBoxes(table["boxes"]) if targets == "box" else None
        self.image_id, self.study_id = table["image_id"], table["study_id"]
        self.rows = table["row"].to_numpy()
        self.findings = table["findings"].fill_null("").combine_chunks()
        self.impression = table["impression"].fill_null("").combine_chunks()
        studies = table["study_id"].to_pylist()
        self.study = StudyImages(studies) if view_source == "study" else None
        self.regions = regions
        self.boxes = ImageBoxes(table["regions"], regions) if regions else None
        if self.boxes is not None and not len(self.boxes):
            raise UserError(
                f"regions=True, but no image of root='{root}' has boxes of regions: prepare it with --scene_graphs "
                "or --regions automatic."
            )
        if regions and not (Path(root) / TRIPLETS).exists():
            raise UserError(f"regions=True, but root='{root}' has no reports, which would mention them.")
        path = Path(root) / TRIPLETS
        # A data set of images alone has no reports to find anything in.
        wanted = sentences or regions is not None
        triplets = ReportTriplets(path, studies, wanted) if path.exists() else None
        self.sentences = ReportSentences(studies, self.findings, self.impression, triplets) if wanted else None
        silence = np.full((len(self.rows), len(FINDINGS)), NOT_MENTIONED, np.int8)
        self.existence = triplets.existence if triplets else silence

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Return sample i, or sample i as epoch e sees it: the key is i or (e, i)."""
        epoch, i = key if isinstance(key, tuple) else (0, key)
        row = self.rows[i]
        findings, impression = self.findings[i].as_py(), self.impression[i].as_py()
        sentence, region, boxes = None, None, np.zeros((0, 4), np.float32)
        if self.regions is not None:
            sentence, region, boxes = self.spoken(i)
        elif self.sentences is not None:
            sentence = self.sentences.of(i)
        count = len(boxes)
        if self.objects is not None:
            boxes = np.concatenate([boxes, self.objects.of(i)])
        mask = self.prepared.masks[row] if self.targets == "mask" and self.prepared.masks is not None else None
        seeds = np.random.SeedSequence((self.seed, epoch, i)).generate_state(self.views)
        drawn = np.full(self.views, i) if self.study is None else self.study.draw(i, self.views, (self.seed, epoch, i))
        views = [
            self.transform(self.prepared.images[row], boxes, int(seed), mask)
            for row, seed in zip(self.rows[drawn], seeds, strict=True)
        ]
        if region is not None:
            region.box = np.stack([v.box[:count] for v in views])
            region.visible = np.stack([v.visible[:count] for v in views])
        return Sample(
            image=np.stack([view.image for view in views]),
            findings=findings,
            impression=impression,
            label=self.label[i],
            existence=self.existence[i],
            index=self.first + i,
            source=self.source,
            sentence=sentence,
            region=region,
            mask=np.stack([view.mask for view in views if view.mask is not None]) if mask is not None else None,
            box=views[0].box[count:][views[0].visible[count:]] if self.targets == "box" else None,
        )

    def spoken(self, i: int) -> Spoken:
        """Return what the report of sample i says of the regions in the stored image; see `study_regions`.

        Raises:
            ValueError: If the data set was not to give regions.
        """
        if self.regions is None or self.boxes is None or self.sentences is None:
            raise ValueError("the data set gives no regions.")
        sentence = self.sentences.of(i)
        return Spoken(sentence, *study_regions(self.boxes.of(i), sentence.region, self.regions))


def collate(samples: Sequence[Sample]) -> Batch:
    """Make a batch of samples."""
    findings, impression = [s["findings"] for s in samples], [s["impression"] for s in samples]
    sentences = [s["sentence"] for s in samples if s["sentence"] is not None]
    regions = [s["region"] for s in samples if s["region"] is not None]
    masks = [s["mask"] for s in samples if s["mask"] is not None]
    boxes = [torch.from_numpy(s["box"]) for s in samples if s["box"] is not None]
    return Batch(
        image=torch.from_numpy(np.stack([s["image"] for s in samples])),
        findings=findings,
        impression=impression,
        findings_mask=torch.tensor([bool(text) for text in findings]),
        impression_mask=torch.tensor([bool(text) for text in impression]),
        label=torch.from_numpy(np.stack([s["label"] for s in samples])),
        existence=torch.from_numpy(np.stack([s["existence"] for s in samples])),
        index=torch.tensor([s["index"] for s in samples]),
        source=torch.tensor([s["source"] for s in samples]),
        sentence=collate_sentences(sentences) if sentences else None,
        region=collate_regions(regions) if regions else None,
        mask=torch.from_numpy(np.stack(masks)) if masks else None,
        box=boxes or None,
        feature=None,
    )
