import json
from functools import cached_property
from pathlib import Path

import pytest

from medvlp.phantom import phantom
from medvlp.phantom.truth import read_mask


class Made:
    """A phantom in every layout, and its truth."""

    # With this seed it has every form of DICOM file, masks in two parts and consolidation of both lungs.
    studies, seed, size = 50, 11, 96

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def images(self) -> dict[str, dict]:
        """What is true of each frontal image, by its name."""
        records = map(json.loads, (self.root / "truth/images.jsonl").read_text().splitlines())
        return {r["dicom_id"]: r for r in records if r["view"] != "LATERAL"}

    def names(self, image: str) -> set[str]:
        """Findings drawn in an image."""
        return {f["name"] for f in self.images[image]["findings"] if f["drawn"]}

    def mask(self, image: str, name: str):
        """Mask of a structure in an image."""
        record = self.images[image]
        subject = str(record["subject_id"])
        folder = f"truth/masks/files/p{subject[:2]}/p{subject}/s{record['study_id']}"
        return read_mask(self.root / folder / f"{image}.png", name)

    def number(self, image: str) -> int:
        """The 128 bits that ids of other layouts have of an image's name."""
        return int(image.replace("-", "")[:32], 16)


@pytest.fixture(scope="session")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Made:
    out = tmp_path_factory.mktemp("layouts") / "p"
    phantom(out, studies=Made.studies, seed=Made.seed, size=Made.size, workers=1, layouts="all")
    return Made(out)
