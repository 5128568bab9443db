"""The rows of a plan by the names of members of an archive, in a database on disk."""

from __future__ import annotations

import csv
import json
import posixpath
import sqlite3
from dataclasses import asdict
from pathlib import Path

from medvlp.prepare.plan import read_chunks
from medvlp.prepare.study import Picture


class Members:
    """The images that a preparation takes from an archive, and those that it leaves there.

    Attributes:
        example: Path of the first one.
    """

    def __init__(self, path: Path, plan: Path, skipped: Path) -> None:
        """Write the database anew.

        Args:
            path: Its file.
            plan: Table of the images, whose paths are names of members.
            skipped: Beginning of skipped.csv, with the images that the filters have left out.

        Raises:
            OSError: If it cannot be written.
        """
        path.unlink(missing_ok=True)
        self._path = path
        self.example = ""
        try:
            self._database = sqlite3.connect(path)
            self._fill(plan, skipped)
        except sqlite3.Error as error:
            raise OSError(str(error)) from error

    def find(self, name: str) -> list[tuple[int, Picture]]:
        """Return the rows of a member, and the facts about the image in each."""
        rows = self._database.execute("SELECT row, picture FROM wanted WHERE name = ? ORDER BY row", (name,))
        return [(row, Picture(**json.loads(picture))) for row, picture in rows]

    def is_left_out(self, name: str) -> bool:
        """Return whether the filters have left an image out, by its name with or without folders and suffix."""
        base = posixpath.basename(name)
        ids = (name, base, posixpath.splitext(base)[0])
        return self._database.execute("SELECT 1 FROM left_out WHERE id IN (?, ?, ?)", ids).fetchone() is not None

    def close(self) -> None:
        """Remove the file."""
        self._database.close()
        self._path.unlink(missing_ok=True)

    def _fill(self, plan: Path, skipped: Path) -> None:
        # Each run makes it anew: it need not survive a crash.
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE wanted (name TEXT, row INTEGER, picture TEXT, PRIMARY KEY (name, row)) WITHOUT ROWID;"
            "CREATE TABLE left_out (id TEXT PRIMARY KEY) WITHOUT ROWID;"
        )
        for chunk in read_chunks(plan):
            self.example = self.example or chunk.pictures[0].path
            rows = [
                (posixpath.normpath(picture.path), row, json.dumps(asdict(picture)))
                for row, picture in enumerate(chunk.pictures, chunk.first)
            ]
            self._database.executemany("INSERT INTO wanted VALUES (?, ?, ?)", rows)
        with skipped.open(encoding="utf-8", newline="") as file:
            ids = ((row[0],) for row in csv.reader(file))
            self._database.executemany("INSERT OR IGNORE INTO left_out VALUES (?)", ids)
        self._database.commit()
