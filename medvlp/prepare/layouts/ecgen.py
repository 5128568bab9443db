"""The reports of Open-I as the National Library of Medicine hands them out: an XML file for each study.

They lie in NLMCXR_reports.tgz, as ecgen-radiology/1.xml. A file has the sections of the report (AbstractText), the
human coding (MeSH, `major`; the headings of `automatic` are a machine's and are not read), and the names of the images
(parentImage), but not their views. The elements are those of public descriptions; not all files were seen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from medvlp.errors import LeftOutError
from medvlp.prepare.archives.tgz import members
from medvlp.prepare.files import ESCAPES, EscapesRootError, Folder, escapes
from medvlp.prepare.study import Skip
from medvlp.prepare.tables import decode

ARCHIVE = "NLMCXR_reports.tgz"
FOLDER = "ecgen-radiology"
# The longest report has a few thousand bytes, most of them about features of its images.
MAX_REPORT = 1 << 20


@dataclass
class Ecgen:
    """A report file.

    Attributes:
        uid: Number of the study.
        sections: Text of each section by its label in lower case, such as findings.
        coding: Headings of the human coding with their qualifiers, such as Opacity/lung/base/left.
        images: Names of the images, without suffix.
        utf8: Whether the file is in UTF-8.
    """

    uid: str = ""
    sections: dict[str, str] = field(default_factory=dict)
    coding: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    utf8: bool = True


def find_reports(root: Path) -> Path | None:
    """Return the folder of the XML files in a folder or one below it, else the archive in it, else None."""
    folders = [root / FOLDER, *sorted(root.glob(f"*/{FOLDER}"))]
    folder = next((path for path in folders if path.is_dir()), None)
    return folder or next((path for path in [root / ARCHIVE] if path.is_file()), None)


def read_reports(path: Path, skip: Skip) -> Iterator[tuple[str, Ecgen]]:
    """Yield the name of each file and its report.

    Args:
        path: Folder or archive of the files.
        skip: Called for each file that cannot be used.

    Raises:
        UserError: If the archive cannot be read to its end.
    """
    for name, data in _read_archive(path, skip) if path.is_file() else _read_folder(path, skip):
        try:
            yield name, parse(data, os.path.splitext(name)[0])
        except LeftOutError as error:
            skip(name, str(error))


def parse(data: bytes, name: str) -> Ecgen:
    """Return the report of an XML file.

    Args:
        data: Its content.
        name: Its name without suffix, for the number of the study if the file has none.

    Raises:
        LeftOutError: If it is too long, no XML, declares entities, or has no number.
    """
    if len(data) > MAX_REPORT:
        raise LeftOutError("unreadable report: more than 1 MiB")
    report, text = Ecgen(), [""]
    inside = label = ""

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal inside, label
        if tag == "uId":
            report.uid = attributes.get("id", "")
        elif tag == "parentImage":
            report.images.append(attributes.get("id", "").strip())
        elif tag in ("AbstractText", "major"):
            inside, label = tag, attributes.get("Label", "").strip().lower()
            text.clear()

    def end(tag: str) -> None:
        nonlocal inside
        if tag != inside:
            return
        inside, plain = "", "".join(text).strip()
        if tag == "major" and plain:
            report.coding.append(plain)
        elif plain:
            report.sections[label] = f"{report.sections.get(label, '')} {plain}".strip()

    def refuse(*_: object) -> None:
        # A few entities of each other can stand for gigabytes of text.
        raise LeftOutError("unreadable report: it declares entities")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text.append
    parser.EntityDeclHandler = refuse
    content, report.utf8 = decode(data)
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError) as error:
        raise LeftOutError(f"unreadable report: no XML ({error})") from None
    number = re.search(r"\d+$", report.uid or name)
    if number is None:
        raise LeftOutError("unreadable report: no number in uId or the name of the file")
    report.uid = str(int(number[0]))
    return report


def _read_folder(folder: Path, skip: Skip) -> Iterator[tuple[str, bytes]]:
    store = Folder(folder)
    for name in sorted(os.listdir(folder)):
        if name.lower().endswith(".xml") and not name.startswith("."):
            try:
                yield name, store.read(name)
            except EscapesRootError:
                skip(name, f"report {ESCAPES}")
            except OSError as error:
                skip(name, f"unreadable report: {error.strerror}")


def _read_archive(path: Path, skip: Skip) -> Iterator[tuple[str, bytes]]:
    with members(path) as files:
        for place, file in files:
            name = place.rpartition("/")[2]
            if name.lower().endswith(".xml") and not name.startswith("."):
                if file is None or escapes(place):
                    skip(f"{path.name}:{place}", "unreadable report: no file" if file is None else ESCAPES)
                else:
                    yield name, file.read(MAX_REPORT + 1)
