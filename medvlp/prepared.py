"""The prepared folder: what `medvlp prepare` writes and all training code reads.

    images.npy       uint8 array (N, S, S), one grey image per row; rows of skipped images stay zero
    index.parquet    one row per usable image, columns below, in the order of `row`
    manifest.json    options, versions, counts after every filter, content hashes
    skipped.csv      what,reason: everything that was left out, and why
    triplets.parquet <region, finding, existence> in the reports, as `medvlp parse` writes them; the id is the study's
    text/            embeddings of frozen text encoders, added by training (`medvlp.text_cache`)

Columns of the index:

    row              int64, row of the image in images.npy
    image_id         string, unique (MIMIC-CXR: dicom_id)
    study_id         string, one report
    subject_id       string, one patient
    view             string, e.g. PA, AP, LATERAL, FRONTAL
    split            string, train, validate or test
    path             string, source file relative to the image root
    height, width    int32, original size in pixels
    findings         string, null where the report has no Findings section
    impression       string, null where the report has no Impression section
    label/<NAME>     int8, one column a label: 1 present, 0 absent, -1 uncertain, null not mentioned
    regions          list<struct<name: string, x1, y1, x2, y2: float32>>, anatomical boxes in pixels of the *prepared*
                     image (x to the right, y down, x2 and y2 exclusive); null where no boxes were given
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medvlp.errors import NotFoundError, UserError

FORMAT_VERSION = 2
IMAGES = "images.npy"
INDEX = "index.parquet"
MANIFEST = "manifest.json"
SKIPPED = "skipped.csv"
# A file of this name in the image root of a raw data set says that its patients are invented.
SYNTHETIC = "SYNTHETIC.txt"
TRIPLETS = "triplets.parquet"
TEXT = "text"
LABEL_PREFIX = "label/"

REGION_TYPE = pa.struct(
    [("name", pa.string()), ("x1", pa.float32()), ("y1", pa.float32()), ("x2", pa.float32()), ("y2", pa.float32())]
)


def index_schema(labels: list[str]) -> pa.Schema:
    """Return the schema of index.parquet for a data set with these label names."""
    return pa.schema(
        [
            ("row", pa.int64()),
            ("image_id", pa.string()),
            ("study_id", pa.string()),
            ("subject_id", pa.string()),
            ("view", pa.string()),
            ("split", pa.string()),
            ("path", pa.string()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("findings", pa.string()),
            ("impression", pa.string()),
            *((LABEL_PREFIX + name, pa.int8()) for name in labels),
            ("regions", pa.list_(REGION_TYPE)),
        ]
    )


@dataclass(frozen=True)
class Prepared:
    """A prepared folder, opened for reading.

    Attributes:
        root: The folder.
        images: Memory map of shape (N, S, S), uint8.
        manifest: The content of manifest.json.
    """

    root: Path
    images: npt.NDArray[np.uint8]
    manifest: dict[str, Any]

    @classmethod
    def open(cls, root: Path) -> Prepared:
        """Open a prepared folder.

        Raises:
            NotFoundError: If the folder is not there, or is not (yet) complete.
            UserError: If another version of medvlp wrote it.
        """
        root = Path(root)
        # The manifest is written last: where it is missing, preparation has not ended.
        if not (root / MANIFEST).is_file():
            state = "holds an unfinished preparation" if (root / IMAGES).exists() else "is not a prepared folder"
            raise NotFoundError(
                f"root='{root}' {state}: no {MANIFEST} there. Run 'medvlp prepare ... --out {root}' (again), "
                "or pass another --data.root."
            )
        manifest = json.loads((root / MANIFEST).read_text())
        if manifest["format_version"] != FORMAT_VERSION:
            raise UserError(
                f"root='{root}' has format {manifest['format_version']}, but this medvlp reads {FORMAT_VERSION}: "
                "prepare it anew."
            )
        return cls(root, np.load(root / IMAGES, mmap_mode="r"), manifest)

    def __reduce__(self) -> tuple[Callable[[Path], Prepared], tuple[Path]]:
        """Have a process that is spawned open the folder itself: a pickled memory map holds all its pixels."""
        return Prepared.open, (self.root,)

    @cached_property
    def index(self) -> pa.Table:
        """The table of usable images; a gigabyte and more for MIMIC-CXR with its regions."""
        return pq.read_table(self.root / INDEX)

    @cached_property
    def labels(self) -> list[str]:
        """Names of the labels, in the order of their columns."""
        names = pq.read_schema(self.root / INDEX).names
        return [name[len(LABEL_PREFIX) :] for name in names if name.startswith(LABEL_PREFIX)]

    @property
    def synthetic(self) -> bool:
        """Whether the patients are invented, so that nothing here is private."""
        return bool(self.manifest.get("options", {}).get("synthetic", False))

    def of_splits(self, splits: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Read the part of the index that is in one of the splits, all columns or some."""
        wanted = pc.is_in(pc.field("split"), pa.array(splits, pa.string()))
        return pq.read_table(self.root / INDEX, columns=None if columns is None else list(columns), filters=wanted)

    @property
    def size(self) -> int:
        """Side of the prepared images in pixels."""
        return int(self.images.shape[1])
