"""The images of a data set that may lie anywhere below its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medvlp.prepare.files import IMAGE_SUFFIXES, find_images, missing, real_paths


def images_below(root: Path, how: str, archives: Sequence[str], unpack: str) -> tuple[dict[str, str], list[str]]:
    """Return the images by name without suffix, as paths relative to the folder, and the folders they may lie in.

    Args:
        root: The folder. A folder in it may be a link to a larger disk.
        how: How to get the data, for the error.
        archives: Patterns of archives that hold the images, relative to root.
        unpack: How to unpack them, for the error.

    Raises:
        NotFoundError: If there is no image.
    """
    links = sorted(path for path in root.iterdir() if path.is_symlink() and path.is_dir()) if root.is_dir() else []
    folders = [root, *links]
    # A part of an archive, such as .zip.001, looks like a DICOM file without suffix.
    paths = {n: path for n, path in find_images(root, *folders).items() if path.lower().endswith(IMAGE_SUFFIXES)}
    if not paths:
        packed = next((path for pattern in archives for path in sorted(root.glob(pattern))), None)
        if packed is None:
            raise missing(root, "no folder of images", how)
        raise missing(root, f"no folder of images, but {packed.relative_to(root)}", f"{unpack} {how}")
    return paths, real_paths(*folders)
