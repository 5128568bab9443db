"""Labels of a report from what it says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from medvlp.parse.cues import Existence
from medvlp.parse.lexicon import LABEL_SETS

# A finding mentioned several times is present if any mention says so, else uncertain if any does.
STRENGTH: tuple[Existence, ...] = ("absent", "uncertain", "present")


def strongest(existences: Iterable[Existence]) -> Existence:
    """Return what several mentions say together: present, else uncertain, else absent."""
    return max(existences, key=STRENGTH.index)


def summary(said: Iterable[tuple[str, Existence]]) -> dict[str, Existence]:
    """Return each finding of a report once.

    Args:
        said: Finding and existence of its triplets.
    """
    out: dict[str, Existence] = {}
    for finding, existence in said:
        out[finding] = strongest((existence, out.get(finding, existence)))
    return out


def labels(said: Mapping[str, Existence], label_set: str) -> dict[str, Existence]:
    """Return the labels of a report, without those it does not speak of.

    CheXpert's No Finding is present where no label but Support Devices is present or uncertain.

    Args:
        said: Its findings, see `summary`.
        label_set: One of `LABEL_SETS`.

    Example:
        >>> labels({"pleural effusion": "present", "pneumothorax": "absent"}, "chexpert")
        {'Pleural Effusion': 'present', 'Pneumothorax': 'absent'}
    """
    out: dict[str, Existence] = {}
    for label, findings in LABEL_SETS[label_set].items():
        existences = [said[f] for f in findings if f in said]
        if existences:
            out[label] = strongest(existences)
    if label_set == "chexpert" and all(e == "absent" for label, e in out.items() if label != "Support Devices"):
        out["No Finding"] = "present"
    return out
