"""The types of the phantom, findings, patients, studies and images, and its random streams."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

View = Literal["PA", "AP", "LATERAL"]
Side = Literal["right", "left", "bilateral"]
Zone = Literal["upper", "mid", "lower"]
Severity = Literal["mild", "moderate", "severe"]
Existence = Literal["present", "absent", "uncertain"]
Split = Literal["train", "validate", "test"]
FindingName = Literal[
    "pleural effusion",
    "pneumothorax",
    "consolidation",
    "atelectasis",
    "edema",
    "cardiomegaly",
    "nodule",
    "endotracheal tube",
    "enteric tube",
    "central line",
    "pacemaker",
    "sternotomy wires",
]
FINDINGS: tuple[FindingName, ...] = get_args(FindingName)
DEVICES: frozenset[str] = frozenset(FINDINGS[7:])

# The 29 regions of Chest ImaGenome in RGRG, in its order.
REGIONS: tuple[str, ...] = (
    *(
        f"{side} {part}"
        for side in ("right", "left")
        for part in (
            "lung",
            "upper lung zone",
            "mid lung zone",
            "lower lung zone",
            "hilar structures",
            "apical zone",
            "costophrenic angle",
            "hemidiaphragm",
        )
    ),
    "trachea",
    "spine",
    "right clavicle",
    "left clavicle",
    "aortic arch",
    "mediastinum",
    "upper mediastinum",
    "svc",
    "cardiac silhouette",
    "cavoatrial junction",
    "right atrium",
    "carina",
    "abdomen",
)


@dataclass(frozen=True)
class Finding:
    """One drawn finding of a study.

    Attributes:
        name: Name of the finding.
        side: Side of the patient; None for the heart and midline tubes.
        zone: Zone of the lung; None for a finding without a zone.
        severity: Severity.
        place: Two numbers in 0..1 that decide the rest of its position and shape.
        infectious: Whether a radiologist interprets a consolidation as pneumonia.
    """

    name: FindingName
    side: Side | None
    zone: Zone | None
    severity: Severity
    place: tuple[float, float] = (0.5, 0.5)
    infectious: bool = False

    @property
    def sides(self) -> tuple[Literal["right", "left"], ...]:
        """Its single sides."""
        return ("right", "left") if self.side == "bilateral" else () if self.side is None else (self.side,)


@dataclass(frozen=True)
class Body:
    """A patient's anatomy; lengths in cm, patient coordinates (x to the patient's left, y down from the lung apex).

    Attributes:
        female: Sex.
        age: Years at the first study.
        half_width: Inner half-width of the thorax.
        lung_height: Distance from apex to costophrenic angle at full inspiration.
        fat: Habitus, from 0 thin to 1 obese.
        heart_ratio: Cardiothoracic ratio without cardiomegaly, below 0.5.
        dome: Height of the right diaphragm's dome.
        knob: Prominence of the aortic knob, 0 to 1.
        scoliosis: Lateral amplitude of the spine.
        rib_drop: Fall of a rib from the spine to its anterior end.
        key: Seed of the vessels and the other fine anatomy.
    """

    female: bool
    age: int
    half_width: float
    lung_height: float
    fat: float
    heart_ratio: float
    dome: float
    knob: float
    scoliosis: float
    rib_drop: float
    key: int


@dataclass(frozen=True)
class Shot:
    """The acquisition of one image.

    Attributes:
        dicom_id: Name of the image.
        view: Projection.
        inspiration: Lung height relative to full inspiration.
        turn: Rotation about the long axis: shift in cm of anterior over posterior structures.
        degrees: Tilt in the image plane.
        field: Width and height of the image in cm.
        centre: Centre of the image in patient coordinates.
        exposure: Offset of the display window, -1 to 1.
        contrast: Factor on the display contrast.
        blur: Focus and motion blur, cm.
        quanta: Relative number of photons.
        marker: Text of the side marker; empty for none.
        border: Collimation: width of the black border at left, top, right and bottom, as shares of the field.
        key: Seed of the noise.
    """

    dicom_id: str
    view: View
    inspiration: float
    turn: float
    degrees: float
    field: tuple[float, float]
    centre: tuple[float, float]
    exposure: float
    contrast: float
    blur: float
    quanta: float
    marker: str
    border: tuple[float, float, float, float]
    key: int


@dataclass(frozen=True)
class Study:
    """One study of a patient.

    Attributes:
        subject_id: Eight digits.
        study_id: Eight digits.
        order: Number of the study among those of the patient, from 1.
        date: YYYYMMDD, shifted as in MIMIC.
        time: HHMMSS.
        split: Split of the patient.
        body: Anatomy.
        findings: Drawn findings.
        previous: Findings of the previous study; None for the first.
        shots: Acquisitions of the images.
        key: Seed of the report.
    """

    subject_id: int
    study_id: int
    order: int
    date: int
    time: int
    split: Split
    body: Body
    findings: tuple[Finding, ...]
    previous: tuple[Finding, ...] | None
    shots: tuple[Shot, ...]
    key: int


@dataclass(frozen=True)
class Triplet:
    """The statement of one sentence about one finding.

    Attributes:
        finding: Name of the finding in the grammar, which has more than the drawn ones: opacity, pneumonia, ...
        existence: Stated existence.
        side: Stated side.
        zone: Stated zone.
        severity: Stated severity.
        regions: Its Chest ImaGenome regions.
        change: Stated change since the previous study; None if the sentence states none.
    """

    finding: str
    existence: Existence
    side: Side | None = None
    zone: Zone | None = None
    severity: Severity | None = None
    regions: tuple[str, ...] = ()
    change: str | None = None


@dataclass(frozen=True)
class Sentence:
    """A sentence of a report.

    Attributes:
        text: Its words, with single blanks.
        triplets: Its statements.
        section: findings, impression or other, in a complete report.
        start: First character in the report file.
        end: Behind its last character.
    """

    text: str
    triplets: tuple[Triplet, ...] = field(default=())
    section: str = ""
    start: int = 0
    end: int = 0


def stream(*keys: int) -> np.random.Generator:
    """Return the random stream of some keys: independent of all other streams and of the order of drawing."""
    return np.random.default_rng([int(k) & 0xFFFFFFFF for k in keys])


def named(findings: tuple[Finding, ...], name: str) -> Finding | None:
    """Return the finding of a name; None if there is none."""
    return next((f for f in findings if f.name == name), None)
