"""All rows of a table, read into a spool: the image of each, its patient, study, split, labels, boxes and report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from medvlp.errors import LeftOutError, UserError
from medvlp.prepare.annotations import Box
from medvlp.prepare.own.columns import Understood
from medvlp.prepare.own.dates import order_of
from medvlp.prepare.own.drawn import OBJECT, Numbers
from medvlp.prepare.own.headers import Header
from medvlp.prepare.own.image_files import ImageFiles, stem
from medvlp.prepare.own.labels import read_label, read_labels
from medvlp.prepare.own.spool import Record, Spool
from medvlp.prepare.words import read_view, split_word, view_word

TEXTS = ("report", "findings", "impression")
DUPLICATE = "duplicate id"
CONTRADICTION = "unreadable row: contradicts an earlier row of its image"
UNREADABLE = "a row of it is unreadable"
MISSING, AMBIGUOUS = "missing file", "ambiguous name"
# Most letters of a name that is no file.
LONGEST = 200
# Number of dates that are shown, and the others.
FEW, OTHERS = 3, "others"


@dataclass
class Survey:
    """The rows of a table in a spool, and what was counted on the way.

    Attributes:
        understood: What its columns mean.
        files: The images.
        masks: The masks of a folder of their own; None without one.
        headers: DICOM headers by path, where they were read.
        coco: Boxes of a file of COCO, as category and numbers, by path.
        month_first: Whether dates that end in the year begin with the month; None if it cannot be told.
        spool: The images.
        rows: Number of rows; those that add an object to an image of an earlier row do not count.
        found: Number of images by how their names differ from the table.
        missing: Names that are no files, the first ones.
        fallbacks: Number of images whose patient is the study or the image, for want of a name.
        unknown_views: Number of images by word of a view that is not known.
        dates: Number of images whose date can be read.
        odd_dates: Number of images by date that cannot be read, the first ones.
        unusable: Images of which a row is unreadable, so that an object or a label may be missing.
    """

    understood: Understood
    files: ImageFiles
    masks: ImageFiles | None = None
    headers: Mapping[str, Header] = field(default_factory=dict)
    coco: Mapping[str, list[tuple[str, Numbers]]] = field(default_factory=dict)
    month_first: bool | None = None
    spool: Spool = field(default_factory=Spool)
    rows: int = 0
    found: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    fallbacks: Counter[str] = field(default_factory=Counter)
    unknown_views: Counter[str] = field(default_factory=Counter)
    dates: int = 0
    odd_dates: Counter[str] = field(default_factory=Counter)
    unusable: set[str] = field(default_factory=set)

    def skip(self, place: str, reason: str) -> None:
        """Leave a row or an image out, and count it."""
        self.rows += 1
        self.spool.skip(place, reason)

    def add_row(self, place: str, fields: Mapping[str, str]) -> None:
        """Take a row that names an image.

        Args:
            place: The row, for messages.
            fields: Its fields by column.
        """
        name = fields.get(self.understood.columns["image"], "")
        if not name:
            self.skip(place, "unreadable row: no image")
            return
        match = self.files.find(name)
        if not match.path:
            kind = MISSING if match.how == MISSING else AMBIGUOUS
            if kind == MISSING and len(self.missing) < 3 and name not in self.missing:
                self.missing.append(name)
            self.found[kind] += 1
            self.skip(name[:LONGEST], match.how if kind == MISSING else f"{AMBIGUOUS}: {match.how}")
            return
        self.add(place, name, match.path, fields, match.how)

    def add(self, place: str, image_id: str, path: str, fields: Mapping[str, str], how: str = "") -> None:
        """Take an image with the fields of its row.

        Args:
            place: The row, for messages.
            image_id: Name of the image.
            path: Its file.
            fields: The fields by column; none without a row.
            how: How its name differs from the file.
        """
        if path in self.unusable:
            self.skip(place, UNREADABLE)
            return
        earlier = self.spool.get(path)
        try:
            record = self._record(image_id, path, fields)
        except LeftOutError as error:
            self.skip(place, str(error))
            if self.understood.corners or self.understood.labels.are_listed:
                # Its other rows may lack an object, or a label.
                self.unusable.add(path)
                if earlier:
                    self.spool.drop(path)
                    self.spool.skip(earlier.image_id, UNREADABLE)
            return
        if earlier:
            self._merge(place, earlier, record)
            return
        self.rows += 1
        self.found[how] += 1
        self._count_date(record, fields)
        if not self._patient(path, fields):
            self.fallbacks["image" if record.study == path else "study"] += 1
        self.spool.put(record)

    def _merge(self, place: str, earlier: Record, record: Record) -> None:
        """Add the objects and labels of a further row of an image."""
        boxes = [box for box in record.boxes or () if box not in (earlier.boxes or ())]
        listed = [name for name in record.listed or () if name not in (earlier.listed or ())]
        same = all(
            getattr(record, name) == getattr(earlier, name) for name in ("study", "subject", "split", "view", "values")
        ) and all(earlier.texts.get(name, text) == text for name, text in record.texts.items())
        if not (boxes or listed):
            self.skip(place, DUPLICATE if same else CONTRADICTION)
        elif not same or [] in (earlier.boxes, record.boxes):
            self.skip(place, CONTRADICTION)
        else:
            if boxes:
                earlier.boxes = [*(earlier.boxes or ()), *boxes]
            if listed:
                earlier.listed = [*(earlier.listed or ()), *listed]
            self.spool.put(earlier)

    def _record(self, image_id: str, path: str, fields: Mapping[str, str]) -> Record:
        """Return what a row says of its image.

        Raises:
            LeftOutError: If a field cannot be read.
        """
        columns = self.understood.columns
        header = self.headers.get(path, Header())
        labels = self.understood.labels

        def of(meaning: str) -> str:
            return fields.get(columns[meaning], "") if meaning in columns else ""

        date = of("date") or header.date
        patient = self._patient(path, fields)
        dated = f"{patient} {date}" if patient and date and "date" in columns and "image" in columns else ""
        # The path below the folder is the same on every machine, as a name with its drive is not.
        study = of("study") or of("accession") or header.study or header.accession or dated or path
        boxes = self._boxes(path, fields)
        listed = read_labels(fields.get(labels.listed, "")) if labels.listed else None
        if labels.of_boxes and boxes is not None:
            listed = [*dict.fromkeys(str(name) for name, *_ in boxes if name != OBJECT)]
        order = order_of(of("date") if "date" in columns else header.date, self.month_first)
        return Record(
            image_id=image_id,
            path=path,
            study=study,
            subject=patient or study,
            order=order,
            split=self._split(of("split")),
            view=self._view(of("view"), header),
            values=[read_label(column, fields.get(column, "")) for column in labels.columns.values()],
            listed=listed,
            texts={name: of(name) for name in TEXTS if of(name)},
            boxes=boxes,
            mask=self._mask(path, of("mask")),
        )

    def _patient(self, path: str, fields: Mapping[str, str]) -> str:
        """Return the patient of an image; empty if neither its row nor its header names one."""
        column = self.understood.columns.get("patient", "")
        return without_point(fields.get(column, "") or self.headers.get(path, Header()).patient)

    def _count_date(self, record: Record, fields: Mapping[str, str]) -> None:
        text = fields.get(self.understood.columns.get("date", ""), "")
        if text and record.order is not None:
            self.dates += 1
        elif text:
            # Of many one number is kept, so that they take no memory.
            is_kept = text in self.odd_dates or len(self.odd_dates) < FEW
            self.odd_dates[text if is_kept else OTHERS] += 1

    def _split(self, text: str) -> str:
        word = split_word(text) if text else ""
        if word is None:
            raise LeftOutError(f"unreadable row: split '{text[:40]}'")
        return word

    def _view(self, text: str, header: Header) -> str | None:
        if view_word(text) is None:
            self.unknown_views[text] += 1
        return read_view(text) or header.view

    def _boxes(self, path: str, fields: Mapping[str, str]) -> list[list[object]] | None:
        drawn = self.understood.corners.read(fields) if self.understood.corners else None
        if path in self.coco:
            if flat := [numbers for _, numbers in self.coco[path] if not (numbers[2] > 0 and numbers[3] > 0)]:
                # Without it the image would count as one without this object.
                raise LeftOutError(f"unreadable box: bbox {list(flat[0])} of --coco has no area")
            drawn = [*(drawn or ()), *(Box(name, a, b, a + c, b + d) for name, (a, b, c, d) in self.coco[path])]
        return None if drawn is None else [list(box) for box in drawn]

    def _mask(self, path: str, text: str) -> str:
        """Return the file of the mask, relative to the folder of the masks."""
        files = self.masks or self.files
        if text:
            match = files.find(text)
            if not match.path:
                raise LeftOutError(f"missing mask: {text[:60]}")
            return match.path
        if not self.masks:
            return ""
        folder, slash, name = path.rpartition("/")
        names = (f"{folder}{slash}{name}" for name in (name, f"{stem(name)}_mask", f"{stem(name)}-mask"))
        return next((match.path for match in map(files.find, names) if match.path), "")

    def check(self, option: str) -> None:
        """Refuse a table without any image that is there.

        Args:
            option: What names the images, for the error.

        Raises:
            UserError: If no image is left.
        """
        if self.spool.count("path"):
            return
        skipped = [*self.spool.skipped().items()][:4]
        kinds = ", ".join(f"{kind} ({details.total():,})" for kind, details in skipped)
        if self.missing:
            files = [*self.files][:2]
            raise UserError(
                f"{option} names no image below --images='{self.files.root}': it has {_quoted(self.missing[:2])}, and "
                f"the folder has {_quoted(files)}. Give the folder that these names belong to, or another column: "
                f"--image COLUMN. Left out: {kinds}."
            )
        raise UserError(f"{option}: no image can be used. Left out: {kinds or 'nothing: there are no rows'}.")


def joined_key(text: str) -> str:
    """Return an accession number, patient or date as two programs agree on it: spreadsheets drop zeros in front.

    Example:
        >>> joined_key("00123.0") == joined_key(" 123")
        True
    """
    whole = without_point(text.strip().casefold())
    return whole.lstrip("0") or whole


def without_point(text: str) -> str:
    """Return a number that a program has taken for a measure as the name that it is: 12 for 12.0."""
    return text[:-2] if text.endswith(".0") and text[:-2].isdecimal() else text


def _quoted(names: list[str]) -> str:
    return " and ".join(f"'{' '.join(name[:LONGEST].split())}'" for name in names)
