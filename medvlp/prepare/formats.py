"""What a file is that is no readable image, in words."""

from __future__ import annotations

# Kinds of files by their first bytes, the position of these, and what to do.
KINDS = [
    (0, b"%PDF", "a PDF document. Save its page as PNG"),
    (0, b"{\\rtf", "an RTF document. Save its picture as PNG"),
    (0, b"\xd0\xcf\x11\xe0", "a document of Microsoft Office. Save its picture as PNG"),
    (0, b"PK\x03\x04", "a zip archive or an Office document. Unpack it"),
    (0, b"\x1f\x8b", "a gzip archive. Unpack it"),
    (0, b"BZh", "a bzip2 archive. Unpack it"),
    (0, b"\xfd7zXZ\x00", "an xz archive. Unpack it"),
    (0, b"(\xb5/\xfd", "a zstd archive. Unpack it"),
    (0, b"Rar!", "a rar archive. Unpack it"),
    (0, b"7z\xbc\xaf", "a 7z archive. Unpack it"),
    (257, b"ustar", "a tar archive. Unpack it"),
    (4, b"ftypavif", "an AVIF image. Save it as PNG"),
    (4, b"ftypavis", "an AVIF image. Save it as PNG"),
    (4, b"ftypheic", "a HEIC image. Save it as PNG"),
    (4, b"ftypheix", "a HEIC image. Save it as PNG"),
    (4, b"ftypmif1", "a HEIF image. Save it as PNG"),
    (4, b"ftypmsf1", "a HEIF image. Save it as PNG"),
    (4, b"ftyp", "a video. Save the wanted frame as PNG"),
    (0, b"\xff\x0a", "a JPEG XL image. Save it as PNG"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image. Save it as PNG"),
    (0, b"8BPS", "a Photoshop file. Save it as PNG"),
    (0, b"II\xbc\x01", "a JPEG XR image. Save it as PNG"),
    (0, b"\x93NUMPY", "a NumPy array. Save it as PNG"),
    (0, b"\x89HDF", "an HDF5 file. Save its image as PNG"),
    (344, b"n+1\0", "a NIfTI volume. Save its image as PNG"),
    (0, b"NRRD", "an NRRD volume. Save its image as PNG"),
    (0, b"ObjectType", "a MetaImage volume. Save its image as PNG"),
    (0, b"version https://git-lfs", "a pointer of Git LFS. Fetch the file itself with 'git lfs pull'"),
]
# Name of the first file in the archive that torch.save writes.
CHECKPOINT = b"/data.pkl"
# Beginnings of texts, behind blanks and in lower case.
TEXTS = [
    (b"<!doctype html", "an HTML page, perhaps the answer of a failed download. Download the image again"),
    (b"<html", "an HTML page, perhaps the answer of a failed download. Download the image again"),
    (b"<svg", "an SVG drawing. Save it as PNG"),
    (b"<!doctype svg", "an SVG drawing. Save it as PNG"),
]
# Beginnings of images.
IMAGES = [
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"RIFF", "WebP"),
    (b"\0\0\0\x0cjP", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
]
HEAD = 1 << 12


def describe(head: bytes) -> str:
    """Return why a file is no readable image, and what to do.

    Args:
        head: Its first HEAD bytes.
    """
    if head.startswith(b"PK\x03\x04") and CHECKPOINT in head:
        return "the file is a checkpoint of PyTorch, not an image"
    for position, magic, name in KINDS:
        if head[position : position + len(magic)] == magic:
            return f"the file is {name}"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<?xml"):
        text = text[text.find(b"<svg") :] if b"<svg" in text else text
    for begin, name in TEXTS:
        if text.startswith(begin):
            return f"the file is {name}"
    for begin, name in IMAGES:
        if head.startswith(begin):
            return f"the file is a damaged {name}, or one of a kind that is not read. Save it as PNG of 8 or 16 bits"
    if not any(head):
        return "nothing but zeros. Copy or download the file again"
    return "not a known format"
