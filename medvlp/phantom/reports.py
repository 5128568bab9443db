"""The report of a radiologist about a study, most of them in the layout of the text files of MIMIC-CXR."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from medvlp.phantom import grammar
from medvlp.phantom.page import Page, style_of
from medvlp.phantom.statements import absent, change_of, fixed, gone, neutral, present
from medvlp.phantom.world import DEVICES, FINDINGS, Finding, Sentence, Study, stream

_CLOUDS = ("consolidation", "atelectasis", "edema", "nodule")


@dataclass(frozen=True)
class Report:
    """A report file.

    Attributes:
        text: Content of the file.
        sentences: Its sentences with section, span and triplets, in the order of the text.
    """

    text: str
    sentences: tuple[Sentence, ...]


def report(study: Study) -> Report:
    """Return the report of a study."""
    rng = stream(study.key, 31)
    blocks, impression = _findings(study, rng), _impression(study, rng)
    findings = [sentence for _, block in blocks for sentence in block]
    kind = rng.random()
    page = Page(style_of(study))
    page.header("FINAL REPORT", indent=33)
    if kind < 0.005:
        page.lines("CHEST RADIOGRAPH", "")
        page.section("other", impression)
        return Report(page.text, tuple(page.sentences))
    _preamble(page, study, rng)
    if kind < 0.045:
        page.title("FINDINGS AND IMPRESSION")
        page.section("impression", [*findings, *impression])
    elif kind < 0.145:
        _conclude(page, impression, rng)
    elif kind < 0.195:
        page.title("FINDINGS")
        page.parts("findings", blocks)
    else:
        page.title("FINDINGS" if rng.random() < 0.97 else "FINDING")
        page.parts("findings", blocks)
        _conclude(page, impression, rng)
    return Report(page.text, tuple(page.sentences))


def _conclude(page: Page, sentences: list[Sentence], rng: np.random.Generator) -> None:
    headers = ("IMPRESSION", "CONCLUSION", "IMPRESSIONS", "Impression")
    page.title(headers[int(rng.choice(4, p=(0.93, 0.04, 0.02, 0.01)))])
    page.section("impression", sentences, numbered=len(sentences) > 1 and rng.random() < 0.35)


def _preamble(page: Page, study: Study, rng: np.random.Generator) -> None:
    views = {s.view for s in study.shots}
    lateral = "LATERAL" in views
    examination = (
        "CHEST (PA AND LAT)" if lateral else "CHEST (PORTABLE AP)" if "AP" in views else "CHEST RADIOGRAPH (PA)"
    )
    reasons = (
        "shortness of breath",
        "chest pain",
        "fever and cough",
        "hypoxia",
        "altered mental status",
        "weakness",
        "syncope",
    )
    person = "F" if study.body.female else "M"
    reason = reasons[int(rng.integers(len(reasons)))]
    blocks = {
        "EXAMINATION": examination,
        ("INDICATION", "HISTORY", "REASON FOR EXAM")[
            int(rng.integers(3))
        ]: f"___-year-old {person} with {reason}  // {reason}?"
        if rng.random() < 0.5
        else f"___{person} with {reason}.",
        "TECHNIQUE": "Chest PA and lateral."
        if lateral
        else "Portable AP view of the chest."
        if "AP" in views
        else "Single PA view of the chest.",
        "COMPARISON": "None."
        if study.previous is None
        else ("Chest radiograph ___.", "___.", "Comparison is made to the prior study from ___.")[int(rng.integers(3))],
    }
    for name, text in blocks.items():
        if rng.random() < 0.75:
            page.title(name)
            page.paragraph(text)


def _state(f: Finding, study: Study, rng: np.random.Generator, chance: float) -> Sentence:
    """Return a sentence about a drawn finding. Mild findings are sometimes uncertain."""
    # One draw per finding and study, so that Findings and Impression agree about its certainty.
    doubt = stream(study.key, FINDINGS.index(f.name)).random()
    sure = f.name in DEVICES or doubt > {"mild": 0.25, "moderate": 0.06, "severe": 0.0}[f.severity]
    change = change_of(f, study.previous) if sure and rng.random() < chance else None
    return present(f, rng, change, "present" if sure else "uncertain")


def _findings(study: Study, rng: np.random.Generator) -> list[tuple[str, list[Sentence]]]:
    """Return the sentences of Findings in blocks, with the header that each block may have."""
    findings = study.findings
    names = {f.name for f in findings}
    chance = 0.6 if study.previous else 0.0
    devices = [_state(f, study, rng, 0.35) for f in findings if f.name in DEVICES and rng.random() < 0.95]
    heart: list[Sentence] = []
    lungs: list[Sentence] = []
    for f in findings:
        if f.name not in DEVICES and rng.random() < 0.93:
            (heart if f.name == "cardiomegaly" else lungs).append(_state(f, study, rng, chance))
    if study.previous is not None:
        lungs += [gone(p, rng) for p in study.previous if p.name not in names and rng.random() < 0.5]
    if "cardiomegaly" not in names and rng.random() < 0.85:
        if rng.random() < 0.5:
            heart.append(
                fixed(grammar.NORMAL_BOTH, rng, ("cardiomegaly", "absent"), ("enlarged cardiomediastinum", "absent"))
            )
        else:
            heart.append(fixed(grammar.NORMAL_HEART, rng, ("cardiomegaly", "absent")))
    elif rng.random() < 0.3:
        heart.append(fixed(grammar.NORMAL_MEDIASTINUM, rng, ("enlarged cardiomediastinum", "absent")))
    if not names & {*_CLOUDS, "pneumothorax"} and rng.random() < 0.5:
        lungs.append(fixed(grammar.CLEAR_LUNGS, rng, ("consolidation", "absent"), ("opacity", "absent")))
    lungs += _denials(names, rng, 0.8)
    tail = [fixed(grammar.BONES, rng, ("fracture", "absent"))] if rng.random() < 0.35 else []
    if rng.random() < 0.15:
        tail.append(neutral("low" if study.shots[0].inspiration < 0.91 else "normal", rng))
    blocks = [("LINES AND TUBES", devices), ("HEART AND MEDIASTINUM", heart), ("LUNGS AND PLEURA", lungs)]
    if rng.random() < 0.5:
        blocks.reverse()
    if any(block for _, block in blocks) or tail:
        return [*blocks, ("OTHER", tail)]
    heart = [fixed(grammar.NORMAL_MEDIASTINUM, rng, ("enlarged cardiomediastinum", "absent"))]
    return [("HEART AND MEDIASTINUM", heart)]


def _denials(names: AbstractSet[str], rng: np.random.Generator, chance: float) -> list[Sentence]:
    """Return sentences that deny absent findings."""
    likely = {
        "consolidation": 1,
        "pleural effusion": 1,
        "pneumothorax": 1,
        "edema": 0.5,
        "opacity": 0.25,
        "nodule": 0.35,
        "atelectasis": 0.25,
        "pneumonia": 0.2,
    }
    cloudy = bool(names & {"consolidation", "atelectasis", "edema", "nodule"})
    free = [
        n
        for n, p in likely.items()
        if n not in names
        and not (n == "opacity" and cloudy)
        and not (n == "pneumonia" and "consolidation" in names)
        and rng.random() < chance * p
    ]
    if "opacity" in free and "consolidation" in free:
        free.remove("opacity")
    order = [free[i] for i in rng.permutation(len(free))]
    out = []
    while order:
        take = int(rng.integers(1, 4))
        out.append(absent(order[:take], rng))
        order = order[take:]
    return out


def _impression(study: Study, rng: np.random.Generator) -> list[Sentence]:
    findings = study.findings
    names = {f.name for f in findings}
    acute = [f for f in findings if f.name not in DEVICES]
    out = [
        _state(f, study, rng, 0.5 if study.previous else 0.0)
        for f in acute
        if f.severity != "mild" or rng.random() < 0.8
    ]
    out += [_state(f, study, rng, 0.3) for f in findings if f.name in DEVICES and rng.random() < 0.2]
    if not names - DEVICES:
        out.insert(0, fixed(grammar.NORMAL_IMPRESSION, rng, ("acute disease", "absent")))
    elif names - DEVICES == {"cardiomegaly"} and rng.random() < 0.6:
        out.append(
            fixed("No {acute cardiopulmonary process|superimposed acute process}", rng, ("acute disease", "absent"))
        )
    elif "consolidation" not in names and "atelectasis" in names and rng.random() < 0.25:
        out.append(fixed(grammar.UNCERTAIN["pneumonia"], rng, ("pneumonia", "uncertain")))
    if rng.random() < 0.25:
        out += _denials(names, rng, 0.35)[:1]
    return out or [_state(acute[0], study, rng, 0.0)]
