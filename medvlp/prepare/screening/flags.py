"""The flags, in words, and the option that names some of them."""

from __future__ import annotations

from medvlp.errors import UserError

FLAGS = {
    "small": "its shorter side has less than 200 pixels",
    "elongated": "it is more than twice as long as wide",
    "colour": "it is a picture in colour",
    "flat": "it shows next to nothing",
    "two-tone": "it is nearly all black and white, as a page of text",
    "inverted": "air is bright in it and bone is dark",
    "turned": "the patient lies on the side, or the image does",
    "upside-down": "the patient stands on the head, or the image does",
    "mirrored": "left and right are exchanged in it, or the heart lies on the right (dextrocardia)",
    "not-frontal": "it is unlike a frontal chest radiograph, whichever way it is turned",
    "lateral": "it is a lateral view, by its DICOM header or by its looks",
    "oblique": "its DICOM header says that it is an oblique view",
    "other-modality": "its DICOM header says that it is no radiograph",
    "other-body-part": "its DICOM header names another part of the body than the chest",
    "for-processing": "its DICOM header says that it is raw, for processing, not for display",
    "localiser": "its DICOM header says that it is the localiser of another examination",
    "derived": "its DICOM header says that it was computed from other images",
}
"""Descriptions of the flags."""


def parse_flags(text: str) -> list[str]:
    """Return the flags named on the command line, in alphabetical order.

    Args:
        text: Flags, separated by commas.

    Raises:
        UserError: If there is no such flag.

    Example:
        >>> parse_flags("Lateral, inverted")
        ['inverted', 'lateral']
    """
    names = sorted({name.strip().lower() for name in text.split(",")} - {""})
    for name in names:
        if name not in FLAGS:
            raise UserError(f"--leave_out names no flag '{name}': the flags are {', '.join(FLAGS)}.")
    return names
