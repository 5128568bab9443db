"""The headers of DICOM files: patient, study, view and date, read up to the pixels, in parallel, and kept for a resume.

Source: DICOM PS3.3, C.7.1.1 (patient), C.7.2.1 (study), C.7.3.1 (series), C.8.11.5 (DX positioning); PS3.4, B.5
(storage classes).
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medvlp.prepare.files import EscapesRootError, inside
from medvlp.prepare.progress import progress
from medvlp.prepare.screening.flags import FLAGS
from medvlp.prepare.screening.header import TAGS, header_flags
from medvlp.prepare.words import read_view
from medvlp.prepare.workers import in_parallel

# Number of files that a process reads at a time, and of files from which several processes are faster than one.
BATCH, MANY = 256, 4096
# Number of files by which a folder is judged.
FEW = 32
IDS = ["SOPInstanceUID", "StudyInstanceUID", "PatientID", "AccessionNumber", "StudyDate", "StudyTime", "Rows"]
# Flags of files that are not read without a table that names them, and the view that other flags stand for.
LEAVING = ("other-modality", "other-body-part", "localiser")
VIEWS = {"lateral": "LATERAL", "oblique": "OBLIQUE", "turned": "DECUBITUS"}


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
        fault: Why it is no chest radiograph; empty if it may be one. The part before its first colon is its kind.
        is_dicom: Whether it is a DICOM file.
        uid: SOP instance UID.
        study: Study instance UID.
        patient: Patient ID.
        accession: Accession number.
        date: Date and time of the study, as they are written.
        view: Such as PA; None if it is not given.
        modality: Such as DX.
    """

    fault: str = ""
    is_dicom: bool = False
    uid: str = ""
    study: str = ""
    patient: str = ""
    accession: str = ""
    date: str = ""
    view: str | None = None
    modality: str = ""


def read_header(path: str) -> Header:
    """Return the header of a file; one of another format has none."""
    from pydicom import dcmread

    from medvlp.prepare.dicom import is_dicom

    try:
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")
            if not is_dicom(file):
                return Header()
            ds = dcmread(file, stop_before_pixels=True, specific_tags=[*TAGS, *IDS], force=True)
            return _of(ds)
    except OSError as error:
        return Header(f"unreadable file: {error.strerror}")
    except Exception:  # noqa: BLE001  (pydicom raises any exception for a broken file)
        return Header("unreadable DICOM header", is_dicom=True)


def _of(ds: Any) -> Header:
    def text(name: str) -> str:
        try:
            value = ds.get(name)
        except Exception:  # noqa: BLE001  (a broken element)
            return ""
        return "" if value is None else str(value).replace("\0", " ").strip()

    flags = list(dict.fromkeys(header_flags(ds)))
    modality = text("Modality").upper()
    fault = next((f"flagged {flag}: {FLAGS[flag]}" for flag in flags if flag in LEAVING), "")
    if not text("Rows"):
        fault = f"no image: a DICOM file of {_class_name(text('SOPClassUID'))}"
    elif "other-modality" in flags:
        fault = f"no radiograph: modality {modality or 'by its storage class'}"
    elif "other-body-part" in flags and text("BodyPartExamined"):
        fault = f"another part of the body: {text('BodyPartExamined')}"
    view = next((VIEWS[flag] for flag in flags if flag in VIEWS), None)
    return Header(
        fault=fault,
        is_dicom=True,
        uid=text("SOPInstanceUID"),
        study=text("StudyInstanceUID"),
        patient=text("PatientID"),
        accession=text("AccessionNumber"),
        date=f"{text('StudyDate')} {text('StudyTime')}".strip(),
        view=view or read_view(text("ViewPosition")),
        modality=modality,
    )


def _class_name(uid: str) -> str:
    from pydicom.uid import UID

    name = UID(uid).name if uid else ""
    return name if name and name != uid else "another kind"


class _Read:
    """Reads the headers of some files; it is pickled into the processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.real_roots = [os.path.realpath(root)]

    def __call__(self, paths: Sequence[str]) -> list[tuple[str, Header]]:
        return [(path, self.header(path)) for path in paths]

    def header(self, path: str) -> Header:
        try:
            return read_header(inside(self.root, path, self.real_roots))
        except EscapesRootError as error:
            return Header(str(error))


def read_headers(root: Path, paths: Sequence[str], workers: int, store: Path | None = None) -> dict[str, Header]:
    """Return the headers of files.

    Args:
        root: Folder of the files.
        paths: The files, relative to it.
        workers: Number of processes.
        store: File of JSON lines in which the headers are kept as they are read, and from which an interrupted run goes
            on. A file that was changed since is read again. None keeps nothing.
    """
    known = _stored(root, paths, store) if store else {}
    todo = [path for path in paths if path not in known]
    if known:
        print(f"Going on with the headers of {len(known):,} of {len(paths):,} files.")
    started = time.monotonic()
    batches = (todo[first : first + BATCH] for first in range(0, len(todo), BATCH))
    processes = min(workers, -(-len(todo) // BATCH)) if len(todo) >= MANY else 1
    with progress("DICOM headers", len(paths), len(known)) as advance:
        for read in in_parallel(_Read(root), batches, processes):
            known.update(read)
            if store:
                _append(root, read, store)
            advance(len(read))
    if len(todo) >= MANY:
        seconds = time.monotonic() - started
        print(f"{len(todo):,} DICOM headers in {seconds:.0f} s, {len(todo) / max(seconds, 1e-9):,.0f} a second.")
    return {path: known[path] for path in paths}


def _append(root: Path, read: Sequence[tuple[str, Header]], store: Path) -> None:
    store.parent.mkdir(parents=True, exist_ok=True)
    with store.open("a", encoding="utf-8") as file:
        # The last line may be torn.
        file.write("\n")
        file.writelines(f"{json.dumps([path, _stamp(root, path), *header])}\n" for path, header in read)


def _stored(root: Path, paths: Sequence[str], store: Path) -> dict[str, Header]:
    """Return the headers in a store; a torn last line is ignored."""
    wanted = set(paths)
    found: dict[str, Header] = {}
    for path, stamp, *fields in _lines(store):
        if path in wanted and stamp == _stamp(root, path):
            found[path] = Header(*fields)
    return found


def _lines(store: Path) -> Iterator[list[Any]]:
    if not store.is_file():
        return
    with store.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                fields = json.loads(line)
            except ValueError:
                continue
            if isinstance(fields, list) and len(fields) == len(Header._fields) + 2:
                yield fields


def _stamp(root: Path, path: str) -> list[int]:
    try:
        state = os.stat(os.path.join(root, path))
    except OSError:
        return [0, 0]
    return [state.st_size, state.st_mtime_ns]


def has_dicom(root: Path, paths: Sequence[str]) -> bool:
    """Return whether there are DICOM files among some images, by the content of a few."""
    header = _Read(root).header
    return any(header(path).is_dicom for path in paths[:: max(1, len(paths) // FEW)])


def modalities(headers: Mapping[str, Header]) -> dict[str, int]:
    """Return the number of files of each modality, the commonest first."""
    counts: dict[str, int] = {}
    for header in headers.values():
        if header.is_dicom:
            counts[header.modality or "none"] = counts.get(header.modality or "none", 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
