"""`medvlp search`: the studies that are nearest to a text or an image."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from medvlp.config.options import split_commas
from medvlp.errors import UserError
from medvlp.inference.model import Model
from medvlp.inference.neighbours import nearest, open_index
from medvlp.prepared import LABEL_PREFIX
from medvlp.types import PRESENT, UNCERTAIN

FORMATS = (".csv", ".json")


@dataclass(frozen=True)
class Found:
    """A study in the list of results, represented by its nearest image.

    Attributes:
        rank: Rank in the list, from 1.
        score: Similarity with the query: the mean over the model's joint spaces, of cosines unless its objectives have
            another similarity.
        image_id: Id of the image; its path in an index of `medvlp predict`.
        study_id: Id of the study; the path of its image in an index of `medvlp predict`.
        split: Split of the image; empty if it has none.
        path: Source file of the image: relative to the image root, or as `medvlp predict` wrote it.
        labels: Labels that are present, and uncertain labels with a question mark behind them.
    """

    rank: int
    score: float
    image_id: str
    study_id: str
    split: str
    path: str
    labels: list[str]


def search(
    index: Path,
    *,
    weights: Path,
    text: str | None = None,
    image: Path | None = None,
    top: int = 10,
    splits: str = "",
    out: Path | None = None,
    show_reports: bool = False,
    device: str | None = None,
    trust: str = "",
) -> None:
    """List the studies whose images are most similar to a text or an image.

    The first search of a model in a prepared folder computes the embeddings of its images and stores them there.

    Args:
        index: A prepared folder, or a parquet file that `medvlp predict --embeddings true` has written with the same
            weights.
        weights: A checkpoint of `medvlp fit`, a folder of `medvlp export`, or a published pair of encoders, such as
            biomedclip, biovil-t, medsiglip, chexzero:FILE, open_clip:... or hf:...
        text: Text to search for, such as "left pleural effusion".
        image: Image file to search for, in place of a text.
        top: Number of studies to list.
        splits: Splits to search in, separated by commas; by default all.
        out: File to write the list to as well, .csv or .json.
        show_reports: Print the reports of the studies. They are patient data and are not written to the file.
        device: Device to compute on; by default a GPU if there is one.
        trust: Packages other than medvlp whose classes the weights may name, separated by commas.

    Raises:
        UserError: If an argument is wrong, the index, the weights or the image cannot be read, or the list cannot be
            written.
    """
    if (text is None) == (image is None) or (text is not None and not text.strip()):
        raise UserError("give either --text or --image.")
    if top < 1:
        raise UserError(f"--top {top} must be at least 1.")
    if out is not None and out.suffix.lower() not in FORMATS:
        raise UserError(f"--out '{out}' must end in {' or '.join(FORMATS)}.")
    opened = open_index(index, weights, split_commas(splits))
    model = Model.load(weights, device, split_commas(trust))
    if image is not None:
        score = opened.similar_to_image(model, model.read(image))
    else:
        score = opened.similar_to_text(model, text or "")
    chosen = nearest(score, opened.images["study_id"].to_pylist(), top)
    studies = describe(opened.images.take(pa.array(chosen)), score[chosen])
    console = Console()
    console.print(as_table(studies))
    measure = "mean cosine" if model.has_vectors or image is not None else "mean similarity"
    console.print(f"Of {len(score):,} images. Score: {measure} over the model's joint spaces.", style="dim")
    if show_reports:
        for study, report in zip(studies, opened.reports(chosen), strict=True):
            line = " ".join(" ".join(report).split()) or "no report"
            console.print(f"\n{study.rank}. {study.study_id}: {line}", markup=False, highlight=False)
    if out is not None:
        try:
            write(studies, out)
        except OSError as error:
            raise UserError(f"--out '{out}' cannot be written: {error.strerror or error}.") from error
        console.print(f"The list is in {out}.", markup=False, highlight=False)


def describe(images: pa.Table, score: npt.NDArray[np.float32]) -> list[Found]:
    """Return the entries of the list for images, the best first, and their scores."""
    studies = []
    for rank, (image, value) in enumerate(zip(images.to_pylist(), score.tolist(), strict=True), 1):
        codes = {name.removeprefix(LABEL_PREFIX): image[name] for name in image if name.startswith(LABEL_PREFIX)}
        labels = [name + "?" * (code == UNCERTAIN) for name, code in codes.items() if code in (PRESENT, UNCERTAIN)]
        names = {name: image[name] for name in ("image_id", "study_id", "split", "path")}
        studies.append(Found(rank=rank, score=round(value, 4), labels=labels, **names))
    return studies


def as_table(studies: Sequence[Found]) -> Table:
    """Return the list for a terminal."""
    columns = {
        "study_id": [study.study_id for study in studies],
        "image_id": [study.image_id if study.image_id != study.study_id else "" for study in studies],
        "split": [study.split for study in studies],
        "labels": [", ".join(study.labels) for study in studies],
    }
    # Some indexes have no splits or labels.
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    table = Table(*(Column(name, justify="right") for name in ("rank", "score")))
    for name in shown:
        table.add_column(name, overflow="fold")
    for study, *cells in zip(studies, *shown.values(), strict=True):
        table.add_row(str(study.rank), f"{study.score:.3f}", *map(escape, cells))
    return table


def write(studies: Sequence[Found], out: Path) -> None:
    """Write the list as CSV, with labels separated by semicolons, or as JSON."""
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(study) for study in studies]
    if out.suffix.lower() == ".json":
        out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        return
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Found)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "labels": ";".join(row["labels"])} for row in rows)
