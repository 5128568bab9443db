"""The regions in an image that sentences of its report mention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
import yaml

from medvlp.errors import NotFoundError, UserError
from medvlp.parse import REGIONS
from medvlp.types import RegionBatch


class RegionList:
    """The regions for training: the 29 of Chest ImaGenome, or merged ones.

    Args:
        path: YAML file `name: [members]`, such as regions_23.yaml in this folder. Each member is one of
            `medvlp.parse.REGIONS`; regions that are no member are left out. The box of a merged region is the smallest
            rectangle around the boxes of its members. `29` and `23` are the lists of medvlp.

    Attributes:
        names: Names of the regions.
        number: Position in `names` of each of the 29 regions that is a member.
        members: Mask of the members of each region of the list, bool (29, L).

    Raises:
        UserError: If the file is missing or malformed, or names an unknown region, or a region twice.
    """

    def __init__(self, path: Path | Literal["29", "23"] = "29") -> None:
        if path == "29":
            groups = {name: [name] for name in REGIONS}
        else:
            groups = _read(Path(__file__).with_name("regions_23.yaml") if path == "23" else Path(path))
        self.names = list(groups)
        self.number = {member: number for number, members in enumerate(groups.values()) for member in members}
        self.members = np.array([[name in members for members in groups.values()] for name in REGIONS])


def _read(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        raise NotFoundError(f"region_list='{path}': no such file. It is YAML: 'name: [members]'.")
    groups = yaml.safe_load(path.read_text())
    if not isinstance(groups, dict) or not all(isinstance(members, list) for members in groups.values()):
        raise UserError(f"region_list='{path}' is not YAML of the form 'name: [members]'.")
    members = [member for group in groups.values() for member in group]
    wrong = [m for m in members if m not in REGIONS] or [m for m in members if members.count(m) > 1]
    if wrong:
        raise UserError(f"region_list='{path}': '{wrong[0]}' is not one of the 29 regions, or is listed twice.")
    return groups


@dataclass
class StudyRegions:
    """The regions of one image that a sentence mentions; see `RegionBatch`.

    Attributes:
        region_id: int64 (R,).
        aligned: bool (R, S).
        box: float32 (V, R, 4).
        visible: bool (V, R).
    """

    region_id: npt.NDArray[np.int64]
    aligned: npt.NDArray[np.bool_]
    box: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((1, 0, 4), np.float32))
    visible: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros((1, 0), np.bool_))


def study_regions(
    boxes: Mapping[int, npt.NDArray[np.float32]], mentioned: npt.NDArray[np.bool_], regions: RegionList
) -> tuple[StudyRegions, npt.NDArray[np.float32]]:
    """Align the regions of an image with the sentences of its report.

    A sentence may mention several regions, and several sentences may mention one region. Regions without a sentence
    are left out.

    Args:
        boxes: Box (4,) of each region of the list that the image has, in pixels of the stored image.
        mentioned: Mask of the regions of `medvlp.parse.REGIONS` that each sentence mentions, bool (S, 29).
        regions: The list of regions.

    Returns:
        The aligned regions, with empty `box` and `visible`, and their boxes (R, 4) in pixels of the stored image.
    """
    there = np.array(sorted(boxes), np.int64)
    aligned = (mentioned @ regions.members)[:, there].T
    spoken = aligned.any(1)
    box = np.array([boxes[region] for region in there[spoken].tolist()], np.float32).reshape(-1, 4)
    return StudyRegions(there[spoken], aligned[spoken]), box


class ImageBoxes:
    """Boxes of the regions of some images.

    Args:
        column: The column `regions` of an index, as `medvlp.prepared` describes it.
        regions: The list of regions; others are dropped, and the members of one merged region are joined.
    """

    def __init__(self, column: pa.ChunkedArray, regions: RegionList) -> None:
        lists = column.combine_chunks()
        counts = pc.list_value_length(lists).fill_null(0).to_numpy()
        self._offsets = np.concatenate([[0], np.cumsum(counts)])
        values = lists.flatten()
        numbers = pc.index_in(values.field("name"), pa.array(regions.number, pa.string())).fill_null(-1).to_numpy()
        # Two arrays need less memory than the column, which holds a name for each box of 377,000 images.
        self._region = np.array([*regions.number.values(), -1], np.int16)[numbers]
        self._box = np.stack([values.field(key).to_numpy() for key in ("x1", "y1", "x2", "y2")], 1)

    def __len__(self) -> int:
        """Return the number of boxes in all images."""
        return len(self._box)

    def of(self, i: int) -> dict[int, npt.NDArray[np.float32]]:
        """Return the box (4,) of each region of image i; empty boxes are left out."""
        boxes: dict[int, npt.NDArray[np.float32]] = {}
        rows = slice(self._offsets[i], self._offsets[i + 1])
        for region, box in zip(self._region[rows].tolist(), self._box[rows], strict=True):
            if region >= 0 and box[0] < box[2] and box[1] < box[3]:
                other = boxes.get(region, box)
                boxes[region] = np.concatenate([np.minimum(box[:2], other[:2]), np.maximum(box[2:], other[2:])])
        return boxes


def collate_regions(studies: Sequence[StudyRegions]) -> RegionBatch:
    """Concatenate the regions of all studies in a batch."""
    counts = torch.tensor([len(s.region_id) for s in studies])
    aligned = np.zeros(np.sum([s.aligned.shape for s in studies], 0), np.bool_)
    row = column = 0
    for s in studies:
        rows, columns = s.aligned.shape
        aligned[row : row + rows, column : column + columns] = s.aligned
        row, column = row + rows, column + columns
    return RegionBatch(
        region_id=torch.from_numpy(np.concatenate([s.region_id for s in studies])),
        study=torch.repeat_interleave(torch.arange(len(studies)), counts),
        box=torch.from_numpy(np.concatenate([s.box for s in studies], 1)),
        visible=torch.from_numpy(np.concatenate([s.visible for s in studies], 1)),
        aligned=torch.from_numpy(aligned),
        sentence=torch.from_numpy(np.flatnonzero(aligned.any(0))),
    )
