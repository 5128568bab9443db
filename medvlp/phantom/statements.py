"""Sentences about findings, each with its triplets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from medvlp.phantom import grammar
from medvlp.phantom.expansion import expand
from medvlp.phantom.findings import nodule_diameter
from medvlp.phantom.world import DEVICES, REGIONS, Existence, Finding, Sentence, Severity, Side, Triplet, Zone

# Share of consolidations that the report calls an opacity.
_OPACITY: dict[Severity, float] = {"mild": 0.9, "moderate": 0.15, "severe": 0.05}
_LUNGS = ("right lung", "left lung")
_HILA = ("right hilar structures", "left hilar structures")
# Regions of a finding if the sentence states no place.
_EVERYWHERE = {
    "pleural effusion": ("right costophrenic angle", "left costophrenic angle"),
    "blunting": ("right costophrenic angle", "left costophrenic angle"),
    "pneumothorax": ("right apical zone", "left apical zone"),
    "edema": (*_LUNGS, *_HILA),
    "engorgement": _HILA,
    "hilar enlargement": _HILA,
    "atelectasis": ("right lower lung zone", "left lower lung zone"),
    "cardiomegaly": ("cardiac silhouette",),
    "enlarged cardiomediastinum": ("mediastinum",),
    "fracture": ("spine", "right clavicle", "left clavicle"),
    "endotracheal tube": ("trachea", "carina"),
    "enteric tube": ("mediastinum", "abdomen"),
    "central line": ("svc", "cavoatrial junction"),
    "pacemaker": ("cardiac silhouette", "right atrium"),
    "sternotomy wires": ("mediastinum",),
    "tip": (),
    "acute disease": (),
}
# Regions of the places in sentences about devices and vessels.
_PLACES: dict[str, tuple[str, ...]] = {
    "svc": ("svc",),
    "cavoatrial junction": ("cavoatrial junction",),
    "right atrium": ("right atrium",),
    "carina": ("carina",),
    "stomach": ("abdomen",),
    "below the diaphragm": ("abdomen",),
    "perihilar haze": _HILA,
}
_PAIRED = {f"{side} {r[5:]}" for r in REGIONS if r.startswith("left ") for side in ("right", "left")}
_RANK = ("mild", "moderate", "severe")


def change_of(f: Finding, previous: tuple[Finding, ...] | None) -> str | None:
    """Return the change of a finding since the previous study; None if there is no previous study."""
    if previous is None:
        return None
    before = next((p for p in previous if p.name == f.name), None)
    if before is None:
        return "new"
    # A device has no severity.
    step = 0 if f.name in DEVICES else _RANK.index(f.severity) - _RANK.index(before.severity)
    return "stable" if step == 0 else "increased" if step > 0 else "decreased"


def regions_of(name: str, side: Side | None, zone: Zone | None = None, text: str = "") -> tuple[str, ...]:
    """Return the Chest ImaGenome regions of a finding: the stated ones, else the usual ones.

    Args:
        name: The finding.
        side: The stated side; None if there is none.
        zone: The stated zone of the lung; None if there is none.
        text: Words of the sentence that may name a place.
    """
    for words, regions in _PLACES.items():
        if words in text.lower():
            return regions
    if zone is not None:
        part = "apical zone" if "apices" in text else f"{zone} lung zone"
        everywhere: tuple[str, ...] = (f"right {part}", f"left {part}")
    else:
        everywhere = _EVERYWHERE.get(name, _LUNGS)
    other = {"right": "left ", "left": "right "}.get(str(side))
    return tuple(r for r in everywhere if other is None or r not in _PAIRED or not r.startswith(other))


def present(f: Finding, rng: np.random.Generator, change: str | None, existence: Existence = "present") -> Sentence:
    """Return a sentence that states a drawn finding as present or uncertain.

    Args:
        f: The drawn finding.
        rng: Chooses the words.
        change: Change to state; None for no comparison.
        existence: Existence to state.
    """
    name = f.name
    word = _word(f, rng) if existence == "present" else str(name)
    table = grammar.PRESENT if existence == "present" else grammar.UNCERTAIN
    plural = f.side == "bilateral" and f"{word}, plural" in table
    severity = expand(grammar.SEVERITY.get(name, {}).get(f.severity, ""), rng).lower()
    adverb = expand(grammar.ADVERB[f.severity], rng).lower()
    text = expand(
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
    severity_words = {severity, adverb} - grammar.LOOKS - {""}
    stated = f.severity if any(re.search(rf"\b{re.escape(w)}\b", text.lower()) for w in severity_words) else None
    # Edema is bilateral and in all zones; reports do not state it.
    side, zone = (f.side, f.zone) if name != "edema" else (None, None)
    triplets = [
        Triplet(n, existence, side, zone, stated, regions_of(n, side, zone, _before_tip(text)), change)
        for n in _named(text, word)
    ]
    triplets += _signs(text, triplets[0])
    if "volume loss" in text:
        # "Moderate volume loss and atelectasis": the adjective stands with the first.
        triplets = [replace(t, severity=stated if t.finding == "volume loss" else None) for t in triplets]
    if name == "consolidation" and existence == "present" and f.infectious and rng.random() < 0.5:
        sure = f.place[1] < 0.6
        regions = triplets[0].regions
        text += ", " + expand(grammar.PNEUMONIA[0 if sure else 1], rng).lower()
        triplets.append(Triplet("pneumonia", "present" if sure else "uncertain", f.side, f.zone, None, regions))
    if change is not None:
        text += ", " + expand(grammar.CHANGE[change], rng).lower()
    return Sentence(text + ".", tuple(triplets))


def _word(f: Finding, rng: np.random.Generator) -> str:
    if f.name == "consolidation":
        # A fainter consolidation gets the more cautious word.
        return "opacity" if rng.random() < _OPACITY[f.severity] else "consolidation"
    if f.name == "nodule":
        return "mass" if nodule_diameter(f) > 3 else "nodule"
    return f.name


def absent(names: Sequence[str], rng: np.random.Generator) -> Sentence:
    """Return a sentence that denies findings."""
    plural = rng.random() < 0.25
    nouns = [(plural and grammar.ABSENT_PLURAL.get(n)) or expand(grammar.ABSENT_NOUN[n], rng).lower() for n in names]
    glue = ", or " if rng.random() < 0.6 else " or "
    words = " or ".join(nouns) if len(nouns) < 3 else ", ".join(nouns[:-1]) + glue + nouns[-1]
    text = expand(grammar.ABSENT_PLURAL_FRAME if plural else grammar.ABSENT_FRAME, rng, {"list": words})
    denied = [n for noun, name in zip(nouns, names, strict=True) for n in _named(noun, name)]
    return Sentence(text + ".", tuple(Triplet(n, "absent", regions=regions_of(n, None)) for n in denied))


def _named(text: str, name: str) -> tuple[str, ...]:
    """Return the findings in the words of a template for a finding."""
    return next((names for words, names in grammar.OTHERWISE.items() if words in text.lower()), (name,))


def _signs(text: str, main: Triplet | None = None) -> list[Triplet]:
    """Return the triplets of a sentence besides those of its finding."""
    triplets = []
    for words, sign in grammar.SIGNS.items():
        if words not in text.lower() or "nodular" in text:
            continue
        if main is not None and words in ("blunting", "densit", "volume loss"):
            triplets.append(Triplet(sign, "present", main.side, None, None, main.regions))
        else:
            triplets.append(Triplet(sign, "present", regions=regions_of(sign, None, text=text)))
    if re.search(r"\btip\b", text):
        triplets.append(Triplet("tip", "present", regions=regions_of("tip", None, text=text[text.index("tip") :])))
    return triplets


def _before_tip(text: str) -> str:
    """Return the part of a sentence before the tip of a tube, whose places do not belong to the tip."""
    return re.split(r"\btip\b", text)[0]


def gone(f: Finding, rng: np.random.Generator) -> Sentence:
    """Return a sentence that states the resolution of a finding of the previous study."""
    noun = "pulmonary edema" if f.name == "edema" else f.name
    side = f"{f.side} " if f.side in ("right", "left") else ""
    text = expand(grammar.REMOVED if f.name in DEVICES else grammar.RESOLVED, rng, {"noun": side + noun})
    stated_side = f.side if side else None
    triplet = Triplet(f.name, "absent", stated_side, None, None, regions_of(f.name, stated_side), "resolved")
    return Sentence(text + ".", (triplet,))


def fixed(template: str, rng: np.random.Generator, *says: tuple[str, Existence]) -> Sentence:
    """Return a sentence of a template with the triplets of (finding, existence), without a place."""
    text = expand(template, rng)
    side: Side | None = "bilateral" if re.search(r"\b[Bb]oth|bilaterally", text) else None
    if "hilar" in text:
        says = (*says, ("hilar enlargement", "absent"))
    triplets = [Triplet(n, e, side, regions=regions_of(n, side)) for n, e in says]
    return Sentence(text + ".", (*triplets, *(replace(t, side=side) for t in _signs(text))))


def neutral(volume: Literal["low", "normal"], rng: np.random.Generator) -> Sentence:
    """Return a sentence about the volume of the lungs, or about no finding."""
    text = expand(grammar.NEUTRAL, rng, {"volume": volume}) + "."
    if "volume" not in text:
        return Sentence(text)
    existence: Existence = "present" if volume == "low" else "absent"
    return Sentence(text, (Triplet("low lung volumes", existence, regions=_LUNGS),))
