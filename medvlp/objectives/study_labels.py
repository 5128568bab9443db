"""Labels of studies for objectives that learn from labels: the parser's, or those of the prepared folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medvlp.errors import UserError
from medvlp.models import TextEncoder
from medvlp.objectives.tags import LabelSet, Tags
from medvlp.parse import LABEL_SETS
from medvlp.types import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN, Batch, entry_of

NO_FINDING = "No Finding"
# CheXpert's rule: a device does not make a study abnormal.
DEVICES = "Support Devices"
NORMAL, ABNORMAL = "No acute cardiopulmonary abnormality.", "Abnormal chest radiograph."


class StudyLabels(nn.Module):
    """The state of each label in the studies of a batch; No Finding is added to labels that lack it.

    Args:
        source: A label set, whose labels come from the findings in the report; or the names of the folder's labels, in
            its order.

    Attributes:
        names: The T labels.
        of_folder: Whether they are the folder's.
    """

    abnormal: Tensor

    def __init__(self, source: LabelSet | Sequence[str]) -> None:
        super().__init__()
        self.tags = Tags(cast(LabelSet, source)) if isinstance(source, str) else None
        given = list(source) if self.tags is None else self.tags.names
        self.given, self.of_folder = len(given), self.tags is None
        self.names = given if NO_FINDING in given else [*given, NO_FINDING]
        abnormal = [name not in (NO_FINDING, DEVICES) for name in self.names]
        self.register_buffer("abnormal", torch.tensor(abnormal), persistent=False)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the states, int8 (B, T), with the values of `Batch.label`, and a mask of the labelled studies.

        Where it is not a label of the folder, No Finding is present if no other label, except Support Devices, is
        present or uncertain. A study without a report has no labels of the parser.

        Raises:
            UserError: If the batch has another number of labels than were named.
        """
        state = batch["label"] if self.tags is None else self.tags(batch["existence"])
        if state.shape[1] != self.given:
            raise UserError(
                f"labels={self.names[: self.given]} are {self.given}, but the data have {state.shape[1]}: name all "
                "labels of the folder, in its order."
            )
        known = (state != NOT_MENTIONED).any(1) if self.of_folder else batch["findings_mask"] | batch["impression_mask"]
        if self.of_folder and self.given == len(self.names):
            return state, known
        if self.given < len(self.names):
            state = F.pad(state, (0, 1))
        ill = (((state == PRESENT) | (state == UNCERTAIN)) & self.abnormal).any(1)
        nothing = torch.where(known, torch.where(ill, ABSENT, PRESENT), NOT_MENTIONED).to(state.dtype)
        column = torch.tensor([name == NO_FINDING for name in self.names], device=state.device)
        return torch.where(column, nothing[:, None], state), known


class LabelTexts(nn.Module):
    """Embeddings of label sets: the mean over the texts of their labels.

    A frozen text encoder reads these texts once, when the objective is built, and checkpoints store the embeddings. A
    trained one reads them in each step. Since each text is of one label, no step has to build strings of a batch,
    which would wait for the device.

    Args:
        text_encoder: The text encoder.
        names: The T labels.
        templates: A text for each state of a label that is told, with {} for the name.
    """

    embedding: Tensor
    state: Tensor

    def __init__(self, text_encoder: TextEncoder, names: Sequence[str], templates: Mapping[int, str]) -> None:
        super().__init__()
        self.texts = [label_text(name, *item) for item in templates.items() for name in names]
        self.register_buffer("state", torch.tensor(list(templates), dtype=torch.int8), persistent=False)
        # nn.Module does not look for sub-modules in tuples: the encoder belongs to the task.
        self._trained = () if text_encoder.frozen else (text_encoder,)
        if text_encoder.frozen:
            self.register_buffer("embedding", text_encoder.constant(self.texts))

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings (B, E) of label sets from their states (B, T), and a mask of those with a text."""
        told = (state[:, None] == self.state[:, None]).flatten(1)
        share = told.float() / told.sum(1, keepdim=True).clamp(min=1)
        return share @ self.each(), told.any(1)

    def each(self) -> Tensor:
        """Return the embeddings of all texts (K, E): those of the first template by label, then of the second."""
        return self._trained[0](self.texts).float() if self._trained else self.embedding


def label_names(labels: Sequence[str]) -> dict[str, list[int]]:
    """Return the names of labels and of the findings that they stand for, each with the positions of its labels."""
    names: dict[str, list[int]] = {label: [position] for position, label in enumerate(labels)}
    for position, label in enumerate(labels):
        findings = {finding for label_set in LABEL_SETS.values() for finding in entry_of(label, label_set) or ()}
        for finding in sorted(findings - {name.lower() for name in labels}):
            names.setdefault(finding, []).append(position)
    return names


def label_text(name: str, state: int, template: str) -> str:
    """Return the text of a label in a state; No Finding has its own texts."""
    if name == NO_FINDING:
        return NORMAL if state == PRESENT else ABNORMAL
    text = template.format(name.replace("_", " ").lower())
    return text[0].upper() + text[1:]
