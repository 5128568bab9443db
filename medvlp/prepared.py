"""The prepared folder: what `medvlp prepare` writes and all training code reads.

    images.npy       uint8 array (N, S, S), one grey image per row; rows of skipped images stay zero
    masks.npy        uint8 array (N, S, S), only where annotators drew masks: the share of each pixel of images.npy that
                     is in the mask, 255 being all of it
    images/, masks/  the same compressed, in place of the arrays, if the manifest has an entry `store`: the `shape`, and
                     the number of `rows` in a file; see `medvlp.storage.shards`
    index.parquet    one row per usable image, columns below, in the order of `row`
    manifest.json    options, versions, counts after every filter, splits with their sizes and hashes, content hashes
    skipped.csv      what,reason: everything that was left out, and why
    triplets.parquet <region, finding, existence> in the reports, as `medvlp parse` writes them; the id is the study's.
                     Only where there are reports
    text/            embeddings of frozen text encoders, added by training (`medvlp.models.text_cache`)

Columns of the index:

    row              int64, row of the image in images.npy
    image_id         string, unique (MIMIC-CXR: dicom_id)
    study_id         string, one report; of a data set without reports, one study or, if it has none, the image_id
    subject_id       string, one patient
    order            int64, larger for a later study of the patient, for methods that read prior studies; null where the
                     data set does not say it; not there in older folders
    view             string, e.g. PA, AP, LATERAL, FRONTAL
    split            string, train, validate or test by the default variant; empty or another word: in no split
    split/<VARIANT>  string, the same by each variant of the manifest's `splits`, the default one being the first
    path             string, source file relative to the image root
    height, width    int32, original size in pixels
    findings         string, null where the report has no Findings section
    impression       string, null where the report has no Impression section
    label/<NAME>     int8, one column a label: 1 present, 0 absent, -1 uncertain, null not mentioned
    flags            string, the flags that the screening raised, with blanks between them; empty where it raised none;
                     not there in older folders
    regions          list<struct<name: string, x1, y1, x2, y2: float32>>, anatomical boxes in pixels of the *prepared*
                     image (x to the right, y down, x2 and y2 exclusive); null where no boxes were given
    boxes            as regions, the objects that annotators saw, cut to the image, each with the words of a report that
                     it shows, `phrase`, null where annotators did not box phrases; empty where they saw none, null
                     where nobody looked

The entries images.npy and masks.npy of `sha256` are digests of the pixels: they are the same however these are stored.
Each entry of `splits` in the manifest has its `rule`, the `counts` of train, validate and test, those that are
`documented`, if any, and `sha256`, of the sorted lines `image_id,split` of the images in one of the three.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medvlp.errors import NotFoundError, UserError
from medvlp.storage import pixels
from medvlp.storage.mirror import Mirror, mirror
from medvlp.storage.pixels import Images

Resize = Literal["pad", "squash", "crop"]

FORMAT_VERSION = 4
IMAGES, MASKS = pixels.IMAGES, pixels.MASKS
INDEX = "index.parquet"
MANIFEST = "manifest.json"
SKIPPED = "skipped.csv"
# A file of this name in the image root of a raw data set says that its patients are invented.
SYNTHETIC = "SYNTHETIC.txt"
TRIPLETS = "triplets.parquet"
TEXT = "text"
# Files from which an interrupted preparation resumes.
WORK = "work"
LABEL_PREFIX = "label/"
SPLIT_PREFIX = "split/"

# The labels of CheXpert, which MIMIC-CXR has, too, in the order of their columns.
CHEXPERT_LABELS: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)

REGION_TYPE = pa.struct(
    [("name", pa.string()), ("x1", pa.float32()), ("y1", pa.float32()), ("x2", pa.float32()), ("y2", pa.float32())]
)
BOX_TYPE = pa.struct([*REGION_TYPE, ("phrase", pa.string())])


def index_schema(labels: Sequence[str], variants: Sequence[str] = ()) -> pa.Schema:
    """Return the schema of index.parquet for a data set with these names of labels and split variants."""
    return pa.schema(
        [
            ("row", pa.int64()),
            ("image_id", pa.string()),
            ("study_id", pa.string()),
            ("subject_id", pa.string()),
            ("order", pa.int64()),
            ("view", pa.string()),
            ("split", pa.string()),
            *((SPLIT_PREFIX + name, pa.string()) for name in variants),
            ("path", pa.string()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("findings", pa.string()),
            ("impression", pa.string()),
            *((LABEL_PREFIX + name, pa.int8()) for name in labels),
            ("flags", pa.string()),
            ("regions", pa.list_(REGION_TYPE)),
            ("boxes", pa.list_(BOX_TYPE)),
        ]
    )


def local_root(root: Path | str) -> Path:
    """Return the folder; of a URL, such as s3://bucket/folder, that of its copies: see `medvlp.storage.mirror`."""
    return mirror(root, MANIFEST, (INDEX, TRIPLETS))


def is_copy(root: Path) -> bool:
    """Return whether a folder holds the copies of a URL."""
    return Mirror.of(root).url is not None


@dataclass(frozen=True)
class Prepared:
    """A prepared folder, opened for reading.

    Attributes:
        root: The folder.
        images: Images of shape (N, S, S), uint8.
        masks: Masks of the same shape, or None where there are none.
        manifest: The content of manifest.json.
    """

    root: Path
    images: Images
    masks: Images | None
    manifest: dict[str, Any]

    @classmethod
    def open(cls, root: Path) -> Prepared:
        """Open a prepared folder, or a URL.

        Raises:
            NotFoundError: If the folder is not there, or is not (yet) complete.
            UserError: If another version of medvlp wrote it.
        """
        root = local_root(root)
        # The manifest is written last: where it is missing, preparation has not ended.
        if not (root / MANIFEST).is_file():
            begun = (root / IMAGES).exists() or (root / WORK).exists()
            state = "holds an unfinished preparation" if begun else "is not a prepared folder"
            raise NotFoundError(
                f"root='{root}' {state}: no {MANIFEST} there. Run 'medvlp prepare ... --out {root}' (again), "
                "or name another folder."
            )
        manifest = json.loads((root / MANIFEST).read_text())
        if manifest["format_version"] != FORMAT_VERSION:
            raise UserError(
                f"root='{root}' has format {manifest['format_version']}, but this medvlp reads {FORMAT_VERSION}: "
                "prepare it anew."
            )
        return cls(root, *pixels.open_pixels(root, manifest), manifest)

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

    @property
    def split_variants(self) -> dict[str, dict[str, Any]]:
        """What the manifest says of each way to split the data set, the default one first."""
        variants: dict[str, dict[str, Any]] = self.manifest.get("splits", {})
        return variants

    def of_splits(
        self, splits: Sequence[str], columns: Sequence[str] | None = None, variant: str | None = None
    ) -> pa.Table:
        """Read the part of the index that is in one of the splits, all columns or some.

        Args:
            splits: Values of the split.
            columns: Names of columns; None for all.
            variant: One of `split_variants`; None for the default one.

        Raises:
            UserError: If there is no such variant.
        """
        if variant is not None and variant not in self.split_variants:
            known = ", ".join(self.split_variants) or "none"
            raise UserError(f"variant='{variant}': the data in '{self.root}' is not split so; its splits are {known}.")
        column = "split" if variant is None else SPLIT_PREFIX + variant
        wanted = pc.is_in(pc.field(column), pa.array(splits, pa.string()))
        return pq.read_table(self.root / INDEX, columns=None if columns is None else list(columns), filters=wanted)

    @cached_property
    def of_squares(self) -> bool:
        """Whether all original images are squares, so that padding, squashing and cropping are the same."""
        sides = pq.read_table(self.root / INDEX, columns=["height", "width"])
        return bool(pc.all(pc.equal(sides["height"], sides["width"])).as_py())

    @property
    def size(self) -> int:
        """Side of the prepared images in pixels."""
        return int(self.images.shape[1])


@dataclass(frozen=True)
class Geometry:
    """Where an image comes to lie in the square.

    Attributes:
        height: Of the original, in pixels.
        width: Of the original, in pixels.
        size: Side of the square.
        inner: Width and height of the resized image.
        corner: Left and top of the resized image in the square; negative if the square does not show all of it.
    """

    height: int
    width: int
    size: int
    inner: tuple[int, int]
    corner: tuple[int, int]

    @classmethod
    def of(cls, height: int, width: int, size: int, resize: Resize) -> Geometry:
        """Return the geometry of an image.

        Args:
            height: Of the original, in pixels.
            width: Of the original, in pixels.
            size: Side of the square.
            resize: `pad` keeps the aspect ratio and centres the image on black. `squash` fills the square. `crop` keeps
                the aspect ratio, fills the square and cuts off both ends of the longer side, to the pixel as the
                transforms of torchvision do, and so CLIP's.

        Example:
            >>> Geometry.of(height=2000, width=1000, size=256, resize="pad").box(0, 0, 1000, 2000)
            (64.0, 0.0, 192.0, 256.0)
        """
        if resize == "crop":
            shorter = min(height, width)
            inner = (size * width // shorter, size * height // shorter)
            return cls(height, width, size, inner, (-round((inner[0] - size) / 2), -round((inner[1] - size) / 2)))
        scale = size / max(height, width)
        inner = (size, size)
        if resize == "pad":
            inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        return cls(height, width, size, inner, ((size - inner[0]) // 2, (size - inner[1]) // 2))

    @property
    def filled(self) -> tuple[int, int, int, int]:
        """The part of the square that the image fills: left, top, right, bottom."""
        (left, top), (width, height) = self.corner, self.inner
        return max(left, 0), max(top, 0), min(left + width, self.size), min(top + height, self.size)

    @property
    def shown(self) -> tuple[float, float, float, float]:
        """The part of the original that the square shows: x1, y1, x2, y2 in pixels of the original."""
        (left, top), (width, height), (x1, y1, x2, y2) = self.corner, self.inner, self.filled
        # In this order the result is exact where the whole image is shown.
        return (
            (x1 - left) * self.width / width,
            (y1 - top) * self.height / height,
            (x2 - left) * self.width / width,
            (y2 - top) * self.height / height,
        )

    def box(self, x1: float, y1: float, x2: float, y2: float) -> tuple[float, float, float, float]:
        """Return a box given in pixels of the original in pixels of the square, and cut to it."""
        x, y = self.inner[0] / self.width, self.inner[1] / self.height
        left, top = self.corner
        corners = (x1 * x + left, y1 * y + top, x2 * x + left, y2 * y + top)
        x1, y1, x2, y2 = (min(max(value, 0.0), float(self.size)) for value in corners)
        return x1, y1, x2, y2

    def place(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the square, black but for the resized image, `pixels`."""
        square = np.zeros((self.size, self.size), np.uint8)
        (left, top), (x1, y1, x2, y2) = self.corner, self.filled
        square[y1:y2, x1:x2] = pixels[y1 - top : y2 - top, x1 - left : x2 - left]
        return square
