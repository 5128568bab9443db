"""The versions of COVIDx: which lists each has, and what its makers publish.

A list has a line for each image: patient, file, class and source, with blanks between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medvlp.errors import NotFoundError, UserError, suggestion
from medvlp.prepare.tables import read_lines

HOW = (
    "Download 'andyczhao/covidx-cxr2' from Kaggle and give the folder that holds 'train' and 'test'. It has CXR-4 now, "
    "with train.txt, val.txt and test.txt. For an earlier version put its two lists beside the folders: those of CXR-3 "
    "are in https://github.com/lindawangg/COVID-Net/tree/cxr3/labels, train_COVIDx9A.txt and test_COVIDx9A.txt in "
    "https://github.com/lindawangg/COVID-Net/tree/master/labels. 'medvlp phantom --layouts covidx' writes a synthetic "
    "stand-in."
)
# Labels by their word in lists of three classes, in the order of MGCA, and of two.
CLASSES = {"normal": "Normal", "pneumonia": "Pneumonia", "COVID-19": "COVID-19"}
TWO_CLASSES = {"negative": "Not COVID-19", "positive": "COVID-19"}


@dataclass(frozen=True)
class Version:
    """A version of COVIDx.

    Attributes:
        names: File names of its lists by split; the makers have given them several names.
        images: Number of lines of all lists.
        documented: Published number of images in train, validate and test by the first split variant.
    """

    names: Sequence[Mapping[str, str]]
    images: int
    documented: Mapping[str, int] = field(default_factory=dict)


def _pair(name: str) -> Mapping[str, str]:
    return {"train": f"train{name}.txt", "test": f"test{name}.txt"}


VERSIONS: Mapping[str, Version] = {
    "v9a": Version([_pair("_COVIDx9A")], 30_130 + 400),
    "cxr3a": Version([_pair("_COVIDx_CXR-3A"), _pair("_CXR-3A")], 29_634 + 400),
    # Kaggle's lists have had the same names in all versions; CXR-4 has a third one.
    "cxr3b": Version(
        [_pair("_COVIDx_CXR-3B"), _pair("_CXR-3B"), _pair("")],
        29_986 + 400,
        {"train": 23_988, "validate": 5_998, "test": 400},
    ),
    "cxr4": Version(
        [{**_pair(""), "validate": "val.txt"}], 84_818, {"train": 67_863, "validate": 8_473, "test": 8_482}
    ),
}


@dataclass(frozen=True)
class Lists:
    """The lists of a data set.

    Attributes:
        paths: Lists by split.
        images: See `Version`; None for other lists than those of a version.
        documented: See `Version`.
    """

    paths: Mapping[str, Path]
    images: int | None = None
    documented: Mapping[str, int] = field(default_factory=dict)


def find_lists(root: Path, version: str, own: Mapping[str, str]) -> Lists:
    """Return the lists of a folder.

    Args:
        root: The folder.
        version: A version, or empty for the one whose lists are there.
        own: Names of lists by split, in place of a version; empty if they are not given.

    Raises:
        NotFoundError: If a list is missing.
        UserError: If there is no such version, the lists of several are there, or one of `own` is not given.
    """
    if any(own.values()):
        if version or not all(own.values()):
            raise UserError("--train_list and --test_list go together, and not with --version: give both lists.")
        return Lists(_require(root, own))
    if version and version not in VERSIONS:
        there_are = suggestion(version, VERSIONS) or f" There are: {', '.join(VERSIONS)}."
        raise UserError(f"--version='{version}': there is no such version of COVIDx.{there_are}")
    version = version or _version_of(root)
    known = VERSIONS[version]
    return Lists(_require(root, _likeliest(root, known)), known.images, known.documented)


def words_of(path: Path) -> Mapping[str, str]:
    """Return the labels of a list by their words: those of the first class in it that is known.

    Raises:
        UserError: If the list cannot be read.
    """
    for _, text in read_lines(path):
        word = text.split()[-2:][0]
        for words in (CLASSES, TWO_CLASSES):
            if word in words:
                return words
    return CLASSES


def _version_of(root: Path) -> str:
    """Return the version whose lists are all in a folder; of incomplete ones, the one with most of them."""
    found = {name: _present(root, _likeliest(root, version)) for name, version in VERSIONS.items()}
    complete = [name for name, version in VERSIONS.items() if len(found[name]) == len(version.names[0])]
    # The lists of one version may be part of another one's.
    apart = [name for name in complete if not any(found[name] < found[other] for other in complete)]
    if len(apart) > 1:
        lists = "; ".join(f"{name}: {', '.join(sorted(found[name]))}" for name in apart)
        raise UserError(f"--root='{root}' holds the lists of several versions ({lists}). Add --version {apart[0]}.")
    return apart[0] if apart else max(found, key=lambda name: len(found[name]))


def _likeliest(root: Path, version: Version) -> Mapping[str, str]:
    """Return the names of which most are in a folder."""
    return max(version.names, key=lambda names: len(_present(root, names)))


def _present(root: Path, names: Mapping[str, str]) -> set[str]:
    return {name for name in names.values() if (root / name).is_file()}


def _require(root: Path, names: Mapping[str, str]) -> dict[str, Path]:
    for split, name in names.items():
        if not (root / name).is_file():
            raise NotFoundError(f"The {split} list '{name}' is not in --root='{root}'. {HOW}")
    return {split: root / name for split, name in names.items()}
