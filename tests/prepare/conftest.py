import csv
import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHEXPERT = ["Atelectasis", "Cardiomegaly", "No Finding", "Pleural Effusion"]
REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___-year-old with cough.

 FINDINGS:

 The heart is normal in size.  There is no pleural effusion
 or pneumothorax.

 IMPRESSION:

 No acute cardiopulmonary process.
"""


@pytest.fixture(name="jpeg", scope="session")
def _jpeg():
    return jpeg


def jpeg(height=60, width=40, seed=0, quality=95):
    pixels = np.random.default_rng(seed).integers(0, 255, (height // 4, width // 4)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=quality)
    return file.getvalue()


def dicom(stored, photometric="MONOCHROME2", bits=None, syntax=None, **elements):
    """Return a DICOM file that holds an array as it is."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = "2.25.1"
    ds.PatientName = "Nobody"
    ds.set_pixel_data(stored, photometric, bits or 8 * stored.dtype.itemsize, generate_instance_uid=False)
    for name, value in elements.items():
        setattr(ds, name, value)
    if syntax:
        ds.compress(syntax, generate_instance_uid=False)
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture(name="dicom", scope="session")
def _dicom():
    return dicom


def write_csv(path, header, rows):
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    path.write_bytes(gzip.compress(text.getvalue().encode()) if path.suffix == ".gz" else text.getvalue().encode())


class RawMimic:
    """A tree in the layout of MIMIC-CXR-JPG 2.0.0, MIMIC-CXR reports and Chest ImaGenome."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = root / "jpg"
        self.reports = root / "reports"
        self.graphs = root / "graphs"
        self.metadata, self.split, self.labels = [], [], []
        for folder in (self.images / "files", self.reports / "files", self.graphs / "silver_dataset/scene_graph"):
            folder.mkdir(parents=True)

    def image_path(self, subject, study, image):
        return self.images / f"files/p{str(subject)[:2]}/p{subject}/s{study}/{image}.jpg"

    def report_path(self, subject, study):
        return self.reports / f"files/p{str(subject)[:2]}/p{subject}/s{study}.txt"

    def study(self, subject, study, images, report=REPORT, split="train", labels=("", "", "", ""), data=None):
        """Add a study; `images` maps names to views."""
        for name, view in images.items():
            self.metadata.append([name, subject, study, "CHEST", view, 60, 40])
            self.split.append([name, study, subject, split])
            if ".." not in name:
                path = self.image_path(subject, study, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(jpeg(seed=study) if data is None else data)
        if report is not None:
            path = self.report_path(subject, study)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(report if isinstance(report, bytes) else report.encode())
        self.labels.append([subject, study, *labels])

    def graph(self, image, objects):
        """Add a scene graph; `objects` is a list of (name, x1, y1, x2, y2), or the content of the file."""
        if isinstance(objects, list):
            keys = ("bbox_name", "original_x1", "original_y1", "original_x2", "original_y2")
            objects = json.dumps(
                {"image_id": image, "objects": [dict(zip(keys, item, strict=True)) for item in objects]}
            )
        (self.graphs / f"silver_dataset/scene_graph/{image}_SceneGraph.json").write_text(objects)

    def tables(self, suffix=".csv.gz"):
        header = ["dicom_id", "subject_id", "study_id", "Procedure", "ViewPosition", "Rows", "Columns"]
        write_csv(self.images / f"mimic-cxr-2.0.0-metadata{suffix}", header, self.metadata)
        header = ["dicom_id", "study_id", "subject_id", "split"]
        write_csv(self.images / f"mimic-cxr-2.0.0-split{suffix}", header, self.split)
        header = ["subject_id", "study_id", *CHEXPERT]
        write_csv(self.images / f"mimic-cxr-2.0.0-chexpert{suffix}", header, self.labels)
        return self


@pytest.fixture
def empty_mimic(tmp_path):
    return RawMimic(tmp_path / "raw")


@pytest.fixture
def mimic(empty_mimic):
    """Four studies of three patients, two of them with a lateral image."""
    raw = empty_mimic
    raw.study(10000032, 50000002, {"b": "PA", "c": "LATERAL"}, labels=("1.0", "", "", "-1.0"))
    raw.study(10000032, 50000001, {"a": "AP"}, labels=("", "0.0", "1.0", ""))
    raw.study(11000000, 50000003, {"d": "AP", "e": "LL"}, split="validate")
    raw.study(12000000, 50000004, {"f": "PA"}, split="test")
    return raw.tables()


@pytest.fixture
def many(empty_mimic):
    """200 studies, 7 chunks, that share a few files."""
    raw = empty_mimic
    links = [raw.root / f"{seed}.jpg" for seed in range(8)]
    for seed, link in enumerate(links):
        link.write_bytes(jpeg(240, 200, seed))
    for number in range(200):
        raw.study(10000000 + number // 3, 50000000 + number, {f"image{number}": "PA"})
        path = raw.image_path(10000000 + number // 3, 50000000 + number, f"image{number}")
        path.unlink()
        os.link(links[number % 8], path)
        raw.graph(f"image{number}", [("spine", 1.5, 2, 30 + number % 7, 200)])
    raw.image_path(10000000, 50000001, "image1").unlink()
    raw.image_path(10000000, 50000001, "image1").touch()
    raw.image_path(10000040, 50000120, "image120").unlink()
    return raw.tables()


def zipped(folder, target):
    """Write a folder's files into a zip archive, with the folder's own name before theirs."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder.parent))
    return target


def folder_bytes(folder):
    """Return the content of all files of a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def skipped(out):
    """Return the rows of skipped.csv as (what, reason)."""
    with open(out / "skipped.csv", newline="") as file:
        return [tuple(row) for row in csv.reader(file)][1:]


@pytest.fixture(name="zipped", scope="session")
def _zipped():
    return zipped


@pytest.fixture(name="folder_bytes", scope="session")
def _folder_bytes():
    return folder_bytes


@pytest.fixture(name="skipped", scope="session")
def _skipped():
    return skipped


@pytest.fixture(name="write_csv", scope="session")
def _write_csv():
    return write_csv
