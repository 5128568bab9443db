"""Sentences about findings, each with the triplets of what it says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medvlp.phantom import grammar
from medvlp.phantom.findings import nodule_diameter
from medvlp.phantom.world import DEVICES, Existence, Finding, Sentence, Severity, Triplet

# Share of consolidations that are called an opacity.
_OPACITY: dict[Severity, float] = {"mild": 0.9, "moderate": 0.15, "severe": 0.05}
_LUNGS = ("right lung", "left lung")
_EVERYWHERE = {
    "pleural effusion": ("right costophrenic angle", "left costophrenic angle"),
    "pneumothorax": ("right apical zone", "left apical zone"),
    "edema": (*_LUNGS, "right hilar structures", "left hilar structures"),
    "atelectasis": ("right lower lung zone", "left lower lung zone"),
    "cardiomegaly": ("cardiac silhouette",),
    "enlarged cardiomediastinum": ("mediastinum",),
    "fracture": ("spine", "right clavicle", "left clavicle"),
    "endotracheal tube": ("trachea", "carina"),
    "enteric tube": ("mediastinum", "abdomen"),
    "central line": ("svc", "cavoatrial junction"),
    "pacemaker": ("cardiac silhouette", "right atrium"),
    "sternotomy wires": ("mediastinum",),
}
_RANK = ("mild", "moderate", "severe")


def change_of(f: Finding, previous: tuple[Finding, ...] | None) -> str | None:
    """Return how a finding compares with the previous study; None where there was none."""
    if previous is None:
        return None
    before = next((p for p in previous if p.name == f.name), None)
    if before is None:
        return "new"
    # A device is there or not.
    step = 0 if f.name in DEVICES else _RANK.index(f.severity) - _RANK.index(before.severity)
    return "stable" if step == 0 else "increased" if step > 0 else "decreased"


def regions_of(name: str, f: Finding | None) -> tuple[str, ...]:
    """Return the Chest ImaGenome regions a statement about a finding speaks of; no finding: anywhere."""
    if f is None or f.side is None or name in DEVICES:
        return _EVERYWHERE.get(name, _LUNGS)
    if f.name == "pleural effusion":
        parts = ["costophrenic angle"] + ["lower lung zone"] * (f.severity != "mild")
    elif f.name == "pneumothorax":
        parts = ["apical zone"] + ["lung"] * (f.severity == "severe")
    elif f.name == "edema":
        return _EVERYWHERE["edema"]
    else:
        parts = [f"{f.zone} lung zone"]
    return tuple(f"{side} {part}" for side in f.sides for part in parts)


def present(f: Finding, rng: np.random.Generator, change: str | None, existence: Existence = "present") -> Sentence:
    """Return a sentence that states a drawn finding as present or uncertain.

    Args:
        f: What is drawn.
        rng: Chooses the words.
        change: Comparison to state, None for no comparison.
        existence: How sure the reader is.
    """
    name = f.name
    word = _word(f, rng) if existence == "present" else str(name)
    table = grammar.PRESENT if existence == "present" else grammar.UNCERTAIN
    plural = f.side == "bilateral" and f"{word}, plural" in table
    severity = grammar.expand(grammar.SEVERITY.get(name, {}).get(f.severity, ""), rng).lower()
    adverb = grammar.expand(grammar.ADVERB[f.severity], rng).lower()
    text = grammar.expand(
        table[f"{word}, plural" if plural else word],
        rng,
        {
            "sev": severity,
            "adv": adverb,
            "side": str(f.side or ""),
            "zone": grammar.ZONES.get(str(f.zone), ""),
            "zones": grammar.BOTH_ZONES.get(str(f.zone), ""),
            "zoneadj": grammar.ZONE_ADJECTIVES.get(str(f.zone), ""),
            "size": f"{nodule_diameter(f):.1f}" if name == "nodule" else f"{2 + 3 * f.place[0]:.1f}",
        },
    )
    stated = f.severity if any(w and w in text.lower() for w in (severity, adverb)) else None
    triplets = [Triplet(word, existence, f.side, f.zone, stated, regions_of(word, f), change)]
    if name == "consolidation" and existence == "present" and f.infectious and rng.random() < 0.5:
        sure = f.place[1] < 0.6
        text += ", " + grammar.expand(grammar.PNEUMONIA[0 if sure else 1], rng).lower()
        triplets.append(
            Triplet("pneumonia", "present" if sure else "uncertain", f.side, f.zone, None, regions_of(name, f))
        )
    if change is not None:
        text += ", " + grammar.expand(grammar.CHANGE[change], rng).lower()
    return Sentence(text + ".", tuple(triplets))


def _word(f: Finding, rng: np.random.Generator) -> str:
    if f.name == "consolidation":
        # The fainter it is, the more cautious the word.
        return "opacity" if rng.random() < _OPACITY[f.severity] else "consolidation"
    if f.name == "nodule":
        return "mass" if nodule_diameter(f) > 3 else "nodule"
    return f.name


def absent(names: Sequence[str], rng: np.random.Generator) -> Sentence:
    """Return one sentence that denies these findings."""
    plural = rng.random() < 0.25
    nouns = [
        (plural and grammar.ABSENT_PLURAL.get(n)) or grammar.expand(grammar.ABSENT_NOUN[n], rng).lower() for n in names
    ]
    glue = ", or " if rng.random() < 0.6 else " or "
    words = " or ".join(nouns) if len(nouns) < 3 else ", ".join(nouns[:-1]) + glue + nouns[-1]
    text = grammar.expand(grammar.ABSENT_PLURAL_FRAME if plural else grammar.ABSENT_FRAME, rng, {"list": words})
    return Sentence(text + ".", tuple(Triplet(n, "absent", regions=regions_of(n, None)) for n in names))


def gone(f: Finding, rng: np.random.Generator) -> Sentence:
    """Return a sentence that says a finding of the previous study is no longer there."""
    noun = "pulmonary edema" if f.name == "edema" else f.name
    side = f"{f.side} " if f.side in ("right", "left") else ""
    text = grammar.expand(grammar.REMOVED if f.name in DEVICES else grammar.RESOLVED, rng, {"noun": side + noun})
    return Sentence(text + ".", (Triplet(f.name, "absent", f.side, f.zone, None, regions_of(f.name, f), "resolved"),))


def fixed(template: str, rng: np.random.Generator, *says: tuple[str, Existence]) -> Sentence:
    """Return a sentence of a template that says these (finding, existence) without a place."""
    text = grammar.expand(template, rng)
    return Sentence(text + ".", tuple(Triplet(n, e, regions=regions_of(n, None)) for n, e in says))
