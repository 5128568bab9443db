"""A zero-shot protocol, read from a YAML file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from medvlp.errors import NotFoundError, UserError, suggestion
from medvlp.protocols.prompts import Prompts, Sides, read_prompts
from medvlp.protocols.section import Section
from medvlp.types import find_label

FOLDER = Path(__file__).parent
KEYS = ("name", "version", "source", "prompts", "pooling", "score", "temperature", "normalise", "threshold")

Pooling = Literal["embedding", "mean", "max"]
Score = Literal["pair", "similarity", "tags"]
Threshold = Literal["none", "validation", "oracle-f1", "oracle-mcc"]


@dataclass(frozen=True)
class Protocol:
    """Prompts, scores and thresholds for the zero-shot test of a model on labels.

    Two protocols are equal if their entries are; comments and layout do not matter. The version rises with every change
    of an entry, so that figures of different wordings can be told apart.

    Attributes:
        name: Its name.
        version: Its version.
        source: Paper or code that the protocol comes from.
        prompts: The prompts of each label.
        pooling: Pooling of the prompts of a side. `embedding` is the mean of their normalised embeddings, normalised
            again; `mean` and `max` pool their similarities with the image.
        score: Score of a label: `pair`, the softmax of the positive and the negative side; `similarity`, the positive
            side alone; `tags`, the probability from a tag decoder.
        temperature: Divisor of the similarities of a pair; 1 keeps the cosines.
        normalise: `images` for scores with mean 0 and standard deviation 1 over all images of the test set. A score
            then depends on the other images.
        threshold: Decision threshold. `none` is 0.5 if the scores are probabilities; `validation` maximises F1 on
            validation images. `oracle-f1` and `oracle-mcc` maximise F1 or Matthews' correlation on the test images
            themselves.
        content: Entries of the file, completed from its base.
    """

    name: str
    version: int
    source: str
    prompts: Prompts
    pooling: Pooling
    score: Score
    temperature: float
    normalise: Literal["images"] | None
    threshold: Threshold
    content: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, name: str | Path) -> Protocol:
        """Read a protocol of medvlp by its name, or your own protocol from a file.

        Raises:
            UserError: If there is no such protocol, or the file is invalid.
        """
        return cls.of(_read(name), f"protocol='{name}'")

    @classmethod
    def of(cls, content: Mapping[str, Any], where: str = "protocol") -> Protocol:
        """Make a protocol from the content of a file.

        Args:
            content: Entries with the names of the attributes here. The protocol in the entry `base` completes them;
                mappings are merged entry by entry.
            where: Name of the protocol in errors.

        Raises:
            UserError: If an entry is invalid.
        """
        section = Section(_with_base(content, where), where)
        section.only("base", *KEYS)
        score: Score = section.choice("score", get_args(Score), "pair")
        protocol = cls(
            section.text("name"),
            section.whole("version"),
            section.text("source"),
            read_prompts(section.section("prompts")),
            section.choice("pooling", get_args(Pooling), "embedding"),
            score,
            section.positive("temperature", 1.0),
            section.choice("normalise", ("images", None)),
            section.choice("threshold", get_args(Threshold), "none"),
            section.value,
        )
        protocol._check(section)
        return protocol

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the protocols of medvlp."""
        return sorted(path.stem for path in FOLDER.glob("*.yaml"))

    @property
    def sha256(self) -> str:
        """Hash of the entries and of the prompts made from them; prompts may depend on the order of the entries."""
        made = json.dumps([self.content, self.prompts.texts], sort_keys=True)
        return hashlib.sha256(made.encode()).hexdigest()

    @property
    def identity(self) -> dict[str, str | int]:
        """Name, version and sha256, to store with each figure."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256}

    @property
    def caveats(self) -> list[str]:
        """Remarks to print beside each figure."""
        caveats = []
        if self.normalise == "images":
            caveats.append("transductive: each score depends on all images of the test set")
        if self.threshold.startswith("oracle"):
            caveats.append("oracle: thresholds are tuned on the test set")
        return caveats

    @property
    def decision(self) -> float | None:
        """The fixed decision threshold, 0.5, or None if the protocol has none."""
        return None if self.score == "similarity" or self.normalise or self.threshold != "none" else 0.5

    def knows(self, label: str) -> bool:
        """Return whether the protocol has prompts or tags for a label; the case of the label is ignored."""
        return self.prompts.labels is None or find_label(label, self.prompts.labels) is not None

    def of_label(self, label: str) -> list[Sides]:
        """Return the prompts of each finding that a label stands for; the label's score is the highest of theirs.

        Raises:
            UserError: If the protocol has no prompts for the label.
        """
        if not self.knows(label):
            labels = self.prompts.labels or []
            raise UserError(
                f"protocol='{self.name}' has no prompts for the label '{label}'.{suggestion(label, labels)} It has "
                f"{', '.join(labels)}."
            )
        return self.prompts.of(label)

    def texts(self, labels: Iterable[str]) -> list[str]:
        """Return all prompts of labels, each once, for the text encoder to embed.

        Raises:
            UserError: If the protocol has no prompts for a label.

        Example:
            >>> Protocol.read("chexzero").texts(["Pleural Effusion"])
            ['pleural effusion', 'no pleural effusion']
        """
        sides = [side for label in labels for pair in self.of_label(label) for side in pair]
        return list(dict.fromkeys(text for side in sides for text in side))

    def _check(self, section: Section) -> None:
        """Refuse entries that contradict each other."""
        where = section.where
        if (self.score == "tags") != bool(self.prompts.tags) or (self.prompts.tags and self.prompts.labels is None):
            raise UserError(f"{where}: 'tags' in 'prompts' and score='tags' belong together, without other prompts.")
        sides = list(self.prompts.texts.values())
        if self.prompts.pairs:
            sides += self.prompts.pairs.of("label")
        elif not sides and self.score != "tags":
            raise UserError(f"{where}, prompts: needs 'pairs', 'texts' or 'grid'.")
        for side in sides:
            if bool(side.negative) != (self.score == "pair"):
                raise UserError(
                    f"{where}: score='{self.score}' "
                    + (f"needs negative prompts beside '{side.positive[0]}'." if self.score == "pair" else "")
                    + (f"reads no negative prompts, such as '{side.negative[0]}'." if side.negative else "")
                )
        if self.score != "pair" and "temperature" in section:
            raise UserError(f"{where}: only score='pair' has a temperature.")
        if self.score == "tags" and "pooling" in section:
            raise UserError(f"{where}: score='tags' pools no prompts.")


def _read(name: str | Path) -> dict[str, Any]:
    path = FOLDER / f"{name}.yaml" if str(name) in Protocol.names() else Path(name)
    if not path.is_file():
        raise NotFoundError(
            f"protocol='{name}': no such protocol or file.{suggestion(str(name), Protocol.names())} There are "
            f"{', '.join(Protocol.names())}."
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"protocol='{name}' is not YAML: {reason}") from error
    return Section(content, f"protocol='{name}'").value


def _with_base(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the entries of a file, completed from its base."""
    if "base" not in content:
        return dict(content)
    base = content["base"]
    if base not in Protocol.names():
        raise UserError(f"{where}, base is {base!r}; it must be one of {', '.join(Protocol.names())}.")
    return _merged(_with_base(_read(base), f"protocol='{base}'"), content)


def _merged(base: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in content.items():
        # An entry for a label replaces that of the base, even if their case differs.
        name = find_label(name, base) or name
        entry = merged.get(name)
        merged[name] = _merged(entry, value) if isinstance(entry, dict) and isinstance(value, dict) else value
    return merged
