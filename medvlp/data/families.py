"""Data sets that share patients, and names of patients that are the same in all of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from medvlp.prepared import Prepared

# MS-CXR is cut from MIMIC-CXR. CheXpert Plus and CheXlocalize hold images of CheXpert. ChestX-Det10, RSNA and SIIM hold
# images of NIH ChestX-ray14.
FAMILIES = {
    "mimic_cxr": "mimic_cxr",
    "ms_cxr": "mimic_cxr",
    "chexpert": "chexpert",
    "chexpert_plus": "chexpert",
    "chexlocalize": "chexpert",
    "nih": "nih",
    "chestx_det10": "nih",
    "rsna": "nih",
    "siim": "nih",
    "padchest": "padchest",
    "padchest_gr": "padchest",
}
# A folder of that name may be that of any hospital: only the folder itself holds the same patients.
OWN = "table"
# 10000032, p10000032, patient64541, train/patient64541, 00000013.
NUMBER = r"^(?:.*/)?(?:patient|p)?0*(?P<number>\d+)$"


def family_of(prepared: Prepared) -> str:
    """Return a name that is the same for the data sets that may share patients; invented patients share none."""
    dataset = prepared.manifest["options"]["dataset"]
    family = FAMILIES.get(dataset, f"{dataset} of {Path(prepared.root).resolve()}" if dataset == OWN else dataset)
    return f"synthetic {family}" if prepared.synthetic else family


def patients(prepared: Prepared, subject_id: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return names of patients that are the same in all data sets of a family; null where the patient is not known.

    Args:
        prepared: The folder of the images.
        subject_id: The column `subject_id` of its index.
    """
    options = prepared.manifest["options"]
    family = FAMILIES.get(options["dataset"])
    if family is None:
        return subject_id
    number = pc.struct_field(pc.extract_regex(subject_id, NUMBER), "number")
    if family != "nih":
        return pc.coalesce(number, subject_id)
    # Each image of SIIM, and of RSNA prepared without the list of NIH's names, counts as a patient: its name says
    # nothing of the patient. Nor do names other than NIH's in ChestX-Det10.
    if options["dataset"] == "siim" or (options["dataset"] == "rsna" and options.get("patients") != "nih"):
        return pa.chunked_array([pa.nulls(len(subject_id), pa.string())])
    return number
