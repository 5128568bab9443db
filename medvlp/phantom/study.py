"""Sampling of patients, of their diseases over time, and of the images of each study."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np

from medvlp.phantom.world import Body, Finding, FindingName, Severity, Shot, Side, Split, Study, View, Zone, stream

_PATIENT, _BODY, _DISEASE, _SHOTS, _IDS = range(5)
_SEVERITIES: tuple[Severity, ...] = ("mild", "moderate", "severe")
_ZONES: tuple[Zone, ...] = ("upper", "mid", "lower")
_CHRONIC = frozenset({"cardiomegaly", "nodule", "pacemaker", "sternotomy wires"})
_IDS_PER_KIND = 10_000_000


def patients(seed: int, studies: int) -> Iterator[tuple[int, int, int]]:
    """Yield (patient index, index of the first study, number of studies), `studies` studies in all."""
    first = patient = 0
    while first < studies:
        count = int(stream(seed, _PATIENT, patient).choice(4, p=(0.5, 0.25, 0.15, 0.1))) + 1
        yield patient, first, min(count, studies - first)
        first, patient = first + count, patient + 1


def split_of(subject_id: int) -> Split:
    """Return the split of a patient: 70 % train, 10 % validate, 20 % test, by a hash of the id."""
    bucket = int.from_bytes(hashlib.blake2b(str(subject_id).encode(), digest_size=4).digest(), "little") % 100
    return "train" if bucket < 70 else "validate" if bucket < 80 else "test"


def sample(seed: int, patient: int, first: int, count: int) -> list[Study]:
    """Return the first `count` studies of a patient; the first one has the study index `first`."""
    offset = int(stream(seed, _IDS).integers(_IDS_PER_KIND))
    # Multipliers coprime to 10 permute the numbers: ids look random and are unique.
    subject = 10_000_000 + (patient * 7_368_787 + offset) % _IDS_PER_KIND
    body = _body(stream(seed, _BODY, patient))
    clock = stream(seed, _PATIENT, patient, 1)
    day = date(2110, 1, 1) + timedelta(days=int(clock.integers(0, 30000)))
    previous: tuple[Finding, ...] | None = None
    out = []
    for order in range(1, count + 1):
        rng = stream(seed, _DISEASE, patient, order)
        findings = _first(rng) if previous is None else _next(rng, previous)
        shots = _shots(stream(seed, _SHOTS, patient, order), body, findings, (seed, patient, order))
        out.append(
            Study(
                subject_id=subject,
                study_id=50_000_000 + ((first + order - 1) * 3_141_593 + offset) % _IDS_PER_KIND,
                order=order,
                date=int(day.strftime("%Y%m%d")),
                time=int(clock.integers(0, 24)) * 10000 + int(clock.integers(0, 60)) * 100 + int(clock.integers(0, 60)),
                split=split_of(subject),
                body=body,
                findings=findings,
                previous=previous,
                shots=shots,
                key=int(rng.integers(2**31)),
            )
        )
        previous = findings
        day += timedelta(days=1 + int(clock.exponential(40)))
    return out


def _body(rng: np.random.Generator) -> Body:
    female = bool(rng.random() < 0.5)
    return Body(
        female=female,
        age=int(rng.integers(20, 91)),
        half_width=float(rng.normal(13.0 if female else 13.8, 0.7)),
        lung_height=float(rng.normal(23.0 if female else 24.5, 1.0)),
        fat=float(rng.beta(2, 3)),
        heart_ratio=float(rng.uniform(0.40, 0.475)),
        dome=float(rng.uniform(3.6, 5.2)),
        knob=float(rng.uniform(0, 1)),
        scoliosis=float(rng.normal(0, 0.5)),
        rib_drop=float(rng.uniform(7.5, 10.5)),
        key=int(rng.integers(2**31)),
    )


def _make(
    rng: np.random.Generator, name: FindingName, severity: Severity | None = None, side: Side | None = None
) -> Finding:
    place = (float(rng.random()), float(rng.random()))
    chosen = severity or _SEVERITIES[int(rng.choice(3, p=(0.25, 0.45, 0.3)))]
    zone: Zone | None = None
    infectious = False
    if name in ("pleural effusion", "atelectasis"):
        side = side or (("right", "left", "bilateral")[int(rng.choice(3, p=(0.35, 0.35, 0.3)))])
        zone = "lower" if name == "atelectasis" else None
    elif name == "pneumothorax":
        side = side or ("right", "left")[int(rng.integers(2))]
    elif name == "consolidation":
        side = side or ("right", "left", "bilateral")[int(rng.choice(3, p=(0.43, 0.37, 0.2)))]
        zone = _ZONES[int(rng.choice(3, p=(0.2, 0.3, 0.5)))]
        infectious = bool(rng.random() < {"mild": 0.3, "moderate": 0.6, "severe": 0.95}[chosen])
    elif name == "nodule":
        side = side or ("right", "left")[int(rng.integers(2))]
        zone = _ZONES[int(rng.choice(3, p=(0.4, 0.35, 0.25)))]
    elif name == "edema":
        side = "bilateral"
    elif name == "central line":
        side = "right" if rng.random() < 0.75 else "left"
    elif name == "pacemaker":
        side = "left" if rng.random() < 0.88 else "right"
    return Finding(name, side, zone, chosen, place, infectious)


def _first(rng: np.random.Generator) -> tuple[Finding, ...]:
    kind = ("normal", "failure", "infection", "injury", "mixed")[int(rng.choice(5, p=(0.3, 0.17, 0.15, 0.08, 0.3)))]
    chance: dict[FindingName, float] = dict.fromkeys(_BASE, 0.0)
    chance |= {"pacemaker": 0.06, "sternotomy wires": 0.07}
    if kind != "normal":
        chance |= {name: _BASE[name] for name in _BASE}
    if kind == "failure":
        chance |= {"cardiomegaly": 0.85, "edema": 0.7, "pleural effusion": 0.6, "pacemaker": 0.2}
    if kind == "infection":
        chance |= {"consolidation": 0.95, "pleural effusion": 0.3}
    if kind == "injury":
        chance |= {"pneumothorax": 0.9}
    return _settle([_make(rng, name) for name, p in chance.items() if rng.random() < p])


_BASE: dict[FindingName, float] = {
    "pleural effusion": 0.28,
    "pneumothorax": 0.08,
    "consolidation": 0.18,
    "atelectasis": 0.28,
    "edema": 0.06,
    "cardiomegaly": 0.25,
    "nodule": 0.16,
    "endotracheal tube": 0.14,
    "enteric tube": 0.12,
    "central line": 0.2,
    "pacemaker": 0.09,
    "sternotomy wires": 0.1,
}


def _next(rng: np.random.Generator, previous: tuple[Finding, ...]) -> tuple[Finding, ...]:
    out = []
    for f in previous:
        if f.name not in _CHRONIC and rng.random() < 0.3:
            continue
        step = 0 if f.name in _CHRONIC else int(rng.choice((-1, 0, 1), p=(0.25, 0.5, 0.25)))
        level = min(max(_SEVERITIES.index(f.severity) + step, 0), 2)
        out.append(Finding(f.name, f.side, f.zone, _SEVERITIES[level], f.place, f.infectious))
    names_before = {f.name for f in previous}
    out += [_make(rng, name) for name, p in _BASE.items() if name not in names_before and rng.random() < 0.4 * p]
    return _settle(out)


def _settle(findings: list[Finding]) -> tuple[Finding, ...]:
    """Drop findings that a pneumothorax on their side would hide."""
    air = next((f for f in findings if f.name == "pneumothorax"), None)
    if air is None:
        return tuple(findings)
    return tuple(
        f
        for f in findings
        if not (f.name in ("pleural effusion", "consolidation", "atelectasis", "nodule") and air.side in f.sides)
    )


def _shots(
    rng: np.random.Generator, body: Body, findings: tuple[Finding, ...], keys: tuple[int, int, int]
) -> tuple[Shot, ...]:
    names = {f.name for f in findings}
    bedside = "endotracheal tube" in names or rng.random() < (0.3 + 0.15 * len(names & {"edema", "central line"}))
    views: tuple[View, ...]
    if bedside:
        views = ("AP", "AP") if rng.random() < 0.08 else ("AP",)
    else:
        views = (("PA", "LATERAL"), ("PA",), ("PA", "LATERAL", "LATERAL"))[int(rng.choice(3, p=(0.5, 0.44, 0.06)))]
    return tuple(_shot(rng, view, body, (*keys, i)) for i, view in enumerate(views))


def _shot(rng: np.random.Generator, view: View, body: Body, keys: tuple[int, ...]) -> Shot:
    ap, lateral = view == "AP", view == "LATERAL"
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=20).hexdigest()
    inspiration = float(rng.uniform(0.84, 0.97) if ap else rng.uniform(0.93, 1.03))
    if lateral:
        height = float(rng.uniform(36, 41))
        width = height * float(rng.choice((0.76, 0.82, 0.9)))
    else:
        width = 2 * body.half_width + float(rng.uniform(6.5, 13))
        height = float(np.clip(width * float(rng.choice((0.82, 0.94, 1.02, 1.18))), 33, 43))
    marker = "" if rng.random() < 0.1 else ("L" if rng.random() < 0.7 else "R")
    border = tuple(float(b) for b in rng.uniform(0.01, 0.06, 4) * (rng.random(4) < 0.6)) if rng.random() < 0.3 else ()
    return Shot(
        dicom_id="-".join(digest[i : i + 8] for i in range(0, 40, 8)),
        view=view,
        inspiration=inspiration,
        turn=float(rng.normal(0, 0.9 if ap else 0.35)),
        degrees=float(rng.normal(0, 2.5 if ap else 1.0)),
        field=(width, height),
        centre=(
            float(rng.normal(0, 0.8 if not lateral else 0.5)),
            body.lung_height * inspiration * 0.5 + float(rng.normal(1.5, 1.0)),
        ),
        exposure=float(rng.normal(0, 0.5)),
        contrast=float(rng.uniform(0.88, 1.12)),
        blur=float(rng.uniform(0.01, 0.06 if ap else 0.03)),
        quanta=float(rng.uniform(0.4, 1.5)),
        marker=marker,
        border=(border[0], border[1], border[2], border[3]) if border else (0.0, 0.0, 0.0, 0.0),
        key=int(rng.integers(2**31)),
    )
