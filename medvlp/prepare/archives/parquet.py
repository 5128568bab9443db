"""Images in the rows of parquet files, as the Hugging Face hub holds them: read row by row, never unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from medvlp.errors import UserError
from medvlp.prepare.archives.archive import Archive
from medvlp.prepare.archives.tar import Member
from medvlp.prepare.files import missing

# Rows in memory at once.
ROWS = 16


def find_parquet(root: Path, otherwise: str, how: str) -> list[Path]:
    """Return the parquet files in and below a folder on the command line, by name.

    Args:
        root: The folder.
        otherwise: What could take their place, for the error.
        how: How to get the data, for the error.

    Raises:
        NotFoundError: If there is none.
        UserError: If they lie in several folders: each is one copy of the images.
    """
    parts = sorted(root.rglob("*.parquet"))
    if not parts:
        raise missing(root, f"neither {otherwise} nor parquet files", how)
    if len({path.parent for path in parts}) > 1:
        raise UserError(f"--root='{root}' has parquet files in several folders: leave those of one size there.")
    return parts


@dataclass(frozen=True)
class ParquetArchive(Archive):
    """The images in a column of parquet files. A row without a name or an image is passed over.

    Attributes:
        name: Column with the names of the images.
        image: Column with their files, as bytes or in a struct with a field `bytes`.
        path: Path of an image by which the tables know it, with {} for the name.
    """

    name: str
    image: str
    path: str

    def members(self) -> Iterator[Member]:
        """Yield the images in the order of the rows; see `Archive`.

        Raises:
            UserError: If a file is damaged, or lacks a column.
        """
        for part in self.parts:
            try:
                # Without the option a whole row group would be in memory.
                with pq.ParquetFile(part, pre_buffer=False, buffer_size=1 << 20) as file:
                    if absent := {self.name, self.image} - {*file.schema_arrow.names}:
                        raise UserError(f"'{part}' has no column {' or '.join(sorted(absent))}.")
                    # The leaves of a struct go by the names of their struct: its path is not read.
                    is_struct = pa.types.is_struct(file.schema_arrow.field(self.image).type)
                    leaf = f"{self.image}.bytes" if is_struct else self.image
                    for batch in file.iter_batches(ROWS, columns=[self.name, leaf]):
                        images = batch[self.image].field("bytes") if is_struct else batch[self.image]
                        for name, image in zip(batch[self.name], images, strict=True):
                            if name.is_valid and image.is_valid:
                                content = image.as_py()
                                yield Member(self.path.format(name.as_py()), len(content), BytesIO(content))
            except (pa.ArrowException, OSError) as error:
                raise UserError(
                    f"'{part}' cannot be read ({error}). Download it again; then the same command goes on where this "
                    "one stopped."
                ) from error
