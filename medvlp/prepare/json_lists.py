"""Files with a JSON list of objects, the annotations of some data sets."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from medvlp.errors import UserError
from medvlp.prepare.study import Skip
from medvlp.tables.files import DAMAGED


def read_objects(path: Path, skip: Skip) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the place of each object of a list, for messages, and the object.

    The file is read as a whole.

    Args:
        path: A JSON file in UTF-8, plain or in gzip.
        skip: Called for each entry that is no object.

    Raises:
        UserError: If the file cannot be read, or holds no list.
    """
    try:
        data = path.read_bytes()
        content = json.loads((gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig"))
    except (*DAMAGED, ValueError, RecursionError) as error:
        raise UserError(f"'{path}' cannot be read as JSON ({error}). Download it again.") from error
    if not isinstance(content, list):
        raise UserError(f"'{path}' holds no JSON list of objects. Is it the file of another data set?")
    for number, entry in enumerate(content, 1):
        place = f"{path.name}:entry {number}"
        if isinstance(entry, dict):
            yield place, entry
        else:
            skip(place, "unreadable entry: no object")
