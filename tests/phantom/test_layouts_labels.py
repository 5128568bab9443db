"""CheXpert, NIH and COVIDx as the phantom writes them: headers verbatim, labels as drawn."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from medvlp.phantom import reports, study
from medvlp.phantom.labels import chexpert as labeller
from medvlp.phantom.layouts import nih
from medvlp.phantom.layouts.chexpert import observed
from medvlp.phantom.world import DEVICES, Finding

CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
ENTRY = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


def lines(path: Path) -> list[str]:
    text = path.read_bytes().decode()
    assert text.endswith("\n") or not text
    assert "\r" not in text
    return text.splitlines()


def table(path: Path, header: str) -> list[dict[str, str]]:
    found = lines(path)
    assert found[0] == header
    return list(csv.DictReader(found))


def shown(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def mimic(layouts) -> dict[tuple[str, str], list[Path]]:
    """Images of MIMIC-CXR's layout by patient and study, in any order."""
    out: dict[tuple[str, str], list[Path]] = {}
    for path in (layouts.root / "mimic-cxr-jpg").rglob("*.jpg"):
        out.setdefault((path.parts[-3][1:], path.parts[-2][1:]), []).append(path)
    return out


@pytest.mark.slow
def test_chexpert(layouts) -> None:
    split = {r["subject_id"]: r["split"] for r in layouts.images.values()}
    said = {}
    for patient in study.patients(layouts.seed, layouts.studies):
        for one in study.sample(layouts.seed, *patient):
            labels = labeller(reports.report(one).sentences)
            said[one.subject_id, one.order] = observed(one.findings) if one.split == "test" else labels, one
    paths = set()
    for name in ("train", "valid"):
        for row in table(layouts.root / f"CheXpert-v1.0-small/{name}.csv", CHEXPERT):
            top, folder, patient, order, view = row["Path"].split("/")
            subject = int(patient.removeprefix("patient"))
            assert (top, folder) == ("CheXpert-v1.0-small", name)
            assert (split[subject] == "test") == (name == "valid")
            labels, one = said[subject, int(order.removeprefix("study"))]
            assert {k: row[k] for k in labels} == labels
            shot = one.shots[int(view[4]) - 1]
            assert row["AP/PA"] == shot.view.replace("LATERAL", "")
            assert view == f"view{view[4]}_{row['Frontal/Lateral'].lower()}.jpg"
            assert (row["Frontal/Lateral"] == "Lateral") == (shot.view == "LATERAL")
            assert (row["Sex"], int(row["Age"])) == ("Female" if one.body.female else "Male", one.body.age)
            original = next((layouts.root / "mimic-cxr-jpg").rglob(f"{shot.dicom_id}.jpg"))
            assert (layouts.root / row["Path"]).read_bytes() == original.read_bytes()
            paths.add(row["Path"])
    made = {p.relative_to(layouts.root).as_posix() for p in (layouts.root / "CheXpert-v1.0-small").rglob("*.jpg")}
    assert made == paths
    assert {v for labels, one in said.values() if one.split != "test" for v in labels.values()} > {"-1.0", ""}


def test_radiologists_see_what_is_drawn() -> None:
    ill = observed((Finding("consolidation", "left", "lower", "severe", infectious=True),))
    assert {k for k, v in ill.items() if v == "1.0"} == {"Consolidation", "Pneumonia", "Lung Opacity"}
    assert set(ill.values()) == {"0.0", "1.0"}
    big = observed((Finding("cardiomegaly", None, None, "mild"), Finding("pacemaker", "left", None, "mild")))
    assert {k for k, v in big.items() if v == "1.0"} == {
        "Cardiomegaly",
        "Enlarged Cardiomediastinum",
        "Support Devices",
    }
    well = observed((Finding("central line", "right", None, "mild"),))
    assert {k for k, v in well.items() if v == "1.0"} == {"No Finding", "Support Devices"}


def nih_rows(layouts) -> dict[str, tuple[str, dict[str, str]]]:
    """Name of the truth and row of every image."""
    root = layouts.root / "nih"
    rows = table(root / "Data_Entry_2017_v2020.csv", ENTRY)
    names = [r["Image Index"] for r in rows]
    assert len(set(names)) == len(names) == len(layouts.images)
    # Both tables have the images in the order in which they were drawn.
    return {r["Image Index"]: (dicom_id, r) for dicom_id, r in zip(layouts.images, rows, strict=True)}


def test_nih(layouts) -> None:
    root = layouts.root / "nih"
    rows = nih_rows(layouts)
    assert {p.name for p in (root / "images").iterdir()} == set(rows)
    train, test = lines(root / "train_val_list.txt"), lines(root / "test_list.txt")
    assert sorted([*train, *test]) == sorted(rows)
    for name, (dicom_id, row) in rows.items():
        truth = layouts.images[dicom_id]
        assert name == f"{truth['subject_id']:08d}_{int(row['Follow-up #']):03d}.png"
        assert row["Patient ID"] == str(truth["subject_id"])
        assert row["View Position"] == truth["view"]
        assert (name in test) == (truth["split"] == "test")
        image = shown(root / "images" / name)
        assert image.shape == (layouts.size, layouts.size)
        assert image.dtype == np.uint8
        original = shown(next((layouts.root / "mimic-cxr-jpg").rglob(f"{dicom_id}.jpg")))
        assert np.abs(cv2.resize(original, image.shape).astype(float) - image).mean() < 3
        wide, tall = int(row["OriginalImage[Width"]), int(row["Height]"])
        assert wide / tall == pytest.approx(truth["columns"] / truth["rows"], rel=0.02)
        labels = set(row["Finding Labels"].split("|"))
        assert labels <= {*nih._NAMES.values(), *nih._OUTLINED, "Consolidation", "No Finding"}
        seen = layouts.names(dicom_id)
        assert (labels == {"No Finding"}) == (seen <= DEVICES)
        for finding, text in nih._NAMES.items():
            assert (text in labels) == (finding in seen)
        assert bool(labels & {"Nodule", "Mass"}) == ("nodule" in seen)
        assert bool(labels & {"Consolidation", "Infiltration", "Pneumonia"}) == ("consolidation" in seen)


def test_nih_boxes_are_around_the_masks(layouts) -> None:
    rows = nih_rows(layouts)
    boxes = table(layouts.root / "nih/BBox_List_2017.csv", BOXES)
    found = {}
    for line in csv.reader(lines(layouts.root / "nih/BBox_List_2017.csv")[1:]):
        assert len(line) == 9
        assert line[6:] == ["", "", ""]
        found.setdefault((line[0], line[1]), []).append([float(v) for v in line[2:6]])
    assert len(boxes) >= 5
    source = {"Infiltrate": "consolidation", "Pneumonia": "consolidation", "Effusion": "pleural effusion"}
    source |= {"Mass": "nodule"}
    for (name, text), of_finding in found.items():
        dicom_id, row = rows[name]
        assert text.replace("Infiltrate", "Infiltration") in row["Finding Labels"].split("|")
        mask = layouts.mask(dicom_id, source.get(text, text.lower()))
        # The boxes are in a frame of 1024 x 1024 pixels, whatever the shape of the image.
        scale = np.array([mask.shape[1], mask.shape[0]] * 2) / 1024
        inside = np.zeros_like(mask)
        for box in of_finding:
            x, y, w, h = np.rint(np.array(box) * scale).astype(int)
            part = mask[y : y + h, x : x + w]
            assert part.shape == (h, w)
            assert part[0].any()
            assert part[-1].any()
            assert part[:, 0].any()
            assert part[:, -1].any()
            inside[y : y + h, x : x + w] = True
        assert not (mask & ~inside).any()


def test_covidx(layouts) -> None:
    root = layouts.root / "covidx"
    found = {}
    for name in ("train", "test"):
        rows = [line.split(" ") for line in lines(root / f"{name}_COVIDx9A.txt")]
        assert {r[1] for r in rows} == {p.name for p in (root / name).iterdir()}
        for patient, file, kind, source in rows:
            truth = layouts.images[file.removesuffix(".png")]
            assert (patient, source) == (str(truth["subject_id"]), "phantom")
            assert (truth["split"] == "test") == (name == "test")
            assert shown(root / name / file).shape == (truth["rows"], truth["columns"])
            found[truth["dicom_id"]] = kind
    for dicom_id, truth in layouts.images.items():
        blurred = next((f for f in truth["findings"] if f["name"] == "consolidation" and f["drawn"]), None)
        if layouts.names(dicom_id) <= DEVICES:
            assert found.pop(dicom_id) == "normal"
        elif blurred:
            assert found.pop(dicom_id) == ("COVID-19" if blurred["side"] == "bilateral" else "pneumonia")
    assert not found
