"""A folder with what the documentation names: raw and prepared data of the phantom, a checkpoint, images."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from medvlp.__main__ import main
from medvlp.phantom import phantom
from medvlp.prepared import INDEX
from tests.support.strangers import dicom
from tests.support.tiny import make_language_model
from tests.support.trained import make_checkpoint

# Raw data sets by their folders in the documentation, and where the phantom draws a stand-in for them.
RAW = {
    "MIMIC-CXR-JPG": "mimic-cxr-jpg",
    "chest-imagenome": "chest-imagenome",
    "MS-CXR": "ms-cxr/1.1.0",
    "CheXpert-v1.0-small": "CheXpert-v1.0-small",
    "nih": "nih",
    "rsna": "rsna",
    "siim": "siim",
    "covidx": "covidx",
    "object-cxr": "object-cxr",
}
STUDIES, SIZE, PREPARED_SIZE, CROP = 80, 64, 48, 32
SMALL = (f"--size={PREPARED_SIZE}", "--workers=1")


def make_workplace(folder: Path) -> None:
    """Fill a folder with everything that the documentation names: raw and prepared data, a checkpoint, images."""
    (folder / "tests" / "parse").mkdir(parents=True)
    (folder / "tests" / "parse" / "sentences").symlink_to(Path(__file__).parents[1] / "parse" / "sentences")
    raw = folder / "raw"
    phantom(raw, studies=STUDIES, seed=1, size=SIZE, workers=1, layouts="all")
    for name, drawn in RAW.items():
        (folder / name).symlink_to(raw / drawn)
    with zipfile.ZipFile(folder / "mimic-cxr-reports.zip", "w") as archive:
        for path in sorted((raw / "mimic-cxr-reports").rglob("*.txt")):
            archive.write(path, path.relative_to(raw / "mimic-cxr-reports"))
    images, reports = folder / "MIMIC-CXR-JPG" / "2.0.0", folder / "mimic-cxr-reports.zip"
    graphs = f"--scene_graphs={folder / 'chest-imagenome'}"
    data = folder / "data"
    mimic = (f"--images={images}", f"--reports={reports}", graphs, f"--out={data}/mimic_cxr")
    main(["prepare", "mimic_cxr", *mimic, *SMALL])
    main(["prepare", "ms_cxr", f"--root={folder / 'MS-CXR'}", f"--images={images}", f"--out={data}/ms_cxr", *SMALL])
    for name in ("chexpert", "nih", "rsna", "siim", "covidx", "object_cxr"):
        root = {"chexpert": "CheXpert-v1.0-small", "object_cxr": "object-cxr"}.get(name, name)
        main(["prepare", name, f"--root={folder / root}", f"--out={data / name}", *SMALL])
    make_open_i(folder / "open_i", data / "mimic_cxr")
    (folder / "mine").symlink_to(folder / "open_i")
    main(["prepare", "open_i", f"--root={folder / 'open_i'}", f"--out={data / 'open_i'}", *SMALL])
    make_language_model(folder / "bert", vocabulary(data / "mimic_cxr"))
    # The folders of `make benchmark-data` and of `make demo`.
    (data / "phantom").symlink_to(".")
    (folder / "runs" / "demo").mkdir(parents=True)
    (folder / "runs" / "demo" / "prepared").symlink_to("../../data/mimic_cxr")
    checkpoints = folder / "runs" / "medvlp" / "ID" / "checkpoints"
    checkpoints.mkdir(parents=True)
    made = make_checkpoint(folder, ("hierarchical", "report", "region", "tag"), PREPARED_SIZE, CROP)
    shutil.copy(made, folder / "last.ckpt")
    of_demo = folder / "runs" / "demo" / "medvlp" / "ID" / "checkpoints"
    of_demo.mkdir(parents=True)
    shutil.copy(made, of_demo / "last.ckpt")
    made.rename(checkpoints / "last.ckpt")
    (folder / "scans").mkdir()
    jpeg = next(iter(sorted((raw / "mimic-cxr-jpg").rglob("*.jpg"))))
    grey = cv2.imread(str(jpeg), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(folder / "scans" / "a.png"), np.kron(grey, np.ones((4, 4), np.uint8)))
    shutil.copy(folder / "scans" / "a.png", folder / "b.png")
    cv2.imwrite(str(folder / "image.jpg"), np.kron(grey, np.ones((4, 4), np.uint8)))
    scan = next(iter(sorted((raw / "rsna").rglob("*.dcm"))))
    for name in ("chest.dcm", "a.dcm"):
        shutil.copy(scan, folder / name)
    # The files of a hospital's archive, twelve patients with the accession numbers A1 to A12.
    for number in range(1, 13):
        known = {"PatientID": f"P{number}", "StudyInstanceUID": f"1.2.{number}", "AccessionNumber": f"A{number}"}
        dicom(folder / "pacs" / f"IM{number}", number, ViewPosition="PA", BodyPartExamined="CHEST", **known)


def make_open_i(root: Path, prepared: Path) -> None:
    """Write the csv layout of Open-I with the images and reports of a prepared folder."""
    (root / "images").mkdir(parents=True)
    rows = pq.read_table(prepared / INDEX).to_pylist()
    images = np.load(prepared / "images.npy", mmap_mode="r")
    reports, projections = ["uid,MeSH,Problems,findings,impression"], ["uid,filename,projection"]
    for number, row in enumerate(rows, 1):
        cv2.imwrite(str(root / "images" / f"{number}.png"), images[row["row"]])
        problem = "Cardiomegaly" if row["label/Cardiomegaly"] == 1 else "normal"
        texts = [" ".join((row[name] or "").split()).replace('"', "") for name in ("findings", "impression")]
        reports.append(f'{number},{problem},{problem},"{texts[0]}","{texts[1]}"')
        projections.append(f"{number},{number}.png,Frontal")
    (root / "indiana_reports.csv").write_text("\n".join(reports) + "\n")
    (root / "indiana_projections.csv").write_text("\n".join(projections) + "\n")


def vocabulary(prepared: Path) -> list[str]:
    """Return the words of the reports of a prepared folder."""
    columns = pq.read_table(prepared / INDEX, columns=["findings", "impression"])
    texts = " ".join(text or "" for column in columns.itercolumns() for text in column.to_pylist())
    spelt = set(re.findall(r"\w+|[^\w\s]", texts.lower()))
    return sorted({*spelt, "left", "right", "pleural", "effusion", "cardiomegaly", "no", ".", ","})
