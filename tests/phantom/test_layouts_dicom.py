"""RSNA and SIIM as the phantom writes them: headers verbatim, boxes and runs as drawn, DICOM that shows the image."""

import csv
import io
import json
import uuid
import warnings
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_voi_lut

from medvlp.phantom import study
from medvlp.phantom.dicom import dicom, form_of
from medvlp.phantom.drawn import outlined
from medvlp.phantom.world import DEVICES

ONE = study.sample(0, 0, 0, 1)[0]


def table(path: Path, header: str) -> list[dict[str, str]]:
    text = path.read_bytes().decode()
    assert text.split("\n", 1)[0] == header
    return list(csv.DictReader(io.StringIO(text)))


def seen(file: pydicom.FileDataset) -> np.ndarray:
    """The grey levels of a DICOM image, by the standard's rules."""
    values = apply_voi_lut(file.pixel_array, file).astype(float) * 255 / (2**file.BitsStored - 1)
    return 255 - values if file.PhotometricInterpretation == "MONOCHROME1" else values


def read(path: Path) -> pydicom.FileDataset:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return pydicom.dcmread(path)


def slow_decode(text: str, height: int, width: int) -> np.ndarray:
    """Decode relative runs one pixel at a time, column by column."""
    mask = np.zeros((height, width), bool)
    numbers = [int(n) for n in text.split()]
    at = 0
    for skipped, taken in zip(numbers[::2], numbers[1::2], strict=True):
        at += skipped
        for _ in range(taken):
            mask[at % height, at // height] = True
            at += 1
    return mask


@pytest.mark.parametrize("view", ["PA", "AP"])
def test_every_form_shows_the_same_pixels(view) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(8, 32).repeat(3, axis=0)
    forms = Counter()
    for patient in study.patients(1, 60):
        for one in study.sample(1, *patient):
            for shot in one.shots:
                if shot.view != view:
                    continue
                data = dicom(one, shot, pixels, "p", 12)
                assert data == dicom(one, shot, pixels, "p", 12)
                file = read(io.BytesIO(data))
                assert np.abs(seen(file) - pixels).max() < 0.5
                form = form_of(shot)
                assert form == f"{file.BitsStored} bit{' inverted' * (file.PhotometricInterpretation == 'MONOCHROME1')}"
                assert ("WindowWidth" in file) == (file.BitsStored == 12)
                if file.BitsStored == 12:
                    # Without the window another picture shows.
                    assert np.abs(file.pixel_array / 4095 * 255 - pixels).max() > 20
                forms[form] += 1
    assert len(forms) == 4
    assert forms["8 bit"] > sum(forms.values()) / 2


def test_rsna(layouts) -> None:
    root = layouts.root / "rsna"
    rows = table(root / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target")
    classes = table(root / "stage_2_detailed_class_info.csv", "patientId,class")
    assert [r["patientId"] for r in rows] == [r["patientId"] for r in classes]
    kinds = {r["patientId"]: r["class"] for r in classes}
    boxes: dict[str, list[list[float]]] = {}
    for row in rows:
        values = [row[k] for k in ("x", "y", "width", "height")]
        assert row["Target"] == ("1" if all(values) else "0")
        assert all(values) or not any(values)
        boxes.setdefault(row["patientId"], []).extend([[float(v) for v in values]] if all(values) else [])
    assert {p.stem for p in (root / "stage_2_train_images").iterdir()} == set(boxes)
    assert len(boxes) == len(layouts.images)
    for dicom_id, truth in layouts.images.items():
        patient = str(uuid.UUID(int=layouts.number(dicom_id)))
        file = read(root / f"stage_2_train_images/{patient}.dcm")
        assert (file.Rows, file.Columns) == (truth["rows"], truth["columns"])
        assert (file.PatientID, file.ViewPosition, file.Modality) == (patient, truth["view"], "CR")
        names = layouts.names(dicom_id)
        mask = layouts.mask(dicom_id, "consolidation")
        around = np.zeros_like(mask)
        for x, y, w, h in boxes[patient]:
            part = mask[int(y) : int(y + h), int(x) : int(x + w)]
            assert part.shape == (h, w)
            assert part[0].any()
            assert part[-1].any()
            assert part[:, 0].any()
            assert part[:, -1].any()
            around[int(y) : int(y + h), int(x) : int(x + w)] = True
        # Only specks are left outside.
        assert (mask & ~around).sum() <= 0.1 * mask.sum() or not boxes[patient]
        expected = (
            "Lung Opacity" if boxes[patient] else "Normal" if names <= DEVICES else "No Lung Opacity / Not Normal"
        )
        assert kinds[patient] == expected
        assert bool(boxes[patient]) == ("consolidation" in names)
    assert {len(b) for b in boxes.values()} >= {0, 1, 2}


def test_names_of_the_images_of_rsna_in_nih(layouts) -> None:
    names = json.loads((layouts.root / "rsna/pneumonia-challenge-dataset-mappings_2018.json").read_text())
    with open(layouts.root / "nih/Data_Entry_2017_v2020.csv", newline="") as file:
        of_nih = {row["Image Index"]: row for row in csv.DictReader(file)}
    assert {entry["img_id"] for entry in names} == set(of_nih)
    patients = {str(uuid.UUID(int=layouts.number(name))): truth for name, truth in layouts.images.items()}
    for entry in names:
        truth = patients.pop(entry["subset_img_id"])
        assert of_nih[entry["img_id"]]["Patient ID"] == str(truth["subject_id"])
        assert of_nih[entry["img_id"]]["View Position"] == truth["view"]
        assert entry["SOPInstanceUID"] == f"2.25.{layouts.number(truth['dicom_id'])}"
    assert not patients


def test_specks_are_not_outlined() -> None:
    mask = np.zeros((100, 80), bool)
    mask[10:30, 50:60] = mask[40:60, 5:40] = mask[90, 70] = True
    assert outlined(mask, ONE.shots[0]) == [(5, 40, 40, 60), (50, 10, 60, 30)]


def test_siim(layouts) -> None:
    root = layouts.root / "siim"
    runs: dict[str, list[str]] = {}
    for row in table(root / "train-rle.csv", "ImageId, EncodedPixels"):
        runs.setdefault(row["ImageId"], []).append(row[" EncodedPixels"])
    files = {p.stem: p for p in root.glob("dicom-images-*/*/*/*.dcm")}
    assert files.keys() == runs.keys()
    assert len(files) == len(layouts.images)
    for dicom_id, truth in layouts.images.items():
        name = f"2.25.{layouts.number(dicom_id)}"
        file = read(files[name])
        assert name == file.SOPInstanceUID == file.file_meta.MediaStorageSOPInstanceUID
        assert files[name].parts[-3:-1] == (file.StudyInstanceUID, file.SeriesInstanceUID)
        assert files[name].parts[-4] == f"dicom-images-{'test' if truth['split'] == 'test' else 'train'}"
        mask = layouts.mask(dicom_id, "pneumothorax")
        assert (runs[name] == ["-1"]) == (not mask.any())
        if mask.any():
            parts = [slow_decode(text, truth["rows"], truth["columns"]) for text in runs[name]]
            assert all(part.any() for part in parts)
            assert np.array_equal(sum(part.astype(int) for part in parts), mask.astype(int))
    assert {len(texts) for texts in runs.values()} == {1, 2}


def test_both_sets_show_the_same_picture(layouts) -> None:
    """And it is the one of MIMIC-CXR's layout, but for JPEG's loss."""
    forms = Counter()
    for dicom_id in layouts.images:
        number = layouts.number(dicom_id)
        file = read(layouts.root / f"rsna/stage_2_train_images/{uuid.UUID(int=number)}.dcm")
        other = read(next((layouts.root / "siim").rglob(f"2.25.{number}.dcm")))
        assert file.PixelData == other.PixelData
        jpg = cv2.imread(str(next((layouts.root / "mimic-cxr-jpg").rglob(f"{dicom_id}.jpg"))), cv2.IMREAD_UNCHANGED)
        assert np.abs(seen(file) - jpg).mean() < 3
        forms[file.PhotometricInterpretation, file.BitsStored] += 1
    assert len(forms) == 4
