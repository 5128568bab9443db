"""From the options of `medvlp prepare table` to all images of a table, of a file of COCO, or of a folder alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from medvlp.errors import NotFoundError, UserError
from medvlp.prepare.own.columns import NONE, Understood, Wanted, no_image_column
from medvlp.prepare.own.dates import day, month_first
from medvlp.prepare.own.drawn import Numbers, read_coco
from medvlp.prepare.own.guess import Guess
from medvlp.prepare.own.headers import Header, has_dicom, read_headers
from medvlp.prepare.own.image_files import ImageFiles
from medvlp.prepare.own.labels import LabelColumns
from medvlp.prepare.own.profile import Profile, read_profile, rows_of
from medvlp.prepare.own.survey import DUPLICATE, Survey, joined_key
from medvlp.prepare.progress import progress

SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".xlsx", ".xlsm")
# Number of rows between two steps of the progress.
STEP = 256
# Folders that are called like patients: p10000032, patient42, 00012345, but not 2020 or 20200131.
NAMED_PATIENT = re.compile(r"(?:p|pat|patient|paciente|paziente|subject|subj|sub|case)[-_ ]?\d+", re.IGNORECASE)
NUMBERED_PATIENT = re.compile(r"(?!(?:19|20)\d{2}(?:\d{4})?$)\d{4,}")
# What a header and a table may have in common, in the order of trust.
KEYS: dict[str, tuple[tuple[str, ...], Callable[[Header], str]]] = {
    "accession number": (("accession",), lambda header: header.accession),
    "study UID": (("study",), lambda header: header.study),
    "patient and date": (("patient", "date"), lambda header: f"{header.patient} {day(header.date, None)}"),
}


@dataclass(frozen=True)
class Sources:
    """What the options name.

    Attributes:
        images: Folder of the images.
        table: The table; None without one.
        coco: File of COCO; None without one.
        masks: Folder of masks; None without one.
        wanted: What the options say of the columns.
        workers: Number of processes.
        store: Where headers are kept for a resume; None for nowhere.
    """

    images: Path
    table: Path | None = None
    coco: Path | None = None
    masks: Path | None = None
    wanted: Wanted = field(default_factory=Wanted)
    workers: int = 1
    store: Path | None = None


@dataclass
class Gathered:
    """The images, and how they were found.

    Attributes:
        sources: What the options name.
        survey: The images.
        profile: The columns of the table; None without one.
        notes: Facts that the user should know.
    """

    sources: Sources
    survey: Survey
    profile: Profile | None
    notes: list[str]


def find_table(path: Path) -> Path:
    """Return the table on the command line, or the only one in a folder.

    Raises:
        NotFoundError: If there is none.
        UserError: If there are several.
    """
    how = f"Give a table with a column of images, such as table.csv, or {', '.join(SUFFIXES[1:])}."
    if path.is_file():
        return path
    if not path.is_dir():
        raise NotFoundError(f"--table='{path}' is not there. {how}")
    names = [p for p in sorted(path.iterdir()) if p.name.removesuffix(".gz").lower().endswith(SUFFIXES)]
    if not names:
        raise NotFoundError(f"--table='{path}' holds no table. {how}")
    if len(names) > 1:
        raise UserError(f"--table='{path}' holds {len(names)} tables: give one, such as '{names[0]}'.")
    return names[0]


def gather(sources: Sources) -> Gathered:
    """Return all images that the options name.

    Raises:
        NotFoundError: If a file or folder is not there.
        UserError: If a table cannot be understood, or no image is left.
    """
    table = find_table(sources.table) if sources.table else None
    if sources.masks and sources.images.resolve().is_relative_to(sources.masks.resolve()):
        raise UserError(
            f"--images='{sources.images}' lies in --masks='{sources.masks}', so that an image would be its own mask: "
            "move the masks to a folder of their own."
        )
    coco = read_coco(sources.coco) if sources.coco else {}
    files = ImageFiles.below(sources.images, sources.masks)
    masks = ImageFiles.below(sources.masks, option="masks") if sources.masks else None
    notes: list[str] = []
    if files.links:
        notes.append(f"links to folders are not followed: {', '.join(files.links[:4])}. Give --images where they lead.")
    profile = read_profile(table, files, notes.append) if table else None
    is_dicom = has_dicom(files.root, [*files])
    headers: dict[str, Header] = {}
    if profile:
        understood, headers = _understand(sources, profile, files, masks, is_dicom)
        if coco and understood.corners:
            understood.unused |= dict.fromkeys(understood.corners.columns, "--coco has the boxes")
            understood.corners = None
    else:
        understood = Understood(labels=LabelColumns(of_boxes=sources.wanted.labels != NONE))
        headers = _headers(sources, files) if is_dicom and not coco else {}
    if sources.wanted.columns.get("patient") == NONE:
        headers = {path: header._replace(patient="") for path, header in headers.items()}
    elif "patient" not in understood.columns:
        headers = _with_folders(headers or {path: Header() for path in files}, notes)
    if sources.wanted.columns.get("view") == NONE:
        headers = {path: header._replace(view=None) for path, header in headers.items()}
    dates = profile.filled(understood.columns["date"]) if profile and "date" in understood.columns else []
    survey = Survey(understood, files, masks, headers, _by_path(coco, files, notes), month_first(dates))
    if table is None or profile is None:
        _add_files(survey, [*coco])
        survey.check(f"--coco='{sources.coco}'" if coco else f"--images='{files.root}'")
    elif "image" in understood.columns and (_finds(profile, understood, files) or not is_dicom):
        _add_rows(survey, profile)
    else:
        _join(survey, profile, table, notes)
    return Gathered(sources, survey, profile, notes)


def _understand(
    sources: Sources, profile: Profile, files: ImageFiles, masks: ImageFiles | None, is_dicom: bool
) -> tuple[Understood, dict[str, Header]]:
    """Return what the columns mean, and the DICOM headers where the columns do not suffice."""
    _compare_paths(profile, files)
    understood = Guess(profile, files, masks, sources.wanted)()
    finds = "image" in understood.columns and _finds(profile, understood, files)
    if not is_dicom or (finds and {"patient", "study", "view"} <= understood.columns.keys()):
        return understood, {}
    headers = _headers(sources, files)
    if not finds and sources.wanted.columns.get("image") != NONE:
        files.by_uid = {header.uid: path for path, header in headers.items() if header.uid}
        understood = Guess(profile, files, masks, sources.wanted)()
    return understood, headers


def _add_rows(survey: Survey, profile: Profile) -> None:
    """Take the rows of a table that names images."""
    with progress("rows", profile.rows) as advance:
        for number, (place, row) in enumerate(rows_of(profile.path, survey.skip, lambda _: None), 1):
            survey.add_row(place, row)
            if number % STEP == 0:
                advance(STEP)
    survey.check(f"the column '{survey.understood.columns['image']}' of --table='{profile.path}'")


def _headers(sources: Sources, files: ImageFiles) -> dict[str, Header]:
    return read_headers(files.root, [*files], sources.workers, sources.store)


def _compare_paths(profile: Profile, files: ImageFiles) -> None:
    """Settle how the paths in the column that may name the images are compared with files."""
    for name in profile.columns:
        paths = {value.replace("\\", "/") for value in profile.filled(name) if "/" in value or "\\" in value}
        if len({path.rpartition("/")[2].casefold() for path in paths}) < len(paths):
            files.by_name = False
            found = [match.path for match in map(files.find, paths) if match.path]
            files.whole = files.whole or len(set(found)) < len(found)


def _finds(profile: Profile, understood: Understood, files: ImageFiles) -> bool:
    return any(files.find(value).path for value in profile.filled(understood.columns["image"]))


def _by_path(
    coco: dict[str, list[tuple[str, Numbers]]], files: ImageFiles, notes: list[str]
) -> dict[str, list[tuple[str, Numbers]]]:
    """Return the boxes of COCO by the path of the image."""
    found = {match.path: boxes for name, boxes in coco.items() if (match := files.find(name)).path}
    if len(found) < len(coco):
        notes.append(f"{len(coco) - len(found):,} of {len(coco):,} images of --coco are not in --images.")
    return found


def _with_folders(headers: dict[str, Header], notes: list[str]) -> dict[str, Header]:
    """Return headers in which the folder is the patient, if the headers name none and all folders are called so."""
    if any(header.patient for header in headers.values()):
        return headers
    patients = {path: _patient(path) for path in headers}
    if not all(patients.values()) or len(set(patients.values())) < 2:
        return headers
    notes.append(f"the folders are called like patients, such as {next(iter(patients.values()))}: each counts as one.")
    return {path: header._replace(patient=patients[path]) for path, header in headers.items()}


def _patient(path: str) -> str:
    """Return the folder of a path that is called like a patient; empty if there is none."""
    folders = path.split("/")[:-1]
    named = [folder for folder in folders if NAMED_PATIENT.fullmatch(folder)]
    numbered = [folder for folder in folders if NUMBERED_PATIENT.fullmatch(folder)]
    # Of p10/p10000032 the second is the patient.
    return named[-1] if named else numbered[0] if numbered else ""


def _add_files(survey: Survey, names: list[str]) -> None:
    """Take images without a row: those of a file of COCO, or all."""
    if names:
        for name in names:
            match = survey.files.find(name)
            if match.path:
                survey.add(name, name, match.path, {}, match.how)
            else:
                survey.missing.append(name)
                survey.skip(name, match.how)
        return
    for path, header in survey.headers.items():
        if header.fault:
            survey.skip(path, header.fault)
        else:
            survey.add(path, path, path, {}, "in the folder")


def _join(survey: Survey, profile: Profile, table: Path, notes: list[str]) -> None:
    """Give each DICOM file the row of its accession number, study or patient and date.

    Raises:
        UserError: If the table and the headers have nothing in common.
    """
    columns = survey.understood.columns
    hits = {name: _hits(survey, profile, name) for name in KEYS}
    name = max(hits, key=lambda key: hits[key])
    if not hits[name]:
        if "image" in columns:
            _add_rows(survey, profile)  # Its names are missing, which the error says.
            return
        raise no_image_column(table, profile, survey.files)
    columns.pop("image", None)
    for place, row in rows_of(table, survey.skip, lambda _: None):
        key = _row_key(row, survey, name)
        if not key:
            survey.skip(place, f"unreadable row: no {name}")
        elif earlier := survey.spool.put_report(key, place, row):
            again = f"unreadable row: another row of its {name} came before"
            survey.skip(place, DUPLICATE if earlier == row else again)
    key_of = KEYS[name][1]
    for path, header in survey.headers.items():
        if header.fault:
            survey.skip(path, header.fault)
            continue
        found = survey.spool.report(joined_key(key_of(header))) if key_of(header).strip() else None
        place, fields = found or (path, {})
        survey.add(place, path, path, fields, "with a row" if found else "without a row")
    for key, place in survey.spool.unused_reports():
        survey.skip(place, f"no image: {name} {key} is in no header")
    notes.append(f"the rows belong to DICOM files by their {name}.")
    survey.check(f"--table='{table}'")


def _hits(survey: Survey, profile: Profile, name: str) -> int:
    """Return the number of first rows whose key is in a header."""
    keys = {joined_key(KEYS[name][1](header)) for header in survey.headers.values()}
    wanted = (_row_key(row, survey, name) for row in profile.sample)
    return sum(bool(key) and key in keys for key in wanted)


def _row_key(row: dict[str, str], survey: Survey, name: str) -> str:
    """Return the key of a row; empty without it, or if its date may be either of two days."""
    columns, meanings = survey.understood.columns, KEYS[name][0]
    fields = [row.get(columns[meaning], "") if meaning in columns else "" for meaning in meanings]
    if "date" in meanings:
        fields[-1] = day(fields[-1], survey.month_first)
    return joined_key(" ".join(fields)) if all(fields) else ""
