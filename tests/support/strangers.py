"""Tables and images as strangers have them: other columns, languages, formats and mistakes than any public data set."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FINDINGS = ["The heart is enlarged. There is no pleural effusion.", "The lungs are clear. The heart is normal in size."]
IMPRESSION = ["Cardiomegaly, no acute process.", "No acute cardiopulmonary process."]


def picture(number, side=48):
    """Return grey pixels that differ from image to image."""
    small = np.random.default_rng(number).integers(0, 255, (side // 8, side // 8), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def dicom(path, number=0, image=True, **elements):
    """Write a DICOM file, with pixels or, as a structured report, without."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import BasicTextSRStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation if image else BasicTextSRStorage
    ds.SOPInstanceUID = f"1.2.826.0.1.{number}"
    ds.Modality = "DX" if image else "SR"
    if image:
        ds.set_pixel_data(picture(number), "MONOCHROME2", 8, generate_instance_uid=False)
    for name, value in elements.items():
        setattr(ds, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    path.write_bytes(file.getvalue())


def write_csv(path, rows, separator=",", encoding="utf-8"):
    """Write rows, each a dict, as a csv file."""
    with open(path, "w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=separator, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_xlsx(path, rows):
    """Write rows as the second sheet of a workbook, below an empty one."""
    book = openpyxl.Workbook()
    sheet = book.create_sheet("Export")
    sheet.append([*rows[0]])
    for row in rows:
        sheet.append([*row.values()])
    book.save(path)
    return path


def german(folder: Path, studies=24):
    """A hospital's workbook with accession numbers, whole reports and lists of diagnoses; DICOM files in folders."""
    rows = []
    for i in range(studies):
        patient, accession = f"{i // 2:06d}", f"{70000 + i}"
        for shot, view in enumerate(("PA", "LL")[: 1 + i % 2]):
            dicom(
                folder / "PACS" / patient / f"IM{i:04d}{shot}",
                number=10 * i + shot,
                PatientID=patient,
                AccessionNumber=f"00{accession}",
                StudyInstanceUID=f"1.2.840.{i}",
                ViewPosition=view,
                BodyPartExamined="THORAX",
            )
        report = f"Fragestellung: Pneumonie?\nBefund: {FINDINGS[i % 2]}\nBeurteilung: {IMPRESSION[i % 2]}"
        names = ["Kardiomegalie; Erguss", "ohne Befund", ""][i % 3]
        rows.append({"Auftragsnummer": int(accession), "Bericht": report, "Diagnosen": names, "Alter": 40 + i})
    dicom(folder / "PACS" / "000000" / "SR1", 9001, image=False, PatientID="000000")
    dicom(folder / "PACS" / "000000" / "HAND", 9002, PatientID="000000", BodyPartExamined="HAND")
    rows.append({"Auftragsnummer": 99, "Bericht": "Ohne Bild.", "Diagnosen": "", "Alter": 3})
    return {"table": write_xlsx(folder / "Export.xlsx", rows), "images": folder / "PACS"}


def spanish(folder: Path, rows=24):
    """A tab-separated file in Windows-1252 with mixed headers, splits, views and labels of 0 and 1."""
    (folder / "imagenes").mkdir(parents=True)
    table = []
    for i in range(rows):
        Image.fromarray(picture(i)).save(folder / "imagenes" / f"RX_{i:03d}.png")
        table.append(
            {
                "ImageID": f"rx_{i:03d}.PNG" if i % 2 else f"RX_{i:03d}",
                "Paciente": f"ñ{i // 2}",
                "Proyección": "L" if i == 5 else "PA",
                "Hallazgos": FINDINGS[i % 2],
                "conclusion": IMPRESSION[i % 2],
                "conjunto": ["entrenamiento", "entrenamiento", "validación", "test"][i // 2 % 4],
                "Cardiomegalia": 1 - i % 2,
                "Derrame pleural": ["0.0", "", "-1", "1.0"][i % 4],
                "sexo": i % 2,
                "Fumador": ["sí", "no"][i % 2],
            }
        )
    return {
        "table": write_csv(folder / "informes.tsv", table, "\t", "cp1252"),
        "images": folder / "imagenes",
    }


def boxed(folder: Path, rows=24):
    """JSON lines with objects in objects, and boxes as lists of objects."""
    (folder / "scans").mkdir(parents=True)
    lines = []
    for i in range(rows):
        Image.fromarray(picture(i)).save(folder / "scans" / f"{i}.jpg", quality=95)
        boxes = [{"label": "Nodule", "x": 4, "y": 5, "width": 10, "height": 8}] * (i % 2)
        boxes += [{"label": "Mass", "x": 20, "y": 20, "width": 9, "height": 9}] * (i % 3 == 0)
        text = {"findings": FINDINGS[i % 2], "impression": IMPRESSION[i % 2]}
        lines.append({"file": f"/data/old/scans/{i}.jpg", "subject": {"id": i // 2}, "text": text, "boxes": boxes})
        lines[-1]["view"] = "PA"
    path = folder / "scans.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return {"table": path, "images": folder / "scans"}


def nested(folder: Path, rows=24):
    """A parquet file with structs, lists of labels, dates and bytes; images in folders of patients, with one name."""
    table = []
    for i in random.Random(0).sample(range(rows), rows):
        path = f"patient{i // 4}/study{i // 2 % 2}/view{i % 2}.png"
        (folder / "files" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i)).save(folder / "files" / path)
        table.append(
            {
                "image": {"path": f"collection/{path}", "bytes": b"x"},
                "meta": {"patient_id": f"patient{i // 4}", "study": f"study{i // 2 % 2}", "view": "frontal"},
                "report": f"FINDINGS: {FINDINGS[i // 2 % 2]}\nIMPRESSION: {IMPRESSION[i // 2 % 2]}",
                "labels": [["Cardiomegaly", "Edema"], ["No Finding"]][i // 2 % 2],
            }
        )
    pq.write_table(pa.Table.from_pylist(table), folder / "all.parquet", row_group_size=5)
    return {"table": folder / "all.parquet", "images": folder / "files"}


STRANGERS = {"german": german, "spanish": spanish, "boxed": boxed, "nested": nested}
