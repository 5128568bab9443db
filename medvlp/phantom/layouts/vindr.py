"""The raw layout of VinDr-CXR on PhysioNet: three readers of each image of train, one reading of each of test."""

from __future__ import annotations

from pathlib import Path

from medvlp.phantom.dicom import dicom
from medvlp.phantom.drawn import drawn, each_side, frontal
from medvlp.phantom.files import Table, write
from medvlp.phantom.images import Image
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.reports import Report
from medvlp.phantom.world import DEVICES, Finding, Study, stream

ROOT = "vindr"
BOXED = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Clavicle fracture",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Enlarged PA",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Lung cavity",
    "Lung cyst",
    "Mediastinal shift",
    "Nodule/Mass",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
    "Rib fracture",
    "Other lesion",
)
GLOBAL = ("COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases", "No finding")
CORNERS = ("x_min", "y_min", "x_max", "y_max")
_FINDINGS = {
    "atelectasis": "Atelectasis",
    "cardiomegaly": "Cardiomegaly",
    "consolidation": "Consolidation",
    "edema": "Edema",
    "nodule": "Nodule/Mass",
    "pleural effusion": "Pleural effusion",
    "pneumothorax": "Pneumothorax",
}
# Three of them read an image of train.
READERS = tuple(f"R{number}" for number in range(1, 18))
# Share of the findings that a reader misses, and greatest share of its side by which a box of his is shifted.
_MISSED, _SPREAD = 0.15, 0.05


def begin(out: Path) -> dict[str, Table]:
    """Mark the folder and begin the four tables."""
    write_mark(out / ROOT)
    folder = out / ROOT / "annotations"
    # As in the original, the table of test has another name for a column.
    in_test = tuple(name.replace("Other diseases", "Other disease") for name in (*BOXED, *GLOBAL))
    return {
        "labels_train": Table(folder / "image_labels_train.csv", ("image_id", "rad_id", *BOXED, *GLOBAL)),
        "labels_test": Table(folder / "image_labels_test.csv", ("image_id", *in_test)),
        "boxes_train": Table(folder / "annotations_train.csv", ("image_id", "rad_id", "class_name", *CORNERS)),
        "boxes_test": Table(folder / "annotations_test.csv", ("image_id", "class_name", *CORNERS)),
    }


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the frontal images of a study, and return the rows of their readers."""
    part = "test" if study.split == "test" else "train"
    rows: dict[str, list[dict[str, object]]] = {f"labels_{part}": [], f"boxes_{part}": []}
    for shot, image in frontal(pictures):
        name = shot.dicom_id.replace("-", "")[:32]
        write(out / ROOT / part / f"{name}.dicom", dicom(study, shot, image.pixels, name, int(name, 16)))
        findings = [f for f in drawn(study, image) if f.name not in DEVICES]
        draws = stream(shot.key, 71)
        readers = sorted(draws.choice(len(READERS), 3, replace=False).tolist()) if part == "train" else []
        for reader in readers:
            seen = [f for f in findings if draws.random() >= _MISSED]
            shift = _SPREAD * draws.uniform(-1, 1)
            about = {"image_id": name, "rad_id": READERS[reader]}
            rows[f"labels_{part}"].append(about | _labels(seen))
            rows[f"boxes_{part}"] += [about | row for row in _boxes(seen, image, shift)]
        if part == "test":
            labels = {"Other disease" if name == "Other diseases" else name: v for name, v in _labels(findings).items()}
            rows["labels_test"].append({"image_id": name, **labels})
            rows["boxes_test"] += [{"image_id": name, **row} for row in _boxes(findings, image, 0)]
    return rows


def _labels(findings: list[Finding]) -> dict[str, object]:
    """Return the labels of an image with these findings."""
    present = {_FINDINGS[f.name] for f in findings} | {"Pneumonia" for f in findings if f.infectious}
    present = present or {"No finding"}
    return {name: int(name in present) for name in (*BOXED, *GLOBAL)}


def _boxes(findings: list[Finding], image: Image, shift: float) -> list[dict[str, object]]:
    """Return the boxes of findings, shifted by a share of their sides; without findings, a row that says so."""
    height, width = image.pixels.shape
    rows: list[dict[str, object]] = []
    for f in findings:
        for x1, y1, x2, y2 in each_side(f, image):
            x, y = shift * (x2 - x1), shift * (y2 - y1)
            corners = (max(x1 + x, 0), max(y1 + y, 0), min(x2 + x, width), min(y2 + y, height))
            rows.append({"class_name": _FINDINGS[f.name], **dict(zip(CORNERS, corners, strict=True))})
    return rows or [{"class_name": "No finding"}]
