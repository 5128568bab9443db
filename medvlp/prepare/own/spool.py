"""The rows of a table on disk, so that the images of a study come together whatever their order in the table."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from medvlp.prepare.study import Skip


@dataclass
class Record:
    """An image, as the table and its header have it.

    Attributes:
        image_id: Unique name.
        path: File relative to the image root.
        study: The study.
        subject: The patient.
        order: A number that grows with the time of its study; None without a readable date.
        split: train, validate, test, or empty.
        view: Such as PA; None if neither the table nor the header says it.
        values: Values of the label columns.
        listed: Labels of the column of lists; None if its field is empty.
        texts: Fields of the report by `report`, `findings` and `impression`.
        boxes: Objects as fields of `medvlp.prepare.annotations.contract.Box`; None if the table says nothing of them.
        mask: File of the mask; empty without one.
    """

    image_id: str
    path: str
    study: str
    subject: str
    order: int | None = None
    split: str = ""
    view: str | None = None
    values: list[int | None] = field(default_factory=list)
    listed: list[str] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    boxes: list[list[Any]] | None = None
    mask: str = ""


class Spool:
    """The images, and what was skipped, in a temporary database of SQLite, which goes with the process."""

    def __init__(self) -> None:
        """Open a database without a name: it is in memory while it is small, then in a temporary file."""
        self._base = sqlite3.connect("", isolation_level=None)
        self._base.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN;"
            "CREATE TABLE images (number INTEGER PRIMARY KEY, path TEXT UNIQUE, study TEXT, subject TEXT, split TEXT,"
            " view TEXT, record TEXT);"
            "CREATE TABLE skips (place TEXT, reason TEXT);"
            "CREATE TABLE reports (key TEXT PRIMARY KEY, place TEXT, fields TEXT, used INTEGER DEFAULT 0);"
        )

    def get(self, path: str) -> Record | None:
        """Return the record of a file, if it is there."""
        row = self._base.execute("SELECT record FROM images WHERE path = ?", (path,)).fetchone()
        return Record(**json.loads(row[0])) if row else None

    def put(self, record: Record) -> None:
        """Add a record, or put it in the place of that of its file."""
        fields = (record.path, record.study, record.subject, record.split, record.view, json.dumps(asdict(record)))
        self._base.execute(
            "INSERT INTO images (path, study, subject, split, view, record) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET record = excluded.record",
            fields,
        )

    def drop(self, path: str) -> None:
        """Take out the record of a file."""
        self._base.execute("DELETE FROM images WHERE path = ?", (path,))

    def skip(self, place: str, reason: str) -> None:
        """Note what is left out, and why."""
        self._base.execute("INSERT INTO skips VALUES (?, ?)", (place, reason))

    def replay(self, skip: Skip) -> None:
        """Pass on what was noted."""
        for place, reason in self._base.execute("SELECT place, reason FROM skips ORDER BY rowid"):
            skip(place, reason)

    def put_report(self, key: str, place: str, fields: dict[str, str]) -> dict[str, str] | None:
        """Keep a row without an image for the images of a key; return the fields of its earlier row, if any."""
        row = (key, place, json.dumps(fields))
        put = self._base.execute("INSERT OR IGNORE INTO reports (key, place, fields) VALUES (?, ?, ?)", row)
        if put.rowcount > 0:
            return None
        earlier: dict[str, str] = json.loads(
            self._base.execute("SELECT fields FROM reports WHERE key = ?", (key,)).fetchone()[0]
        )
        return earlier

    def report(self, key: str) -> tuple[str, dict[str, str]] | None:
        """Return place and fields of the row of a key, and mark it as used; None if there is none."""
        row = self._base.execute("SELECT place, fields FROM reports WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        self._base.execute("UPDATE reports SET used = 1 WHERE key = ?", (key,))
        return row[0], json.loads(row[1])

    def unused_reports(self) -> Iterator[tuple[str, str]]:
        """Yield key and place of each row that no image has asked for."""
        yield from self._base.execute("SELECT key, place FROM reports WHERE used = 0 ORDER BY rowid").fetchall()

    def studies(self) -> Iterator[list[Record]]:
        """Yield the images of each study of a patient, in the order of its first row."""
        rows = self._base.execute(
            "SELECT i.study, i.subject, i.record FROM images i JOIN (SELECT study, subject, MIN(number) AS first"
            " FROM images GROUP BY study, subject) s ON i.study = s.study AND i.subject = s.subject"
            " ORDER BY s.first, i.number"
        )
        last: tuple[str, str] | None = None
        group: list[Record] = []
        for study, subject, record in rows:
            if group and (study, subject) != last:
                yield group
                group = []
            last = study, subject
            group.append(Record(**json.loads(record)))
        if group:
            yield group

    def records(self) -> Iterator[Record]:
        """Yield all images in the order of the table."""
        for (record,) in self._base.execute("SELECT record FROM images ORDER BY number"):
            yield Record(**json.loads(record))

    def count(self, what: str) -> int:
        """Return the number of different values of a column; those of `path` are the images."""
        return int(self._base.execute(f"SELECT COUNT(DISTINCT {what}) FROM images").fetchone()[0])

    def studies_count(self) -> int:
        """Return the number of studies; those of two patients are two, whatever their name."""
        return self._number("SELECT COUNT(*) FROM (SELECT DISTINCT study, subject FROM images)")

    def views(self) -> dict[str | None, int]:
        """Return the number of images by view, the commonest first; None is no view."""
        return dict(self._base.execute("SELECT view, COUNT(*) FROM images GROUP BY 1 ORDER BY 2 DESC, 1").fetchall())

    def skipped(self) -> dict[str, Counter[str]]:
        """Return the number of skipped entries by kind of reason, the commonest first, and by what follows it."""
        kinds: dict[str, Counter[str]] = {}
        for reason, number in self._base.execute("SELECT reason, COUNT(*) FROM skips GROUP BY 1 ORDER BY 1"):
            kind, _, detail = reason.partition(": ")
            kinds.setdefault(kind, Counter())[detail] += number
        return dict(sorted(kinds.items(), key=lambda item: -item[1].total()))

    def shared_studies(self) -> int:
        """Return the number of names of studies that several patients have."""
        return self._number(
            "SELECT COUNT(*) FROM (SELECT 1 FROM images GROUP BY study HAVING COUNT(DISTINCT subject) > 1)"
        )

    def patients_in_several_splits(self) -> list[str]:
        """Return the patients with images in several splits."""
        rows = self._base.execute(
            "SELECT subject FROM images WHERE split != '' GROUP BY subject HAVING COUNT(DISTINCT split) > 1"
            " ORDER BY MIN(number)"
        )
        return [subject for (subject,) in rows]

    def _number(self, query: str) -> int:
        return int(self._base.execute(query).fetchone()[0])
