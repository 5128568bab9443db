"""The labels of a report, from its findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from medvlp.parse.cues import Existence
from medvlp.parse.lexicon import LABEL_SETS

# Precedence, weakest first: of several mentions of a finding the strongest one wins.
STRENGTH: tuple[Existence, ...] = ("absent", "uncertain", "present")


def strongest(existences: Iterable[Existence]) -> Existence:
    """Return the strongest of several existences: present, else uncertain, else absent."""
    return max(existences, key=STRENGTH.index)


def summary(mentions: Iterable[tuple[str, Existence]]) -> dict[str, Existence]:
    """Return the existence of each finding of a report: the strongest of its mentions.

    Args:
        mentions: Finding and existence of its triplets.
    """
    out: dict[str, Existence] = {}
    for finding, existence in mentions:
        out[finding] = strongest((existence, out.get(finding, existence)))
    return out


def labels(existence_of: Mapping[str, Existence], label_set: str) -> dict[str, Existence]:
    """Return the labels of a report, without those that it does not mention.

    CheXpert's No Finding is present if no label except Support Devices is present or uncertain.

    Args:
        existence_of: Existence of its findings, see `summary`.
        label_set: One of `LABEL_SETS`.

    Example:
        >>> labels({"pleural effusion": "present", "pneumothorax": "absent"}, "chexpert")
        {'Pleural Effusion': 'present', 'Pneumothorax': 'absent'}
    """
    out: dict[str, Existence] = {}
    for label, findings in LABEL_SETS[label_set].items():
        existences = [existence_of[f] for f in findings if f in existence_of]
        if existences:
            out[label] = strongest(existences)
    if label_set == "chexpert" and all(e == "absent" for label, e in out.items() if label != "Support Devices"):
        out["No Finding"] = "present"
    return out
