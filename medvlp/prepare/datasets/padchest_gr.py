"""PadChest-GR: 4,555 images with a sentence for each finding, in English and Spanish, and boxes of the findings.

de Castro et al., PadChest-GR: A bilingual chest X-ray dataset for grounded radiology report generation, NEJM AI 2(7),
2025, https://arxiv.org/abs/2411.05085. A sentence that states no abnormality has no boxes. `extra_boxes`, further boxes
of the same sentence, and earlier studies are not read. The files are read as public code describes them; they were not
seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from medvlp.prepare.annotations.boxes import Boxes, boxes_text
from medvlp.prepare.below import images_below
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import path_of
from medvlp.prepare.layouts.grounded import Language, Sentences
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options, parse_views
from medvlp.prepare.regions import Regions, RegionSource, finder, region_options
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.split_tables import read_studies
from medvlp.prepare.splits import SplitVariant
from medvlp.prepare.study import Picture, Report, Skip, Study
from medvlp.prepare.tables import require_table
from medvlp.prepared import Resize

REPORTS, TABLE = "grounded_reports_*.json", "master_table"
HOW = (
    "Ask for PadChest-GR at https://bimcv.cipf.es/bimcv-projects/padchest-gr/ (a form, no fee), unpack it, and give "
    f"the folder that holds {REPORTS}, {TABLE}.csv and the images. "
    "'medvlp phantom --layouts padchest_gr' writes a synthetic stand-in."
)
UNPACK = "Join its parts and unpack them: cat PadChest_GR.zip.* > PadChest_GR.zip && unzip PadChest_GR.zip."


def padchest_gr(
    root: Path,
    out: Path,
    language: Language = "en",
    regions: Regions = "automatic",
    size: int = 256,
    resize: Resize = "pad",
    min_words: int = 3,
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare PadChest-GR: images, sentences as Findings, boxes of the sentences, and labels.

    The same command resumes an interrupted run.

    Args:
        root: Folder with grounded_reports_20240819.json, master_table.csv and the images in any folder below.
        out: Folder to write, the --data.root of training.
        language: Language of the sentences, English or Spanish. The parser of reports reads English.
        regions: Find the anatomical regions, or none.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        min_words: Least number of words in the sentences of an image, counted as by MGCA.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    data = PadChestGr(root, language, finder(regions))
    options = Options(size, resize, parse_views("FRONTAL"), min_words, leave_out=parse_flags(leave_out))
    prepare(data, out, options, workers)


class PadChestGr(DataSet):
    """The files of PadChest-GR. A label of an abnormal sentence is present, any other one is absent."""

    documented = 4555
    # Boxes are shares of the image.
    annotations = Boxes(masks=False, side=1)
    splits: Mapping[str, SplitVariant] = {
        "official": SplitVariant("the split of master_table.csv, by patient"),
        "all": SplitVariant("all images are test, for models that have not been trained on PadChest-GR"),
    }

    def __init__(self, root: Path, language: Language, regions: RegionSource | None) -> None:
        """Find all files, and read the sentences.

        Args:
            root: Folder of the data set.
            language: en or es.
            regions: Finder of the anatomical boxes; None if the preparation needs none.

        Raises:
            NotFoundError: If a file or folder is missing.
            UserError: If the file of sentences cannot be read.
        """
        self.sentences = Sentences(root, REPORTS, HOW)
        self.labels = self.sentences.labels
        self.images, self.language, self.regions = root, language, regions
        self.table = require_table(root, TABLE, HOW)
        self.paths, self.real_images = images_below(root, HOW, ["PadChest_GR.zip*", "*/PadChest_GR.zip*"], UNPACK)
        self.options = identity("padchest_gr", root, language=language) | region_options(regions)

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield the studies in the order of the file of sentences; each has one image."""
        splits = read_studies(self.table, skip)
        self.rows = self.sentences.rows
        for image_id, study, sentences, boxes, labels in self.sentences.images(self.language, splits, skip):
            patient, split = splits[study]
            path = path_of(self.paths, image_id, image_id)
            yield Study(
                study_id=study,
                subject_id=patient,
                split=split,
                pictures=[Picture(image_id, "FRONTAL", path, annotation=boxes_text(boxes))],
                labels=[int(name in labels) for name in self.labels],
                report=partial(Report, " ".join(sentences) or None, None),
                other_splits={"all": "test"},
            )
