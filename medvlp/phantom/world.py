"""The vocabulary of the synthetic world: findings, patients, studies, images; and its random streams."""

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

# The 29 regions of Chest ImaGenome that RGRG uses, in its order.
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
    """One finding of a study, as it is drawn.

    Attributes:
        name: What it is.
        side: Of the patient, None where it has none (heart, midline tubes).
        zone: Of the lung, None where it has none.
        severity: How much of it.
        place: Two numbers in 0..1 that fix the rest of its position and shape.
        infectious: Consolidation that the radiologist takes for pneumonia.
    """

    name: FindingName
    side: Side | None
    zone: Zone | None
    severity: Severity
    place: tuple[float, float] = (0.5, 0.5)
    infectious: bool = False

    @property
    def sides(self) -> tuple[Literal["right", "left"], ...]:
        """The single sides it lies on."""
        return ("right", "left") if self.side == "bilateral" else () if self.side is None else (self.side,)


@dataclass(frozen=True)
class Body:
    """A patient's anatomy; lengths in cm, patient coordinates (x to the patient's left, y down from the lung apex).

    Attributes:
        female: Sex.
        age: Years at the first study.
        half_width: Inner half-width of the thorax.
        lung_height: Apex to costophrenic angle at full inspiration.
        fat: Habitus, 0 thin to 1 obese.
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
    """How one image was taken.

    Attributes:
        dicom_id: Name of the image.
        view: Projection.
        inspiration: Lung height relative to full inspiration.
        turn: Rotation about the long axis: shift in cm of anterior over posterior structures.
        degrees: Tilt in the image plane.
        field: Width and height of the picture in cm.
        centre: Middle of the picture in patient coordinates.
        exposure: Offset of the display window, -1 to 1.
        contrast: Factor on the display contrast.
        blur: Focus and motion blur, cm.
        quanta: Relative number of photons.
        marker: Text of the side marker, empty for none.
        border: Collimation: black frame as a fraction of the field on the left, top, right, bottom.
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
        order: 1 for the patient's first study.
        date: YYYYMMDD, as MIMIC shifts them.
        time: HHMMSS.
        split: Of the patient.
        body: Anatomy.
        findings: What is drawn.
        previous: Findings of the study before, None for the first.
        shots: The images.
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
    """What one sentence says about one finding.

    Attributes:
        finding: Name of the finding as the grammar knows it (a wider list than what is drawn: opacity, pneumonia, ...).
        existence: Stated existence.
        side: Stated side.
        zone: Stated zone.
        severity: Stated severity.
        regions: Chest ImaGenome regions it speaks of.
        change: Stated comparison with the previous study, None where none is stated.
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
        triplets: What it says.
        section: findings, impression or other; set when the report is put together.
        start: First character in the report file.
        end: One past its last character.
    """

    text: str
    triplets: tuple[Triplet, ...] = field(default=())
    section: str = ""
    start: int = 0
    end: int = 0


def stream(*keys: int) -> np.random.Generator:
    """Return the random stream of these keys: independent of every other stream and of the order of drawing."""
    return np.random.default_rng([int(k) & 0xFFFFFFFF for k in keys])


def named(findings: tuple[Finding, ...], name: str) -> Finding | None:
    """Return the finding of that name, None where there is none."""
    return next((f for f in findings if f.name == name), None)
