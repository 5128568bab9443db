"""Results of finished cells, and their means over seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from medvlp.benchmarks.configuration import short_hash
from medvlp.benchmarks.preparation import UNKNOWN, identity, in_words
from medvlp.benchmarks.published import Published, cautions, published, title
from medvlp.benchmarks.scores import METRICS, Score, score_of
from medvlp.errors import NotFoundError, UserError
from medvlp.models.published import names_published, short_name

RESULTS, PREDICTIONS, BOOTSTRAP, SUBSET = "results.json", "predictions.parquet", "bootstrap.parquet", "subset.csv"
# `medvlp benchmark` writes this file beside them; it holds label, recipe and settings of the cell.
CELL = "cell.json"

SYNTHETIC = (
    "Synthetic images, drawn by 'medvlp phantom'. The published numbers are of the real data set: the two cannot be "
    "compared."
)


@dataclass(frozen=True)
class Cell:
    """One finished cell: one encoder, label fraction and seed.

    Attributes:
        folder: Folder of its files.
        label: Name of the weights.
        recipe: Eight hex digits: hash of all settings but weights, data, label fraction and seed.
        content: Content of its results.json, as `medvlp.trainer.callbacks.SaveResults` writes it.
    """

    folder: Path
    label: str
    recipe: str
    content: Mapping[str, Any]

    @property
    def percent(self) -> float:
        """The label fraction in percent."""
        return round(100 * float(self.content["fraction"]), 6)

    @property
    def group(self) -> tuple[str, ...]:
        """Key of the cells that differ in fraction and seed only."""
        split = self.content["data"]["split_sha256"]
        return self.label, self.recipe, split, self.preparation_hash, self.content["encoder_sha256"]

    @property
    def preparation(self) -> str:
        """Text that describes the preparation of its data."""
        return in_words(self.content["data"])

    @property
    def preparation_hash(self) -> str:
        """Eight hex digits: hash of the preparation's options and pixels."""
        return short_hash(identity(self.content["data"]))

    @property
    def protocol(self) -> str:
        """Short description of the protocol: use of the encoder, architecture and image size."""
        protocol = self.content["protocol"]
        return f"{self.content['how']}, {protocol['architecture']}, {protocol['crop']} px"


@dataclass(frozen=True)
class Row:
    """All cells of one encoder under one protocol and split.

    Attributes:
        label: Name of the weights.
        protocol: Short description of the protocol.
        protocol_hash: The `recipe` of its cells.
        split: Name of the split.
        split_hash: Eight hex digits: hash of the split's images.
        preparation: Text that describes the preparation of the data.
        preparation_hash: Eight hex digits: hash of the preparation.
        scores: Scores by metric, and by label fraction in percent.
        cells: Its cells, in the order of fraction and seed.
    """

    label: str
    protocol: str
    protocol_hash: str
    split: str
    split_hash: str
    preparation: str
    preparation_hash: str
    scores: Mapping[str, Mapping[float, Score]]
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Benchmark:
    """All results of one benchmark.

    Attributes:
        name: Its name.
        title: Its title in headings.
        synthetic: Whether its data are synthetic.
        rows: Our rows, the best first.
        published: Published rows.
        notes: Remarks for readers of the tables.
    """

    name: str
    title: str
    synthetic: bool
    rows: Sequence[Row]
    published: Sequence[Published]
    notes: Sequence[str]

    @property
    def metrics(self) -> list[str]:
        """The metrics without those of single labels, in the order of the tables."""
        metrics = dict.fromkeys(metric for row in self.rows for metric in row.scores if "/" not in metric)
        order = list(METRICS)
        return sorted(metrics, key=lambda metric: order.index(metric) if metric in order else len(order))

    @property
    def trained(self) -> bool:
        """Whether cells train on labels; otherwise a model is tested as it is, and the only label fraction is 0."""
        return any(cell.percent for row in self.rows for cell in row.cells)

    @property
    def percents(self) -> list[float]:
        """The label fractions of our rows, in percent, and those of published rows if the data are not synthetic."""
        ours = {percent for row in self.rows for scores in row.scores.values() for percent in scores}
        return sorted(ours.union(*(row.values for row in self.published if not self.synthetic)))


def read_cells(folder: Path) -> tuple[list[Cell], list[str]]:
    """Read all finished cells under a folder; return them, and the unreadable files with the reasons.

    Raises:
        NotFoundError: If there is no such folder, or it holds no finished cell.
        UserError: If the folder is itself a cell: the summary would overwrite its results.json.
    """
    if not folder.is_dir():
        raise NotFoundError(f"'{folder}' is not a folder. Pass the --out of 'medvlp benchmark'.")
    cells, unreadable = [], []
    for path in sorted(folder.rglob(RESULTS)):
        try:
            content = json.loads(path.read_text())
            if "benchmark" not in content:
                continue  # a summary of cells, such as an earlier one of ours
            if not content["metrics"]:
                raise ValueError(f"no metric: {content['left_out'] or 'nothing could be counted'}")
            cells.append(Cell(path.parent, *_name(path.parent, content), content))
        except (OSError, ValueError, TypeError, KeyError) as error:
            unreadable.append(f"{path.relative_to(folder)}: {error}")
    if any(cell.folder == folder for cell in cells):
        raise UserError(f"'{folder}' is one cell, and its {RESULTS} would be overwritten: pass a folder above it.")
    if not cells:
        raise NotFoundError(f"'{folder}' holds no finished cell of 'medvlp benchmark'.")
    return cells, unreadable


def _name(folder: Path, content: Mapping[str, Any]) -> tuple[str, str]:
    """Return label and recipe; results of a plain `medvlp test` have no cell.json and provide both themselves."""
    if (folder / CELL).is_file():
        state = json.loads((folder / CELL).read_text())
        return state["label"], state["recipe"]
    protocol = {key: value for key, value in content["protocol"].items() if key != "weights"}
    recipe = short_hash(json.dumps([content["task"], protocol], sort_keys=True))
    return weights_label(content["protocol"]["weights"], content["weights_sha256"]), recipe


def weights_label(weights: str, sha256: str | None) -> str:
    """Return the default name of weights, which a folder may have: the file's name and eight digits of its hash."""
    if not sha256:
        return re.sub(r"[^\w.+]+", "-", weights)
    return f"{short_name(weights) if names_published(weights) else Path(weights).stem}-{sha256[:8]}"


def summarise(cells: Iterable[Cell]) -> list[Benchmark]:
    """Return the benchmarks of these cells, in the order of their names, with means over seeds."""
    by_benchmark: dict[str, list[Cell]] = {}
    for cell in cells:
        by_benchmark.setdefault(cell.content["benchmark"], []).append(cell)
    return [_benchmark(name, by_benchmark[name]) for name in sorted(by_benchmark)]


def _benchmark(name: str, cells: Sequence[Cell]) -> Benchmark:
    groups: dict[tuple[str, ...], dict[tuple[float, int], Cell]] = {}
    # The newest copy of a cell counts.
    for cell in sorted(cells, key=lambda cell: (cell.folder / RESULTS).stat().st_mtime):
        groups.setdefault(cell.group, {})[cell.percent, cell.content["seed"]] = cell
    rows = [_row([group[key] for key in sorted(group)]) for _, group in sorted(groups.items())]
    rows.sort(key=_by_quality)
    synthetic = any(cell.content["data"]["synthetic"] for cell in cells)
    return Benchmark(name, title(name), synthetic, rows, published(name), _notes(name, synthetic, rows))


def _by_quality(row: Row) -> float:
    """Return a key that sorts the row with the best first metric to the front."""
    metric = next((metric for metric in METRICS if metric in row.scores), next(iter(row.scores)))
    return -max(score.mean for score in row.scores[metric].values())


def _row(cells: Sequence[Cell]) -> Row:
    first = cells[0]
    replicates = {cell.folder: _replicates(cell.folder) for cell in cells}
    scores: dict[str, dict[float, Score]] = {}
    for percent in sorted({cell.percent for cell in cells}):
        seeds = [cell for cell in cells if cell.percent == percent]
        for metric in dict.fromkeys(metric for cell in seeds for metric in cell.content["metrics"]):
            having = [cell for cell in seeds if metric in cell.content["metrics"]]
            entries = [cell.content["metrics"][metric] for cell in having]
            resampled = [replicates[cell.folder].get(metric) for cell in having]
            scores.setdefault(metric, {})[percent] = score_of(metric, entries, resampled)
    data = first.content["data"]
    return Row(
        first.label,
        first.protocol,
        first.recipe,
        data["split"],
        data["split_sha256"][:8],
        first.preparation,
        first.preparation_hash,
        scores,
        cells,
    )


def _replicates(folder: Path) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    path = folder / BOOTSTRAP
    if not path.is_file():
        return {}
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


def _notes(name: str, synthetic: bool, rows: Sequence[Row]) -> list[str]:
    notes = [SYNTHETIC] if synthetic else []
    splits = {(row.split, row.split_hash): row.cells[0].content["data"] for row in rows}
    if len(splits) > 1:
        notes.append("Rows of different splits were tested on different images.")
    if len({row.preparation_hash for row in rows if row.preparation != UNKNOWN}) > 1:
        notes.append("Rows of differently prepared data are of other images, or another truth.")
    for (split, _), data in splits.items():
        documented = data["documented"]
        counts = {name: data["counts"][name] for name in documented}
        if not synthetic and counts != documented:
            notes.append(f"The split {split} is not the published one: {_sizes(counts)} and not {_sizes(documented)}.")
    rows_of_note: dict[str, dict[str, None]] = {}
    for row in rows:
        content = row.cells[-1].content
        for note in content["notes"]:
            rows_of_note.setdefault(note, {})[row.label] = None
    notes += [f"{', '.join(labels)}: {note}" for note, labels in rows_of_note.items()]
    for row in rows:
        content = row.cells[-1].content
        for what, reason in content["left_out"].items():
            notes.append(f"{what} is left out of {row.label}: {reason}.")
    return list(dict.fromkeys([*notes, *([] if synthetic else cautions(name))]))


def _sizes(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in counts.items())


def as_json(benchmarks: Iterable[Benchmark]) -> dict[str, Any]:
    """Return benchmarks as plain data, scores in percent."""
    return {
        benchmark.name: {
            "title": benchmark.title,
            "synthetic": benchmark.synthetic,
            "notes": list(benchmark.notes),
            "rows": [
                {
                    "weights": row.label,
                    "protocol": {"name": row.protocol, "hash": row.protocol_hash, **row.cells[-1].content["protocol"]},
                    "split": {"name": row.split, **row.cells[0].content["data"]},
                    "preparation": {"name": row.preparation, "hash": row.preparation_hash},
                    "scores": {
                        metric: {f"{percent:g}": vars(score) for percent, score in scores.items()}
                        for metric, scores in row.scores.items()
                    },
                }
                for row in benchmark.rows
            ],
            "published": [
                {**vars(row), "values": {f"{percent:g}": value for percent, value in row.values.items()}}
                for row in benchmark.published
            ],
        }
        for benchmark in benchmarks
    }
