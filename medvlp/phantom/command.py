"""`medvlp phantom`: writes a phantom into a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from medvlp.errors import UserError

if TYPE_CHECKING:
    from medvlp.phantom.layouts import Rows

_MARK = "phantom.json"
_VERSION = 1
_BATCH = 512
_DEFAULT = "mimic_cxr"


@dataclass(frozen=True)
class _Job:
    out: Path
    seed: int
    size: int
    layouts: tuple[str, ...]
    patient: int
    first: int
    count: int


@dataclass(frozen=True)
class _Done:
    rows: list[dict[str, Rows]]
    images: list[str]
    reports: list[str]


def phantom(
    out: Path,
    studies: int = 1000,
    seed: int = 0,
    size: int = 512,
    workers: int | None = None,
    layouts: str = _DEFAULT,
) -> None:
    """Write synthetic chest X-rays in the raw layouts of real data sets, and the truth about them in another folder.

    The same seed gives the same bytes, and a larger number of studies does not change the first ones. The same command
    completes an interrupted run. Every layout shows the same patients: pre-train on a phantom of another seed.

    Args:
        out: Folder to write to. It gets truth/ and a folder for each layout: mimic-cxr-jpg/ with mimic-cxr-reports/ and
            chest-imagenome/, CheXpert-v1.0-small/, nih/, rsna/, siim/, covidx/, object-cxr/, ms-cxr/, vindr/,
            chestx-det10/, chexlocalize/, chexpert_plus/, taix_ray/, open-i/ with open-i-official/, padchest/,
            padchest-gr/, mimic-cxr/, rexgradient/, candid-ptx/.
        studies: Number of studies; each has one report and one to three images.
        seed: Seed of the patients.
        size: Longest side of the images in pixels. It does not change the anatomy.
        workers: Number of processes; all cores if not given.
        layouts: Names separated by commas: mimic_cxr, chexpert, nih, rsna, siim, covidx, object_cxr, ms_cxr,
            vindr, chestx_det10, chexlocalize, chexpert_plus, taix_ray, open_i, padchest, padchest_gr, mimic_cxr_dicom,
            rexgradient, candid_ptx; or all. ms_cxr includes mimic_cxr, which has its images.

    Raises:
        UserError: If a value is out of range, the folder has other content, or it cannot be written.
    """
    for name, value, least in (("studies", studies, 1), ("seed", seed, 0), ("size", size, 64), ("workers", workers, 1)):
        if value is not None and value < least:
            raise UserError(f"{name}={value} is too small: give {least} or more.")
    if studies > 10_000_000:
        raise UserError(f"studies={studies} is too many: eight-digit ids allow 10000000.")
    chosen = _chosen(layouts)
    options: dict[str, object] = {"version": _VERSION, "studies": studies, "seed": seed, "size": size}
    # A mark without layouts stands for the one of MIMIC-CXR.
    options |= {} if chosen == (_DEFAULT,) else {"layouts": list(chosen)}
    try:
        _claim(out, options)
        _write(out, studies, seed, size, chosen, workers or _cores())
    except OSError as error:
        raise UserError(f"out='{out}' cannot be written: {error}. Free some space or pass another --out.") from error


def _chosen(layouts: str) -> tuple[str, ...]:
    from medvlp.errors import suggestion
    from medvlp.phantom.layouts import NAMES

    names = [name.strip() for name in layouts.split(",")]
    for name in names:
        if name not in (*NAMES, "all"):
            close = suggestion(name, [*NAMES, "all"]) or f" There are: {', '.join(NAMES)}; or all."
            raise UserError(f"layouts='{layouts}': there is no layout '{name}'.{close}")
    names += [_DEFAULT] if "ms_cxr" in names else []
    return NAMES if "all" in names else tuple(name for name in NAMES if name in names)


def _claim(out: Path, options: dict[str, object]) -> None:
    mark = out / _MARK
    if mark.is_file():
        try:
            content = json.loads(mark.read_text())
        except ValueError:
            content = None
        if content != options:
            raise UserError(f"out='{out}' holds another phantom ({content}): delete it, or pass another --out.")
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(f"out='{out}' is not empty and not a phantom: pass a new or empty folder.")
    else:
        out.mkdir(parents=True, exist_ok=True)
        mark.write_text(json.dumps(options) + "\n")


def _write(out: Path, studies: int, seed: int, size: int, chosen: tuple[str, ...], workers: int) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from medvlp.phantom import study
    from medvlp.phantom.files import Stream, write
    from medvlp.phantom.layouts import layout
    from medvlp.phantom.truth import BITS, TRUTH

    jobs = (_Job(out, seed, size, chosen, *patient) for patient in study.patients(seed, studies))
    write(out / TRUTH / "masks.json", (json.dumps({"bits": BITS}) + "\n").encode())
    columns = (TextColumn("phantom"), BarColumn(), MofNCompleteColumn(), TextColumn("studies"), TimeRemainingColumn())
    with ExitStack() as stack:
        tables = {name: layout(name).begin(out) for name in chosen}
        for table in chain.from_iterable(of_layout.values() for of_layout in tables.values()):
            stack.enter_context(table)
        images = stack.enter_context(Stream(out / TRUTH / "images.jsonl"))
        reports = stack.enter_context(Stream(out / TRUTH / "reports.jsonl"))
        bar = stack.enter_context(Progress(*columns))
        task = bar.add_task("phantom", total=studies)
        for done in _run(jobs, workers):
            for of_study in done.rows:
                for name, rows in of_study.items():
                    for key in rows:
                        tables[name][key].rows(rows[key])
            for line in done.images:
                images.line(line)
            for line in done.reports:
                reports.line(line)
            bar.advance(task, len(done.rows))


def _run(jobs: Iterator[_Job], workers: int) -> Iterable[_Done]:
    if workers == 1:
        yield from map(_patient, jobs)
        return
    import multiprocessing

    # Forking a process that has threads (torch, OpenCV) can hang; a spawned one is clean.
    with multiprocessing.get_context("spawn").Pool(workers, _alone) as pool:
        # A pool reads all its jobs at once: batches keep the memory constant.
        while batch := list(islice(jobs, _BATCH)):
            yield from pool.imap(_patient, batch, chunksize=2)


def _alone() -> None:
    import cv2

    cv2.setNumThreads(1)


def _patient(job: _Job) -> _Done:
    from medvlp.phantom import images, reports, study, truth
    from medvlp.phantom.layouts import layout

    done = _Done([], [], [])
    for one in study.sample(job.seed, job.patient, job.first, job.count):
        pictures = [(shot, images.image(one, shot, job.size)) for shot in one.shots]
        text = reports.report(one)
        done.rows.append({name: layout(name).write_study(job.out, one, pictures, text) for name in job.layouts})
        done.reports.append(truth.report_line(one, text))
        for shot, picture in pictures:
            truth.write_masks(job.out, one, shot, picture)
            done.images.append(truth.image_line(one, shot, picture))
    return done


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
