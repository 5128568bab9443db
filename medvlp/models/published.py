"""Names of published weights: what each stands for, where its files are, and their hashes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medvlp.errors import NotFoundError, UserError
from medvlp.models import weights
from medvlp.models.dual import DualEncoder, is_published, split_place
from medvlp.models.dual_biovil import find_biovil, folder_of
from medvlp.models.dual_open_clip import find_chexzero, find_open_clip_dual
from medvlp.models.dual_transformers import find_transformers_dual
from medvlp.models.hub import require_file
from medvlp.models.presets import find_source, presets

# Place of a file in the cache of the hub.
CACHED = re.compile(r"models--([^/]+)--([^/]+)/snapshots/([0-9a-f]{7,40})/")


def _open_clip(name: str, preset: dict[str, Any], place: str | None) -> DualEncoder:
    return find_open_clip_dual(place or f"hf-hub:{preset['hub']}")


def _transformers(name: str, preset: dict[str, Any], place: str | None) -> DualEncoder:
    return find_transformers_dual(place or preset["hub"])


def _biovil(name: str, preset: dict[str, Any], place: str | None) -> DualEncoder:
    return find_biovil(name, folder_of(place) if place else preset["hub"], preset["file"], preset["image_size"])


def _chexzero(name: str, preset: dict[str, Any], place: str | None) -> DualEncoder:
    if place is None:
        raise UserError(
            f"weights='{name}': they cannot be downloaded by a program. Get the file from {preset['source']} (licence: "
            f"{preset['licence']}), and pass {name}:FILE."
        )
    return find_chexzero(name, place)


PAIRS: dict[str, Callable[[str, dict[str, Any], str | None], DualEncoder]] = {
    "biomedclip": _open_clip,
    "biovil": _biovil,
    "biovil-t": _biovil,
    "chexzero": _chexzero,
    "medsiglip": _transformers,
}
"""Functions from the presets that are pairs, their entries and the path of their files to the pair."""

NAMES = f"open_clip:..., hf:..., {', '.join(PAIRS)}, or PRESET:PATH with the path of its downloaded files"


def find_dual(name: str) -> DualEncoder:
    """Return the pair of an image encoder and a text encoder that a name stands for.

    Args:
        name: `open_clip:NAME/TAG`, `open_clip:hf-hub:OWNER/NAME`, `open_clip:FOLDER`, `hf:OWNER/NAME`, `hf:FOLDER`, a
            preset, or `PRESET:PATH` with the path of its downloaded files.

    Raises:
        UserError: If the name stands for an image encoder alone, or the files cannot be had or do not fit.
    """
    base, place = split_place(name)
    if base in PAIRS:
        return PAIRS[base](base, presets()[base], place)
    scheme, _, model = name.partition(":")
    if scheme == "open_clip":
        return find_open_clip_dual(model)
    if scheme == "hf":
        return find_transformers_dual(model)
    raise UserError(
        f"weights='{name}' are those of an image encoder alone, and nothing here compares it with texts. Pairs of an "
        f"image encoder and a text encoder are {NAMES}."
    )


def image_options(name: str) -> dict[str, Any]:
    """Return the options of `TimmEncoder` for the image encoder of published weights."""
    base, place = split_place(name)
    if place is None:
        return {"name": name}
    if base in PAIRS:
        return find_dual(name).image_encoder
    return {"name": base, "weights": place if Path(place).is_file() else require_file(place, presets()[base]["file"])}


def published_files(name: str) -> tuple[str, ...]:
    """Return the paths of the files of published weights, on the hub or in its cache if need be.

    Raises:
        UserError: If they cannot be had.
    """
    base, place = split_place(name)
    if base in PAIRS:
        files = find_dual(name).files
    elif place is not None:
        files = (image_options(name)["weights"],)
    else:
        source = find_source(name, weights=True)
        files = source.files if source else ()
    for path in files:
        if not Path(path).is_file():
            raise NotFoundError(f"weights='{name}': there is no file '{path}'.")
    return files


def fingerprint(name: str) -> str | None:
    """Return the SHA-256 of weights: of a checkpoint, an exported folder, a file, or published weights.

    The hash of several files is that of their hashes. The result is None for other names, such as `imagenet`, and for
    those of timm, which downloads its own files.

    Raises:
        UserError: If the files of published weights cannot be had.
    """
    if not names_published(name):
        return weights.fingerprint(name)
    hashes = [weights.fingerprint(path) or "" for path in published_files(name)]
    if not hashes:
        return None
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def names_published(name: str) -> bool:
    """Return whether a name stands for published weights, and not for a file or folder that has this name."""
    return is_published(name) and not Path(name).exists()


def origin(name: str) -> str:
    """Return where published weights were read from: a repository and its revision, or paths, with their files."""
    parts: dict[str, list[str]] = {}
    for path in published_files(name):
        cached = CACHED.search(path)
        place = f"{cached[1]}/{cached[2]} at revision {cached[3]}" if cached else str(Path(path).resolve().parent)
        parts.setdefault(place, []).append(Path(path).name)
    return "; ".join(f"{', '.join(names)} of {place}" for place, names in parts.items())


def short_name(name: str) -> str:
    """Return a short name for published weights, fit for a folder."""
    base, place = split_place(name)
    rest = base if place is not None or base in presets() else name.partition(":")[2].removeprefix("hf-hub:")
    if name.startswith("open_clip:") and not name.startswith("open_clip:hf-hub:") and not Path(rest).exists():
        last = rest.replace("/", "-")
    else:
        last = Path(rest).resolve().name if rest in (".", "..") else Path(rest).name
    return re.sub(r"[^\w.+-]+", "-", last).strip(".") or "published"
