"""Checks of the training data before the first step.

A contrastive loss is constant without texts, without different texts or without negatives, and its gradient is zero.
Without these checks such a run would reach its end and write checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.models import TextEncoder
from medvlp.objectives import Objective
from medvlp.objectives.base import section_texts
from medvlp.prepared import Prepared
from medvlp.types import Section

NAMES: dict[Section, str] = {"findings": "Findings", "impression": "an Impression", "report": "a report"}
# Images, and texts, that are compared to find out whether all are alike.
IMAGES, TEXTS = 64, 8


def check_training(
    data: CXRDataModule, objectives: Mapping[str, Objective], text_encoder: TextEncoder, processes: int, validated: bool
) -> None:
    """Refuse data from which an objective cannot learn, and report how much of the data is of use.

    Args:
        data: The data.
        objectives: The objectives, by name.
        text_encoder: The text encoder.
        processes: Number of processes that train together.
        validated: Whether the run reads the validation images.

    Raises:
        UserError: If a split is empty, images are all alike, there are no texts that differ, no findings, no region
            sentences or other labels for an objective that learns from them, or a batch has no negatives.
    """
    taken = {*objectives, "retrieval", "zeroshot"} & {*data.roots.names} if len(data.roots) > 1 else set()
    if taken:
        raise UserError(f"root: rename the folder '{min(taken)}': the metrics have parts of this name.")
    images = len(data.subset)
    _check_batch(data, objectives, images, processes)
    _check_images(data)
    _check_labels(data, objectives)
    notes = _check_sections(data, objectives, text_encoder)
    if any(objective.reads_regions for objective in objectives.values()):
        notes.append(_check_sentences(data, _named(objectives, "reads_regions")))
    for need in ("reads_sentences", "reads_words"):
        if any(getattr(objective, need) for objective in objectives.values()):
            _check_reports(data, _named(objectives, need))
    if any(objective.reads_findings for objective in objectives.values()):
        _check_findings(data, _named(objectives, "reads_findings"))
    rank_zero_info(f"Training on {images:,} images of root='{data.roots}'{''.join(f', {part}' for part in notes)}.")
    if validated:
        _check_validation(data, objectives)


def other_labels(data: CXRDataModule, objectives: Mapping[str, Objective]) -> set[str]:
    """Return the objectives that learn from other labels than those of the data, and warn of each.

    Their own metrics would compare the prediction of one label with the truth of another.
    """
    others = {name for name, o in objectives.items() if o.reads_labels and list(o.reads_labels) != data.labels}
    for name in sorted(others):
        rank_zero_warn(
            f"objective '{name}' has learned the labels {list(objectives[name].reads_labels)}; those of "
            f"root='{data.roots}' are {data.labels}: its own metrics are left out."
        )
    return others


def _named(objectives: Mapping[str, Objective], need: str) -> str:
    return next(name for name, objective in objectives.items() if getattr(objective, need))


def _check_batch(data: CXRDataModule, objectives: Mapping[str, Objective], images: int, processes: int) -> None:
    # The sampler shares the images out, padding the shares to the same size.
    share = -(-images // processes)
    for name, objective in objectives.items():
        if min(data.batch_size, share) < (least := objective.least_studies(processes)):
            few = f"training has {share:,} image{'s' * (share != 1)} per process"
            raise UserError(
                f"{few if share < data.batch_size else f'batch_size={data.batch_size}'}, but objective '{name}' "
                f"compares the studies of a batch: it needs at least {least} per process, and learns better from more. "
                "Pass a larger --data.batch_size, or more data."
            )


def _check_images(data: CXRDataModule) -> None:
    for path, index in data.indices(["train"], []):
        rows = index["row"].to_numpy()
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), IMAGES)).astype(np.int64)]
        images = Prepared.open(path).images
        if len(rows) > 1 and all((images[row] == images[rows[0]]).all() for row in rows[1:]):
            raise UserError(
                f"the training images of root='{path}' are all the same, {len(rows)} of {len(rows)} compared: "
                "images.npy is damaged, or was made of damaged files. Prepare the data again."
            )


def _check_labels(data: CXRDataModule, objectives: Mapping[str, Objective]) -> None:
    for name, objective in objectives.items():
        if objective.reads_labels and list(objective.reads_labels) != data.labels:
            raise UserError(
                f"objective '{name}' learns from the labels {list(objective.reads_labels)}, but those of "
                f"root='{data.roots}' are, in this order: {data.labels}. Name them all so."
            )
        for path, has in zip(data.roots.paths, data.roots.has_label if objective.reads_labels else (), strict=False):
            if lacking := [label for label, there in zip(data.labels, has, strict=True) if not there]:
                rank_zero_warn(
                    f"root='{path}' has no labels {', '.join(lacking)}: objective '{name}' takes them as not mentioned "
                    "in its images, not as unknown."
                )


def _check_sections(data: CXRDataModule, objectives: Mapping[str, Objective], text_encoder: TextEncoder) -> list[str]:
    """Return the number of studies with each section that images are aligned with, as phrases."""
    findings, impression = data.reports(["train"])
    texts = {
        section: [text for text in section_texts(section, findings, impression) if text.strip()]
        for section in dict.fromkeys(section for objective in objectives.values() for section in objective.sections)
    }
    distinct = {section: list(dict.fromkeys(strings)) for section, strings in texts.items()}
    for name, objective in objectives.items():
        if objective.reads_labels:  # also of images without reports
            continue
        reasons = {s: reason for s in objective.sections if (reason := _nothing_to_tell(s, texts[s], distinct[s]))}
        if reasons and len(reasons) == len(objective.sections):
            advice = "" if any(texts.values()) else " The data set comes without reports, or was prepared without them."
            raise UserError(
                f"objective '{name}' aligns images with texts, but of the {len(findings):,} training images of "
                f"root='{data.roots}' {' and '.join(reasons.values())}.{advice}"
            )
        for reason in reasons.values():
            rank_zero_warn(
                f"Of the {len(findings):,} training images of root='{data.roots}' {reason}: objective '{name}' learns "
                "from the other section alone, and that term of its loss says nothing."
            )
    for strings in (strings for strings in distinct.values() if len(strings) > 1):
        sample = text_encoder.constant(strings[:TEXTS])
        if ((sample - sample[0]).abs().amax() < 1e-5 * sample.abs().amax()).item():
            raise UserError(
                f"text encoder {text_encoder.title!r} gives {len(sample)} different texts the same embedding: try "
                "another, or another pooling, such as --model.text_encoder.pooling mean."
            )
    return [f"{len(texts[s]):,} with {NAMES[s]} ({len(distinct[s]):,} different)" for s in texts]


def _nothing_to_tell(section: Section, texts: Sequence[str], distinct: Sequence[str]) -> str:
    """Return why a section cannot tell studies apart; empty if it can."""
    if not texts:
        return f"none has {NAMES[section]}"
    return f"all {len(texts):,} with {NAMES[section]} say word for word the same" if len(distinct) == 1 else ""


def _check_reports(data: CXRDataModule, reader: str) -> None:
    reports = {text for text in section_texts("report", *data.reports(["train"])) if any(map(str.isalnum, text))}
    if len(reports) < 2:
        state = "say word for word the same" if reports else "have no words"
        raise UserError(
            f"objective '{reader}' learns from the sentences of reports, but the reports of the training images of "
            f"root='{data.roots}' {state}."
        )


def _check_sentences(data: CXRDataModule, reader: str) -> str:
    sentences = data.region_sentences(["train"])
    if not sentences:
        raise UserError(
            f"objective '{reader}' aligns regions with sentences, but no report of the training images of "
            f"root='{data.roots}' mentions a region."
        )
    return f"{len(sentences):,} different sentences about regions"


def _check_findings(data: CXRDataModule, reader: str) -> None:
    existence = data.existences(["train"])
    if existence is None or (existence == existence[0]).all():
        folder = data.roots.paths[0]
        state = "has no triplets" if existence is None else "says the same of every finding in every training image"
        raise UserError(
            f"objective '{reader}' learns from the findings that reports name, but root='{data.roots}' {state}. With "
            f"reports, parse them: 'medvlp parse --input {folder / 'index.parquet'} --id study_id --out "
            f"{folder / 'triplets.parquet'}'. Without any, leave out TagDecoding, give GlobalAlignment "
            "soft_label_weight 0, and name the labels of the folder to an objective of labels."
        )


def _check_validation(data: CXRDataModule, objectives: Mapping[str, Objective]) -> None:
    findings, impression = data.reports(["validate"])
    if not findings:
        raise UserError(
            f"validation_splits={list(data.splits['validate'])} of root='{data.roots}' have no image: name others with "
            "--data.validation_splits, or train without validation, --trainer.limit_val_batches 0."
        )
    if both := sorted({*data.splits["train"]} & {*data.splits["validate"]}):
        rank_zero_warn(
            f"Split '{both[0]}' is used for both training and validation: metrics under val/ are those of "
            "training images."
        )
    if any(o.sections and not o.quality for o in objectives.values()) and not any(
        map(str.strip, findings + impression)
    ):
        rank_zero_warn(
            f"The validation images of root='{data.roots}' have no reports: val/quality, which chooses the best "
            "checkpoint, is 0 for all."
        )
