"""Archives of images as data sets hand them out: tar, compressed, and cut into parts at arbitrary bytes."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile

import cv2
import numpy as np
import pyarrow as pa

from medvlp.phantom import study
from medvlp.phantom.images import image

NAME = "deid_png"


def tar(members, form=tarfile.PAX_FORMAT):
    """Return a tar of (name, content) pairs, with content None for a folder and a text for a link to it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return file.getvalue()


def zstd(data, frames=1):
    """Compress bytes with Zstandard, in one or several frames."""
    size = -(-len(data) // frames)
    pieces = [data[first : first + size] for first in range(0, len(data), size)]
    return b"".join(pa.Codec("zstd").compress(piece, asbytes=True) for piece in pieces)


def cut(data, folder, parts=10, seed=0, name=NAME):
    """Write bytes into parts of arbitrary sizes, in place of those in a folder, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(f"{name}.part*"):
        path.unlink()
    ends = [0, *sorted(random.Random(seed).sample(range(1, len(data)), parts - 1)), len(data)]
    paths = [folder / f"{name}.part{number:02d}" for number in range(parts)]
    for path, start, end in zip(paths, ends, ends[1:], strict=False):
        path.write_bytes(data[start:end])
    return paths


def tree_members(root, seed=0):
    """Return the files below root/deid_png as members, in another order than that of the metadata."""
    paths = sorted(path for path in (root / NAME).rglob("*") if path.is_file())
    random.Random(seed).shuffle(paths)
    return [(f"./{path.relative_to(root)}", path.read_bytes()) for path in paths]


def write_large(root, images, side, parts=10, seed=0):
    """Write an archive in the layout of ReXGradient, and its unpacked tree, image by image.

    Args:
        root: Folder; it gets tree/ and stream/, which share their metadata.
        images: Number of images. They are a few phantoms, each one shifted and dimmed in a way of its own.
        side: Longest side in pixels.
        parts: Number of parts of the archive.
        seed: Seed of the order of the images in the archive.
    """
    drawn = [
        image(one, shot, side).pixels
        for patient in study.patients(seed, 24)
        for one in study.sample(seed, *patient)
        for shot in one.shots
        if shot.view != "LATERAL"
    ]
    rng = np.random.default_rng(seed)
    for kind in ("tree", "stream"):
        (root / kind / "metadata").mkdir(parents=True)
    places = [f"{NAME}/P{n // 3:05d}/A{n:06d}/studies/s/series/s/instances/1.2.3.{n}.png" for n in range(images)]
    splits = {"train": range(images - 20), "valid": range(images - 20, images - 10), "test": range(images - 10, images)}
    for split, numbers in splits.items():
        entries = {
            f"P{n // 3:05d}_A{n:06d}": {
                "PatientID": f"P{n // 3:05d}",
                "Findings": f"The heart is normal. There are {n} clips.",
                "Impression": "None",
                "ImagePath": [f"../{places[n]}"],
                "ImageViewPosition": ["PA"],
            }
            for n in numbers
        }
        for kind in ("tree", "stream"):
            (root / kind / "metadata" / f"{split}_metadata_view_position.json").write_text(json.dumps(entries))
    packed = root / "packed"
    with pa.CompressedOutputStream(str(packed), "zstd") as out, tarfile.open(fileobj=out, mode="w|") as archive:
        for n in rng.permutation(images):
            pixels = np.roll(drawn[n % len(drawn)], int(n) % 7, axis=1)
            pixels = (pixels * (1 - (int(n) // 7 % 50) / 200)).astype(np.uint8)
            png = cv2.imencode(".png", pixels)[1].tobytes()
            path = root / "tree" / places[n]
            path.parent.mkdir(parents=True)
            path.write_bytes(png)
            info = tarfile.TarInfo(places[n])
            info.size = len(png)
            archive.addfile(info, io.BytesIO(png))
            archive.members.clear()
    length = packed.stat().st_size
    ends = [*sorted(random.Random(seed).sample(range(1, length), parts - 1)), length]
    with packed.open("rb") as file:
        for number, end in enumerate(ends):
            (root / "stream" / f"{NAME}.part{number:02d}").write_bytes(file.read(end - file.tell()))
    packed.unlink()


def gzipped(data):
    """Compress bytes with gzip, which has a checksum."""
    return gzip.compress(data, mtime=0)
