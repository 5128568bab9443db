"""Open-I (Indiana University chest X-rays), as the National Library of Medicine hands it out or as Kaggle has it.

Demner-Fushman et al., Preparing a collection of radiology examinations for distribution and retrieval, Journal of the
American Medical Informatics Association 23(2), 2016.

The official files do not say which image is lateral: the screening tells it. Of images whose projection Kaggle's table
knows, it found 185 of 187 lateral ones, and took none of 3,035 frontal ones for lateral.
"""

from __future__ import annotations

from pathlib import Path

from medvlp.prepare.layouts.open_i_files import HOW, open_files
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options, parse_views
from medvlp.prepare.regions import Regions, finder
from medvlp.prepare.screening import parse_flags
from medvlp.prepared import Resize

__all__ = ["HOW", "open_i"]


def open_i(
    root: Path,
    out: Path,
    split_file: Path | None = None,
    regions: Regions = "automatic",
    size: int = 256,
    resize: Resize = "pad",
    views: str = "FRONTAL",
    min_words: int = 3,
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare Open-I (Indiana University): images, reports and human labels.

    The same command resumes an interrupted run.

    Args:
        root: Folder with NLMCXR_reports.tgz, or the folder ecgen-radiology of it, and the images of NLMCXR_png.tgz or
            NLMCXR_dcm.tgz, unpacked, in any folder below. Or with indiana_reports.csv, indiana_projections.csv and the
            folder images.
        out: Folder to write, the --data.root of training.
        split_file: csv with the columns uid and split (train, validate or test). Without it, studies are split
            70 : 10 : 20 by a hash of their uid.
        regions: Find the anatomical regions in frontal images, or none.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        views: FRONTAL, LATERAL, or both separated by a comma. The official files do not say them: the screening does.
        min_words: Least number of words in a report, counted as by MGCA.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    data = open_files(root, split_file, finder(regions))
    prepare(data, out, Options(size, resize, parse_views(views), min_words, leave_out=parse_flags(leave_out)), workers)
