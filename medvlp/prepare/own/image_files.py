"""The images below a folder, and the one that a field of a table names."""

from __future__ import annotations

import os
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medvlp.prepare.files import IMAGE_SUFFIXES, missing

HOW = "Give the folder that holds the images, in folders of any depth."
# Suffixes of images, the originals first; a file without suffix, or with digits behind its last dot, may be a DICOM.
SUFFIXES = (*IMAGE_SUFFIXES, ".tif", ".tiff", ".bmp", ".gif", ".pgm", ".ppm", ".jp2", ".j2k", ".webp")
WHOLE = re.compile(r"\d+\.0")
NO_IMAGES = frozenset({"dicomdir", "license", "readme", "makefile", "version"})
SAME, OTHER_SUFFIX, OTHER_CASE, OTHER_FOLDER = "as written", "another suffix", "another case", "another folder"
BY_UID = "by the SOP instance UID in the header"


@dataclass(frozen=True)
class Match:
    """The file that a field names.

    Attributes:
        path: Relative to the image root; empty if there is none.
        how: How its name differs; for a file that is not there, the reason.
    """

    path: str
    how: str


@dataclass
class ImageFiles:
    """The images below a folder.

    Attributes:
        root: The folder.
        paths: The images, relative to it, by the name without suffix in lower case.
        count: Number of images.
        others: Number of other files by suffix.
        links: Folders that are links, and are not followed.
        by_name: Whether a name is found in another folder than its field says. Not where folders tell images apart that
            have one name.
        whole: Whether a field may not begin at a higher folder than its file: several fields would name one file.
        by_uid: The images by the SOP instance UIDs in their headers, if these were read.
    """

    root: Path
    paths: dict[str, list[str]] = field(default_factory=dict)
    count: int = 0
    others: Counter[str] = field(default_factory=Counter)
    links: list[str] = field(default_factory=list)
    by_name: bool = True
    whole: bool = False
    by_uid: dict[str, str] = field(default_factory=dict)

    @classmethod
    def below(cls, root: Path, apart: Path | None = None, option: str = "images") -> ImageFiles:
        """Find the images below a folder, in the order of their names.

        Args:
            root: The folder.
            apart: A folder that may lie below it and is left out, that of the masks.
            option: Name of the command-line option, for the error.

        Raises:
            NotFoundError: If the folder is not there, or has none.
        """
        if not root.is_dir():
            raise missing(root, "", HOW, option)
        files = cls(root)
        left_out = os.path.realpath(apart) if apart else None
        for where, folders, names in os.walk(root):
            if os.path.realpath(where) == left_out:
                folders.clear()
                continue
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            place = os.path.relpath(where, root)
            place = "" if place == "." else f"{place}/"
            files.links += [f"{place}{name}" for name in folders if os.path.islink(os.path.join(where, name))]
            for name in sorted(names):
                if is_image_name(name) and _is_text(place + name):
                    files.paths.setdefault(_folded(stem(name)), []).append(place + name)
                    files.count += 1
                elif not name.startswith("."):
                    files.others[ascii(os.path.splitext(name)[1].lower() or name).strip("'")] += 1
        if not files.count:
            links = f", but links to folders, which are not followed: {', '.join(files.links)}" if files.links else ""
            raise missing(root, f"no images{links}", HOW, option)
        return files

    def __iter__(self) -> Iterator[str]:
        """Yield the paths of all images."""
        for paths in self.paths.values():
            yield from paths

    def find(self, text: str) -> Match:
        """Return the file that a field names: by its path or name, with or without suffix, in any case."""
        parts = [part for part in text.strip().replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if not parts:
            return Match("", "no name")
        if text in self.by_uid:
            return Match(self.by_uid[text], BY_UID)
        name = parts[-1]
        # A name such as 1.2.840.5 has no suffix; one such as 12.png may name the file 12.dcm.
        candidates = self.paths.get(_folded(stem(name)), []) or self.paths.get(_folded(name), [])
        if not candidates and WHOLE.fullmatch(name):
            # A program has taken the names for numbers.
            return self.find(text.strip().removesuffix(".0"))
        if not candidates:
            return Match("", "missing file")
        tails = {path: _tail(parts, path.split("/")) for path in candidates}
        longest = max(tails.values())
        fitting = [path for path in candidates if tails[path] == longest]
        best = _best(name, fitting)
        if best is None:
            return Match("", f"several files have its name, such as {fitting[0]} and {fitting[1]}")
        folders = best.count("/")
        # Either path may begin at a higher folder than the other; else they are of different folders.
        if self.whole and longest < len(parts) - 1:
            return Match("", "missing file")
        if longest < min(folders, len(parts) - 1):
            return Match(best, OTHER_FOLDER) if self.by_name else Match("", "missing file")
        found = best.rpartition("/")[2]
        if _composed(found) == _composed(name):
            return Match(best, SAME)
        if _folded(found) == _folded(name) or _composed(stem(found)) != _composed(stem(name)):
            return Match(best, OTHER_CASE)
        return Match(best, SAME if stem(name) == name else OTHER_SUFFIX)


def is_image_name(name: str) -> bool:
    """Return whether a file is called like an image, or may be a DICOM without suffix."""
    start, suffix = os.path.splitext(name)
    if name.startswith(".") or name.casefold() in NO_IMAGES:
        return False
    return suffix.lower() in SUFFIXES or not suffix.strip("." + string.digits) or not start


def _is_text(path: str) -> bool:
    """Return whether the bytes of a path are UTF-8: others cannot be written into a table."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _composed(name: str) -> str:
    """Return a name with each letter and its accent as one character; some file systems have them as two."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    """Return a name as it is compared with others."""
    return _composed(name).casefold()


def stem(name: str) -> str:
    """Return the name of an image without its suffix; that of a DICOM may end in a dot and digits."""
    start, suffix = os.path.splitext(name)
    return start if suffix.lower() in SUFFIXES else name


def _tail(parts: list[str], path: list[str]) -> int:
    """Return the number of folders, from the last one, that a field and a path have in common."""
    count = 0
    for first, second in zip(reversed(parts[:-1]), reversed(path[:-1]), strict=False):
        if _folded(first) != _folded(second):
            break
        count += 1
    return count


def _best(name: str, paths: list[str]) -> str | None:
    """Return the path with the most similar name; None if files in different folders are equally similar."""
    suffixes = {suffix: rank for rank, suffix in enumerate(SUFFIXES)}

    def distance(path: str) -> tuple[bool, bool, bool]:
        found = path.rpartition("/")[2]
        return found != name, _folded(found) != _folded(name), stem(found) != stem(name)

    least = min(map(distance, paths))
    nearest = [path for path in paths if distance(path) == least]
    if len({os.path.dirname(path) for path in nearest}) > 1:
        return None
    return min(nearest, key=lambda path: (suffixes.get(os.path.splitext(path)[1].lower(), len(suffixes)), path))
