"""One's own images: a table of them, in whatever columns and languages, or a folder of DICOM files alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from medvlp.prepare.annotations import annotated_side
from medvlp.prepare.own.columns import Wanted
from medvlp.prepare.own.data import OwnData
from medvlp.prepare.own.gather import Sources, gather
from medvlp.prepare.own.names import MEANINGS
from medvlp.prepare.own.overview import command_line, overview
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options, parse_views
from medvlp.prepare.regions import Regions, finder
from medvlp.prepare.screening import parse_flags
from medvlp.prepared import WORK, Resize


def table(
    images: Path,
    out: Path,
    table: Path | None = None,
    image: str = "",
    report: str = "",
    findings: str = "",
    impression: str = "",
    patient: str = "",
    study: str = "",
    accession: str = "",
    date: str = "",
    view: str = "",
    split: str = "",
    labels: str = "",
    boxes: str = "",
    box_label: str = "",
    box_format: Literal["", "xywh", "xyxy"] = "",
    coco: Path | None = None,
    mask: str = "",
    masks: Path | None = None,
    annotation_size: int | None = None,
    dry_run: bool = False,
    regions: Regions = "automatic",
    size: int = 256,
    resize: Resize = "pad",
    views: str = "PA,AP,FRONTAL",
    min_words: int = 3,
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare your own images, with a table of their reports, labels, patients, splits, boxes or masks, in any columns.

    Look first with --dry_run. The same command resumes an interrupted run.

    Args:
        images: Folder of the images, in folders of any depth: DICOM, PNG, JPEG, TIFF and others. Without --table, the
            headers of DICOM files give patient, study and view.
        out: Folder to write, the --data.root of training.
        table: A row for each image: csv, tsv or other separated text, JSON lines or a JSON list, parquet, or xlsx.
            Columns are guessed from their names (in nine languages, and of public data sets), checked against their
            values, and shown. Without a column of images, rows are joined to DICOM files by accession number, study
            UID, or patient and date.
        image: Column of file names or paths, with or without suffix, or of SOP instance UIDs. For this and every other
            option that names a column: not given, it is guessed; none stands for none.
        report: Column of whole reports, which are cut into sections by their headers.
        findings: Column of Findings.
        impression: Column of Impression.
        patient: Column of patients. Without it, DICOM headers or folders called like patients, else each study is one.
        study: Column of studies: images that share a report. Without it, DICOM headers, else each image is one.
        accession: Column of accession numbers, by which rows are joined to DICOM files without a column of images.
        date: Column of dates, for the same.
        view: Column of views (PA, AP, frontal, lateral, ...). Without it, DICOM headers, else the screening.
        split: Column of train, validate and test, in usual words. With none: 80 : 10 : 10 by a hash of the patient.
        labels: Columns of labels, separated by commas: 1, 0, -1 (uncertain), empty (not mentioned), or words such as
            yes and no; or one column of lists such as 'Edema|Effusion'. With none: no labels.
        boxes: Four columns of corners in pixels or shares, separated by commas, or one of lists; rows of one image add
            up.
        box_label: Column of the names of the boxes.
        box_format: Whether the four numbers are x, y, width, height or x1, y1, x2, y2, where their columns do not say.
        coco: JSON file of COCO with boxes, with or without --table.
        mask: Column of files of masks, in --masks or --images.
        masks: Folder of masks with the names of the images, or with '_mask' behind them.
        annotation_size: Side of the annotated images in pixels, if the images at hand have another size.
        dry_run: Print what was understood, before an image is read, and the command that says it all; write nothing.
        regions: Find the anatomical regions in frontal images, or none.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        views: Views to keep, separated by commas, such as PA,AP,LATERAL. Of an image without one the screening tells
            whether it is FRONTAL or LATERAL.
        min_words: Least number of words in a report, counted as by MGCA.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    given = locals()
    options = Options(size, resize, parse_views(views), min_words, leave_out=parse_flags(leave_out))
    side = annotated_side(annotation_size)
    wanted = Wanted({meaning: given[meaning] for meaning in MEANINGS}, labels, box_label, box_format)
    store = None if dry_run else out / WORK / "headers.jsonl"
    count = workers if workers is not None and workers > 0 else os.cpu_count() or 1
    data = OwnData(gather(Sources(images, table, coco, masks, wanted, count, store)), finder(regions), side)
    for line in overview(data, options.views, command_line(COMMAND, given, data)):
        print(line)
    if dry_run:
        print(f"This was a dry run: nothing was written to {out}.")
        return
    prepare(data, out, options, workers)


# The name of the function is that of an option in it.
COMMAND = table
