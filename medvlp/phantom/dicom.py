"""Radiographs as DICOM files: 8 bit, inverted (MONOCHROME1), or 12 bit with a display window."""

from __future__ import annotations

from io import BytesIO
from typing import Literal

import numpy as np
import numpy.typing as npt

from medvlp.phantom.world import Shot, Study, stream

Form = Literal["8 bit", "8 bit inverted", "12 bit", "12 bit inverted"]
_FORMS: tuple[Form, ...] = ("8 bit", "8 bit inverted", "12 bit", "12 bit inverted")
# Detector values of the 12-bit forms. Values below and above the window are black and white.
_LOW, _STEP, _MAXIMUM = 600, 8, 4095
_WIDTH = 255 * _STEP + 1
_CENTRE = _LOW + _WIDTH / 2


def form_of(shot: Shot) -> Form:
    """Return the form of the stored pixels; most images are plain 8 bit."""
    return _FORMS[int(stream(shot.key, 53).choice(4, p=(0.7, 0.1, 0.12, 0.08)))]


def uids(number: int) -> tuple[str, str, str]:
    """Return the UIDs of study, series and image from a 128-bit number, as DICOM derives them from UUIDs."""
    return f"2.25.{number ^ 1}", f"2.25.{number ^ 2}", f"2.25.{number}"


def dicom(study: Study, shot: Shot, pixels: npt.NDArray[np.uint8], patient: str, number: int) -> bytes:
    """Return an image as a DICOM file, uncompressed, explicit little endian.

    Args:
        study: Study, for sex and age.
        shot: Acquisition of the image, which also decides the form of the pixels.
        pixels: Displayed pixels, uint8 (rows, columns). Every form displays exactly these. The 12-bit forms do so
            through their window, by the linear function of DICOM (PS3.3 C.11.2.1.2.1), to the nearest grey level.
        patient: Id of the patient in this data set.
        number: 128-bit number of the image.
    """
    # Commands that write no DICOM start faster without it.
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    form, (study_uid, series_uid, image_uid) = form_of(shot), uids(number)
    wide, inverted = form.startswith("12"), form.endswith("inverted")
    stored = _detector(pixels, shot) if wide else pixels
    stored = (_MAXIMUM if wide else 255) - stored if inverted else stored
    spacing = round(10 * max(shot.field) / max(pixels.shape), 4)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = image_uid
    ds.StudyDate = "19010101"
    ds.StudyTime = "000000.00"
    ds.AccessionNumber = ""
    ds.Modality = "CR"
    ds.ConversionType = "WSD"
    ds.Manufacturer = "medvlp phantom"
    ds.ReferringPhysicianName = ""
    ds.SeriesDescription = f"view: {shot.view}"
    ds.PatientName = patient
    ds.PatientID = patient
    ds.PatientBirthDate = ""
    ds.PatientSex = "F" if study.body.female else "M"
    ds.PatientAge = f"{study.body.age:03d}Y"
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = shot.view
    ds.StudyInstanceUID = study_uid
    ds.SeriesInstanceUID = series_uid
    ds.StudyID = ""
    ds.SeriesNumber = "1"
    ds.InstanceNumber = "1"
    ds.PatientOrientation = ""
    ds.PixelSpacing = [spacing, spacing]
    ds.set_pixel_data(
        stored, "MONOCHROME1" if inverted else "MONOCHROME2", 12 if wide else 8, generate_instance_uid=False
    )
    if wide:
        ds.WindowCenter = _MAXIMUM + 1 - _CENTRE if inverted else _CENTRE
        ds.WindowWidth = _WIDTH
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _detector(pixels: npt.NDArray[np.uint8], shot: Shot) -> npt.NDArray[np.uint16]:
    """Return 12-bit values that the window displays as these pixels; values of black and white vary beyond it."""
    fine = stream(shot.key, 59).integers(0, 4, pixels.shape, dtype=np.uint16)
    values = _LOW + _STEP * pixels.astype(np.uint16) + fine
    values[pixels == 0] = (fine * (_LOW // 4))[pixels == 0]
    values[pixels == 255] = (_LOW + 255 * _STEP + 400 * fine)[pixels == 255]
    return values
