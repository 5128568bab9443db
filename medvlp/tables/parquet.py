"""Tables in parquet, read batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvlp.errors import UserError
from medvlp.tables.columns import positions_of

if TYPE_CHECKING:
    import pyarrow.parquet as pq

# Number of rows in memory at once.
BATCH = 1024


def parquet_names(path: Path) -> list[str]:
    """Return the names of the columns of a parquet file.

    Raises:
        UserError: If it cannot be read.
    """
    with _opened(path) as file:
        return list(file.schema_arrow.names)


def parquet_texts(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the place of each row of a parquet file, for messages, and its fields of some columns, as text.

    Args:
        path: The file.
        columns: Names of the columns, in the order of the result; see `medvlp.tables.columns.find_column`.

    Raises:
        UserError: If a column is missing or there twice, one holds no text, or the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    with _opened(path) as file:
        names = file.schema_arrow.names
        wanted = [names[position] for position in positions_of(path, names, columns)]
        number = 0
        for batch in file.iter_batches(BATCH, columns=list(dict.fromkeys(wanted))):
            try:
                fields = [pc.cast(batch[name], pa.string()).to_pylist() for name in wanted]
            except pa.ArrowNotImplementedError as error:
                raise UserError(f"'{path}': a column of {', '.join(columns)} holds no text: {error}.") from error
            for row in zip(*fields, strict=True):
                number += 1
                yield f"{path.name}:{number}", tuple(value or "" for value in row)


def parquet_rows(path: Path, tell: Callable[[str], None]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the values of each row of a parquet file, without columns of bytes.

    Args:
        path: The file.
        tell: Called with the names of the columns that are left out.

    Raises:
        UserError: If it cannot be read, or a column is there twice.
    """
    with _opened(path) as file:
        leaves = [*_leaves("", file.schema_arrow)]
        if twice := [name for name, number in Counter(name for name, _ in leaves).items() if number > 1]:
            raise UserError(f"'{path}' has the column '{twice[0]}' more than once. Rename all but one.")
        if bytes_in := [name for name, is_text in leaves if not is_text]:
            tell(f"{path.name}: not read, for they hold bytes: {', '.join(bytes_in)}.")
        number = 0
        for batch in file.iter_batches(BATCH, columns=[name for name, is_text in leaves if is_text]):
            for row in batch.to_pylist():
                number += 1
                yield f"{path.name}:{number}", row


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except UserError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"'{path}' is no readable parquet table: {error}.") from error


def _leaves(above: str, fields: Iterable[Any]) -> Iterator[tuple[str, bool]]:
    """Yield the paths of the columns in a parquet file, and whether each holds something else than bytes."""
    from pyarrow import types

    for field in fields:
        kind = field.type
        if types.is_struct(kind):
            yield from _leaves(f"{above}{field.name}.", kind)
        else:
            yield f"{above}{field.name}", not (types.is_binary(kind) or types.is_large_binary(kind))
