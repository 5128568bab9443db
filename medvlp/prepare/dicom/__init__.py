"""The decoding of DICOM files into grey pixels, as a display would show them.

A file on one step. `image` takes them in order: `elements` reads the file, also one that keeps to the format in part
only; `layout` says how its pixels are stored, `codecs` decompresses them, `stored` gives their values, and `display`
makes grey levels of them.
"""

from medvlp.prepare.dicom.image import TAGS, is_dicom, read_dicom

__all__ = ["TAGS", "is_dicom", "read_dicom"]
