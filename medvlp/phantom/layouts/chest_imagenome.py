"""The scene graphs of Chest ImaGenome 1.0.0, for frontal images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medvlp.phantom.files import write
from medvlp.phantom.images import Image
from medvlp.phantom.reports import Report
from medvlp.phantom.world import DEVICES, REGIONS, Shot, Study, Triplet, stream

GRAPHS = "chest-imagenome/1.0.0/silver_dataset/scene_graph"
_FRAME = 224
_MISSING = 0.01
_DISEASES = frozenset({"pneumonia"})


def write_graph(out: Path, study: Study, shot: Shot, image: Image, report: Report) -> None:
    """Write the scene graph of an image; lateral images have none."""
    if shot.view == "LATERAL":
        return
    text = json.dumps(graph(study, shot, image, report), indent=1)
    write(out / GRAPHS / f"{shot.dicom_id}_SceneGraph.json", text.encode())


def graph(study: Study, shot: Shot, image: Image, report: Report) -> dict[str, Any]:
    """Return the scene graph of a frontal image."""
    rng = stream(shot.key, 41)
    # The silver boxes of the real data set lack a few objects.
    kept = [name for name in REGIONS if rng.random() > _MISSING and name in image.regions]
    date, time = str(study.date), f"{study.time:06d}"
    return {
        "image_id": shot.dicom_id,
        "viewpoint": shot.view,
        "patient_id": study.subject_id,
        "study_id": study.study_id,
        "gender": "F" if study.body.female else "M",
        "age_decile": f"{study.body.age // 10 * 10}-{study.body.age // 10 * 10 + 10}",
        "reason_for_exam": "___",
        "StudyOrder": study.order,
        "StudyDateTime": f"{date[:4]}-{date[4:6]}-{date[6:]} {time[:2]}:{time[2:4]}:{time[4:]} UTC",
        "objects": [_object(shot.dicom_id, name, image) for name in kept],
        "attributes": [a for name in kept if (a := _attributes(study, shot.dicom_id, name, report))],
        "relationships": [],
    }


def _object(dicom_id: str, name: str, image: Image) -> dict[str, Any]:
    x1, y1, x2, y2 = image.regions[name]
    rows, columns = image.pixels.shape
    side = max(rows, columns)
    k, dx, dy = _FRAME / side, (side - columns) / 2, (side - rows) / 2
    small = [round((x1 + dx) * k), round((y1 + dy) * k), round((x2 + dx) * k), round((y2 + dy) * k)]
    return {
        "object_id": f"{dicom_id}_{name}",
        "x1": small[0],
        "y1": small[1],
        "x2": small[2],
        "y2": small[3],
        "width": small[2] - small[0],
        "height": small[3] - small[1],
        "bbox_name": name,
        "synsets": [],
        "name": name.capitalize(),
        "original_x1": x1,
        "original_y1": y1,
        "original_x2": x2,
        "original_y2": y2,
        "original_width": x2 - x1,
        "original_height": y2 - y1,
    }


def _attributes(study: Study, dicom_id: str, region: str, report: Report) -> dict[str, Any] | None:
    sentences = [
        (i, s, here) for i, s in enumerate(report.sentences) if (here := [t for t in s.triplets if region in t.regions])
    ]
    if not sentences:
        return None
    abnormal = any(t.existence != "absent" for _, _, here in sentences for t in here)
    return {
        region: abnormal,
        "bbox_name": region,
        "synsets": [],
        "name": region.capitalize(),
        "attributes": [[_phrase(t) for t in here] + [_summary(here)] for _, _, here in sentences],
        "attributes_ids": [[] for _ in sentences],
        "phrases": [s.text for _, s, _ in sentences],
        "phrase_IDs": [f"{study.study_id}|{i}" for i, _, _ in sentences],
        "sections": ["finalreport" if s.section != "other" else "unknown" for _, s, _ in sentences],
        "comparison_cues": [
            [f"comparison|yes|{_COMPARISON[t.change]}" for t in here if t.change in _COMPARISON]
            for _, _, here in sentences
        ],
        "temporal_cues": [["temporal|yes|acute" for t in here if t.change == "new"] for _, _, here in sentences],
        "severity_cues": [[f"severity|yes|{t.severity}" for t in here if t.severity] for _, _, here in sentences],
        "texture_cues": [[] for _ in sentences],
        "object_id": f"{dicom_id}_{region}",
    }


_COMPARISON = {"stable": "no change", "increased": "worsened", "decreased": "improved", "resolved": "improved"}


def _phrase(t: Triplet) -> str:
    category = "tubesandlines" if t.finding in DEVICES else "disease" if t.finding in _DISEASES else "anatomicalfinding"
    return f"{category}|{'no' if t.existence == 'absent' else 'yes'}|{t.finding}"


def _summary(here: list[Triplet]) -> str:
    return f"nlp|yes|{'normal' if all(t.existence == 'absent' for t in here) else 'abnormal'}"
