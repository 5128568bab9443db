"""The image folders of CheXpert and of CheXpert Plus, as they are handed out: JPEG, PNG or DICOM, whole or in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medvlp.prepare.files import IMAGE_SUFFIXES, missing, real_paths

# Folders of the patients of one part, train or valid, originals before copies.
PLACES = {
    "DICOM": ["DICOM/Uncompressed/{}", "DICOM/Compressed/{}", "DICOM/DICOM/{}", "DICOM/{}", "DICOM_{}", "DICOM_{}/{}"],
    "PNG": ["PNG/PNG/{}", "PNG/{}", "PNGs/{}", "PNG_{}", "PNG_{}/{}", "PNG_{}_*", "PNG_{}_*/{}"],
    "JPEG": ["{}", *(f"CheXpert-v1.0{name}" for name in ("/{}", "-small/{}", " batch */{}", " batch *"))],
}


@dataclass(frozen=True)
class PatientFolders:
    """The folders of patients.

    Attributes:
        folder_of: Folder below the image root of each patient, by the first two parts of the names of its images.
        folders: Folders in which patients lie.
        suffix: Suffix of the files in place of that in the names; None for the same.
    """

    folder_of: Mapping[str, str]
    folders: Sequence[Path]
    suffix: str | None = None

    def path_of(self, image_id: str) -> str:
        """Return the path of an image below the image root. The name of a missing one stands for its path."""
        patient = "/".join(image_id.split("/")[:2])
        path = self.folder_of.get(patient, patient) + image_id[len(patient) :]
        return path if self.suffix is None else path.rpartition(".")[0] + self.suffix

    @property
    def real_folders(self) -> list[str]:
        """The folders without links."""
        return real_paths(*self.folders)


def patient_folders(root: Path, places: Mapping[str, Sequence[str]]) -> PatientFolders:
    """Return the folders of patients below a root.

    Args:
        root: The image root.
        places: For each first folder of a name, patterns of the folders below root that hold its patients. The first
            one with a patient wins.
    """
    folder_of: dict[str, str] = {}
    folders = [root]
    for part, patterns in places.items():
        for folder in (path for pattern in patterns for path in sorted(root.glob(pattern)) if path.is_dir()):
            patients = [path.name for path in folder.iterdir() if path.name.startswith("patient")]
            below = folder.relative_to(root).as_posix()
            for patient in patients:
                folder_of.setdefault(f"{part}/{patient}", f"{below}/{patient}")
            folders += [folder] if patients else []
    return PatientFolders(folder_of, folders)


def find_folders(root: Path, parts: Sequence[str], how: str, argument: str) -> PatientFolders:
    """Return the folders of patients of the first form of PLACES that is there.

    Args:
        root: The image root.
        parts: First folders of the names of the images.
        how: How to get the data, for the error.
        argument: Name of the command-line option, for the error.

    Raises:
        NotFoundError: If there are no images.
    """
    for patterns in PLACES.values():
        places = {part: [pattern.format(part, part) for pattern in patterns] for part in parts}
        found = patient_folders(root, places)
        # A root may be the folder of one of the forms itself: its files say which.
        files = (path for folder in found.folders[1:] for path in folder.glob("patient*/*/*"))
        suffix = next((path.suffix for path in files if path.suffix.lower() in IMAGE_SUFFIXES), None)
        if suffix is not None:
            return replace(found, suffix=suffix)
    raise missing(root, "no folder of images", how, argument)
