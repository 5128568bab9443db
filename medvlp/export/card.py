"""The model card of an exported folder: the parts of the model, their sources, its use, limits and licence."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from medvlp.benchmarks.results import RESULTS, Benchmark, read_cells, summarise
from medvlp.benchmarks.scores import metric_name
from medvlp.benchmarks.tables import LEGEND
from medvlp.data.preprocessing import Preprocessing
from medvlp.errors import NotFoundError, UserError
from medvlp.inference.model import Model
from medvlp.models.weights import TEXT_ENCODER
from medvlp.tasks.checkpoints import WEIGHTS
from medvlp.tasks.continued import lineage

WHAT = "A vision-language model of chest radiographs and their reports, pre-trained with medvlp and exported by version"
USE = """```python
import medvlp

model = medvlp.load("{name}"{trust})
print({call})
```"""

# Keys are names of data sets in `medvlp prepare`; only data sets with reports can be pre-trained on.
LICENCES = {
    "mimic_cxr": (
        "[MIMIC-CXR](https://physionet.org/content/mimic-cxr-jpg/2.0.0/) is shared under the PhysioNet Credentialed "
        "Health Data License 1.5.0 and its data use agreement. PhysioNet asks that models derived from MIMIC be "
        "treated as containing sensitive information, and be shared, if at all, on PhysioNet under the agreement of "
        "the source data. **Do not put this folder where people without that agreement can reach it.**"
    ),
    "open_i": (
        "[Open-I](https://openi.nlm.nih.gov/) is under CC BY-NC-ND 4.0: no commercial use, no derived works. Whether "
        "that reaches weights is not settled: ask before you share them or use them commercially."
    ),
}
SYNTHETIC = "The training data are drawn by `medvlp phantom`: no licence of data binds these weights."
OTHER = (
    "Weights can hold what was in their data. The terms of the data set `{}` hold for them, too: read them before you "
    "share this folder."
)
LIMITS = """Research on chest radiographs: zero-shot classification, retrieval, grounding, features for other networks.
**Not for clinical use.** It is no medical device, and nobody has shown that it is safe in the care of patients.

- It was made for frontal chest radiographs, seen as said above. Anything else has scores, too, which mean nothing.
- Scores are not calibrated, and depend on the wording: compare figures of one protocol and one split.
- It learned from the reports of its data, and from what they leave out. Hospital, scanner, age, sex and devices can
  show in its scores: test it on your own patients, group by group, before you believe a figure.
"""
PHANTOM_LIMIT = "- It has seen drawings alone, and is of no use on radiographs of patients.\n"


def use(model: Model, name: str, trust: Sequence[str] = ()) -> str:
    """Return for the model card how medvlp loads the folder, with the packages to trust."""
    if model.spaces:
        call = 'model.scores(model.read_many(["image.png"]), ["Pneumonia", "Pleural Effusion"])'
    elif model.tag_names:
        call = 'model.tags(model.read_many(["image.png"]))'
    else:
        call = 'model.heat_map(model.read("image.png"), "left pleural effusion")'
    return USE.format(name=name, call=call, trust=f", trust={list(trust)}" if trust else "")


def card(model: Model, config: Mapping[str, Any], name: str, uses: Sequence[str], results: Sequence[Benchmark]) -> str:
    """Return the text of README.md.

    Args:
        model: The model.
        config: The content of config.json.
        name: Name of the model.
        uses: Instructions for use, one piece of Markdown for each format.
        results: Results of benchmarks.
    """
    data = config["data"]
    tags = ["chest-x-ray", "radiology", "vision-language", "medvlp"]
    licence = {"license": "other", "license_name": "see-readme", "license_link": "README.md"}
    head = {"language": "en", **licence, "library_name": "medvlp", "tags": tags}
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n",
            f"# {name}\n",
            f"{WHAT} {config['medvlp_version']}. **Not for clinical use.**\n",
            "## Use\n",
            *(f"{use}\n" for use in uses),
            "## What it is\n",
            _table([["part", "what"], *_parts(model, config)]),
            "## How images are seen\n",
            _seeing(model.preprocessing),
            "## Data\n",
            _table([["", ""], *_data(data)]),
            "## Training\n",
            f"```yaml\n{yaml.safe_dump(_training(config), sort_keys=False, width=110)}```\n",
            *_results(results),
            "## Intended use, and limits\n",
            LIMITS + (PHANTOM_LIMIT if all(one["synthetic"] for one in lineage(data)) else ""),
            "## Licence\n",
            _licence(model, config),
        ]
    )


def read_results(path: Path, weights: Collection[str]) -> list[Benchmark]:
    """Return the benchmark results of weights.

    Args:
        path: Output folder of `medvlp benchmark`, the results.json of `medvlp results` in it, or one cell; a cell
            stands for all cells in its parent folder.
        weights: SHA-256 of the files that hold the weights.

    Raises:
        NotFoundError: If there is no result.
        UserError: If no result is of these weights.
    """
    folder = path.parent if path.name == RESULTS else path
    if not folder.is_dir():
        raise NotFoundError(f"--results '{path}': no such folder. Pass the --out of 'medvlp benchmark'.")
    if is_cell(folder):
        folder = folder.parent
    cells, _ = read_cells(folder)
    matches = [cell for cell in cells if cell.content["weights_sha256"] in weights]
    if not matches:
        raise UserError(
            f"--results '{path}': none of the {len(cells)} results there was computed with these weights. Run "
            "'medvlp benchmark ... --weights' with this very checkpoint."
        )
    return summarise(matches)


def is_cell(folder: Path) -> bool:
    """Return whether a folder is one finished cell of a benchmark."""
    try:
        return "benchmark" in json.loads((folder / RESULTS).read_text())
    except (OSError, ValueError):
        return False


def _parts(model: Model, config: Mapping[str, Any]) -> list[list[str]]:
    task = model.task
    image, text = task.image_encoder, task.text_encoder
    options, started = config["hyper_parameters"]["image_encoder"].get("init_args", {}), config["started_from"]
    spaces = [f"`{space}` ({rows.shape[-1]})" for space, rows in model.embed_texts([""]).items()]
    frozen = "frozen" if text.frozen else "trained"
    place = f", in `{TEXT_ENCODER}/`" if text.files else ""
    protocol = config["protocol"]
    return [
        ["image encoder", f"{options.get('name', image.architecture)}, {_millions(image)}"],
        ["its initial weights", started["image_encoder"]],
        ["text encoder", f"{started['text_encoder']}, {frozen}, {_millions(text.network)}{place}"],
        ["objectives", ", ".join(f"{key} ({type(o).__name__})" for key, o in task.objectives.items())],
        ["joint spaces (width)", ", ".join(spaces) or "none"],
        ["tags", ", ".join(model.tag_names) or "none"],
        ["heat maps of", ", ".join(model.heat_sources) or "none"],
        ["protocol", f"{protocol['name']}, version {protocol['version']}, in `protocol.yaml`"],
    ]


def _seeing(preprocessing: Preprocessing) -> str:
    fit = {
        "pad": "with its aspect ratio, centred on black",
        "squash": "squashed to fill it",
        "crop": "with its aspect ratio, both ends of the longer side cut off",
    }[preprocessing.fit]
    steps = [
        "grey, 8 bits: colour to luma, DICOM through its window, more bits scaled from the image's own range",
        f"resized to a square of {preprocessing.size} pixels, {fit}",
    ]
    if preprocessing.side != preprocessing.size:
        steps.append(f"averaged to {preprocessing.side} x {preprocessing.side} pixels")
    if preprocessing.crop != preprocessing.side:
        steps.append(f"cut to the central {preprocessing.crop} x {preprocessing.crop} pixels")
    steps.append("uint8, 0 to 255: mean and standard deviation are applied inside the model")
    return "".join(f"{number}. {step}\n" for number, step in enumerate(steps, 1))


def _data(data: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for one in data.get("sources", [data]):
        split_hash = f", SHA-256 of its images {one['split_sha256'][:16]}" if one["split_sha256"] else ""
        share = f", {one['share']:.1%} of the samples" if "share" in one else ""
        rows += [
            ["data set", one["dataset"] + (", **synthetic**" if one["synthetic"] else "")],
            ["trained on", f"{one['images']:,} images of {', '.join(one['train_splits'])}{share}"],
            ["split", f"{one['split'] or 'the only one'}{split_hash}"],
        ]
    if start := data.get("continued_from"):
        rows += [["started from", f"{start['weights']}, SHA-256 {start['sha256'][:16]}"], *_data(start["data"])]
    return rows


def _training(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**config["hyper_parameters"], **config["training"], "checkpoint_sha256": config["checkpoint_sha256"]}


def _results(results: Sequence[Benchmark]) -> list[str]:
    if not results:
        return []
    rows = [["benchmark", "figure", "labels", "score", "how", "split", "prepared"]]
    notes: list[str] = []
    for benchmark in results:
        notes += [f"- {benchmark.title}: {note}\n" for note in benchmark.notes]
        for row in benchmark.rows:
            for metric in (metric for metric in benchmark.metrics if metric in row.scores):
                for percent, score in row.scores[metric].items():
                    share = f"{percent:g} %"
                    how = f"{row.protocol} ({row.protocol_hash})"
                    split = f"{row.split} ({row.split_hash})"
                    prepared = f"{row.preparation} ({row.preparation_hash})"
                    rows.append([benchmark.title, metric_name(metric), share, str(score), how, split, prepared])
    return ["## Results\n", f"{LEGEND} Labels: the share of the training labels used.\n", _table(rows), "".join(notes)]


def _licence(model: Model, config: Mapping[str, Any]) -> str:
    data, started, text = config["data"], config["started_from"], model.task.text_encoder
    real = dict.fromkeys(one["dataset"] for one in lineage(data) if not one["synthetic"])
    terms = "\n\n".join(LICENCES.get(name, OTHER.format(name)) for name in real) or SYNTHETIC
    if text.files:
        copied = f"is copied into `{TEXT_ENCODER}/`"
    else:
        package = type(text).__module__.partition(".")[0]
        copied = f"has its weights in `{WEIGHTS}`; its code, of the package `{package}`, is not in this folder"
    return (
        f"{terms}\n\nThe text encoder, {started['text_encoder']}, {copied}. The image encoder started from: "
        f"{started['image_encoder']}. Their licences hold, too. medvlp itself is under the MIT licence.\n"
    )


def _millions(module: Any) -> str:
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.1f} million parameters"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
