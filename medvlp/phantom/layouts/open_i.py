"""The raw layouts of Open-I: the csv tables that Kaggle has, and the XML files of the National Library of Medicine."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import cv2

from medvlp.phantom.files import Table, write
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.reports import Report
from medvlp.phantom.world import Finding, FindingName, Study, stream

ROOT = "open-i"
OFFICIAL = "open-i-official"
REPORTS = ("uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression")
PROJECTIONS = ("uid", "filename", "projection")
# Headings of the human coding. The coders also note what is no label, such as old sternotomy wires.
HEADINGS: dict[FindingName, str] = {
    "pleural effusion": "Pleural Effusion",
    "pneumothorax": "Pneumothorax",
    "consolidation": "Consolidation",
    "atelectasis": "Pulmonary Atelectasis",
    "edema": "Pulmonary Edema",
    "cardiomegaly": "Cardiomegaly",
    "nodule": "Nodule",
    "endotracheal tube": "Tube, Inserted",
    "enteric tube": "Tube, Inserted",
    "central line": "Catheters, Indwelling",
    "pacemaker": "Implanted Medical Device",
    "sternotomy wires": "Surgical Instruments",
}


def begin(out: Path) -> dict[str, Table]:
    """Mark both folders and begin the two tables."""
    write_mark(out / ROOT)
    write_mark(out / OFFICIAL)
    return {
        "reports": Table(out / ROOT / "indiana_reports.csv", REPORTS),
        "projections": Table(out / ROOT / "indiana_projections.csv", PROJECTIONS),
    }


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the images of a study in both layouts and its XML file, and return its rows."""
    uid = study.study_id
    series = f"IM-{study.key % 10_000:04d}"
    names = []
    for number, (shot, image) in enumerate(pictures, 1):
        name = f"{series}-{number}001"
        _, png = cv2.imencode(".png", image.pixels)
        write(out / ROOT / "images" / f"{uid}_{name}.dcm.png", png.tobytes())
        # Some of the official names have the uid twice.
        official = f"CXR{uid}_{f'{uid}_' if uid % 5 == 0 else ''}{name}"
        write(out / OFFICIAL / "NLMCXR_png" / f"{official}.png", png.tobytes())
        names.append((f"{uid}_{name}.dcm.png", official, "Lateral" if shot.view == "LATERAL" else "Frontal"))
    sections = {name: " ".join(s.text for s in report.sentences if s.section == name) for name in REPORTS[-2:]}
    sections = {"comparison": "None." if study.previous is None else "XXXX.", "indication": "Cough, XXXX.", **sections}
    terms = coding(study)
    caption = "Xray Chest PA and Lateral" if len(names) > 1 else "Chest, one view"
    write(out / OFFICIAL / "ecgen-radiology" / f"{uid}.xml", xml(uid, sections, terms, caption, names).encode())
    row: dict[str, object] = {"uid": uid, "MeSH": ";".join(terms), "image": caption, **sections}
    row["Problems"] = ";".join(term.partition("/")[0] for term in terms)
    return {
        "reports": [row],
        "projections": [{"uid": uid, "filename": name, "projection": view} for name, _, view in names],
    }


def coding(study: Study) -> list[str]:
    """Return the headings of the human coding with their qualifiers; some studies were not coded."""
    if stream(study.key, 67).random() < 0.05:
        return ["No Indexing"]
    return [term(f) for f in study.findings] or ["normal"]


def term(f: Finding) -> str:
    """Return the heading of a finding, its zone, side and severity."""
    zone = f"lung/{f.zone} lobe" if f.zone else ""
    return "/".join(part for part in (HEADINGS[f.name], zone, f.side, f.severity) if part)


def xml(uid: int, sections: dict[str, str], terms: list[str], caption: str, names: list[tuple[str, str, str]]) -> str:
    """Return the XML file of a study; it does not say which image is lateral."""
    abstract = "\n".join(
        f'<AbstractText Label="{label.upper()}">{escape(text)}</AbstractText>' for label, text in sections.items()
    )
    coded = "\n".join(f"<major>{escape(term)}</major>" for term in terms)
    images = "\n".join(
        f'<parentImage id="{name}">\n<figureId>F{number}</figureId>\n<caption>{caption}</caption>\n'
        f'<panel type="single">\n<url>/extract/{name}.jpg</url>\n</panel>\n</parentImage>'
        for number, (_, name, _) in enumerate(names, 1)
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<eCitation>\n<meta type="rr"/>\n<uId id="CXR{uid}"/>\n'
        f'<pmcId id="{uid}"/>\n<MedlineCitation>\n<Article>\n<Abstract>\n{abstract}\n</Abstract>\n</Article>\n'
        f"</MedlineCitation>\n<MeSH>\n{coded}\n<automatic>chest</automatic>\n</MeSH>\n{images}\n</eCitation>\n"
    )
