"""What each column of a table means: guessed from its name, checked against its values, or as an option says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from medvlp.errors import UserError
from medvlp.prepare.own.columns import NONE, Understood, Wanted, find_name, rounded_ids
from medvlp.prepare.own.drawn import find_corners
from medvlp.prepare.own.image_files import ImageFiles
from medvlp.prepare.own.labels import LabelColumns, check_named, doubts, is_list, label_names, quoted
from medvlp.prepare.own.names import has_meaning, is_known_label
from medvlp.prepare.own.profile import Column, Profile, no_header
from medvlp.prepare.words import key, name_words, split_word, view_word

BY_NAME, BY_VALUES, BY_OPTION = "by its name", "by its values", "as the option says"
TEXTS = ("report", "findings", "impression")
IDS = ("patient", "study", "accession")
# Least share of the values that must be files, views or split words.
MOST, HALF = 0.8, 0.5


class Guess:
    """The guess at the columns of one table."""

    def __init__(self, profile: Profile, files: ImageFiles, masks: ImageFiles | None, wanted: Wanted) -> None:
        """Take what the options say.

        Args:
            profile: The columns and first rows.
            files: The images.
            masks: The masks; None without a folder of them.
            wanted: The options.

        Raises:
            UserError: If an option names no column.
        """
        self.profile, self.files, self.masks, self.wanted = profile, files, masks, wanted
        self.result = Understood()
        self.doubts: dict[str, str] = {}
        self.problems: list[str] = []
        for meaning, name in wanted.columns.items():
            if name and name != NONE and meaning != "boxes":
                self._take(meaning, self.named(meaning, name), BY_OPTION)
        if "split" in self.result.columns:
            self._check_splits(self.result.columns["split"])

    def named(self, option: str, name: str) -> str:
        """Return the column that an option names, in any case.

        Raises:
            UserError: If there is none.
        """
        return find_name(self.profile, option, name)

    def __call__(self) -> Understood:
        """Return the meaning of every column.

        Raises:
            UserError: If several columns may have one meaning, or an option is wrong.
        """
        self._guess_image()
        for meaning, holds in (("view", _holds(view_word)), ("split", _holds(split_word))):
            self._guess_words(meaning, holds)
        for meaning in (*TEXTS, *IDS, "date"):
            self._guess_by_name(meaning)
        self._guess_mask()
        self._guess_boxes()
        self.problems += rounded_ids(self.profile, self.result.columns)
        if self.problems:
            raise UserError(f"--table='{self.profile.path}': {' '.join(self.problems)}")
        self._guess_labels()
        for name, column in self.profile.columns.items():
            if name not in self.result.used:
                if "mask" in name_words(name) and self._share_found(name) >= MOST:
                    self.doubts[name] = f"its values are files; --mask '{name}' takes them as masks"
                reason = "it is empty" if not column.filled else "no meaning is known for its name"
                self.result.unused[name] = self.doubts.get(name, reason)
        return self.result

    def _check_splits(self, name: str) -> None:
        values = self.profile.filled(name)
        if _share(_holds(split_word), values) < HALF:
            odd = quoted(_short(value for value in values if split_word(value) is None))
            raise UserError(
                f"--split names '{name}', whose values {odd} are no splits: write train, validate (or val) and test. "
                "--split none draws new splits by patient."
            )

    def _names(self, option: str, text: str) -> list[str]:
        """Return the columns in the value of an option, between commas; a column may have commas in its name."""
        names = [text] if text in self.profile.columns else [name.strip() for name in text.split(",")]
        return [self.named(option, name) for name in names if name]

    def _take(self, meaning: str, name: str, how: str) -> None:
        self.result.columns[meaning] = name
        self.result.how[meaning] = how

    def _is_open(self, meaning: str) -> bool:
        return meaning not in self.result.columns and self.wanted.columns.get(meaning) != NONE

    def _candidates(self, meaning: str) -> list[str]:
        """Return the filled columns of a usual name of a meaning that have no meaning yet."""
        taken = self.result.used
        filled = (column for column in self.profile.columns.values() if column.filled and column.name not in taken)
        return [column.name for column in filled if has_meaning(column.name, meaning)]

    def _others(self, *meanings: str) -> list[str]:
        """Return the filled columns without a meaning whose names are not usual for one of these meanings."""
        taken = self.result.used
        return [
            column.name
            for column in self.profile.columns.values()
            if column.filled
            and column.name not in taken
            and not any(has_meaning(column.name, meaning) for meaning in meanings)
        ]

    def _choose(self, meaning: str, names: Sequence[str], how: str) -> None:
        """Take the only one of several columns, or the first one if all say the same."""
        first, *others = names
        values = [self.profile.filled(name) for name in names]
        if others and not (
            meaning == "date" or all(_same(meaning, values[0], value, self.files) for value in values[1:])
        ):
            shown = "; ".join(
                f"'{name}' (such as {quoted(_short(value))})" for name, value in zip(names, values, strict=True)
            )
            self.problems.append(
                f"several columns may be the {meaning}: {shown}. Say which one: --{meaning} '{first}', or "
                f"--{meaning} none."
            )
        self._take(meaning, first, how)
        for name in others:
            self.doubts[name] = f"'{first}' is the {meaning} already; --{meaning} '{name}' takes this one"

    def _guess_image(self) -> None:
        if not self._is_open("image"):
            return
        elsewhere = ("image", "mask", "view", "split", "label list", *TEXTS)
        named, others = self._candidates("image"), self._others(*elsewhere, *IDS)
        for names, least, how in (
            (named, 0.0, BY_NAME),
            (others, MOST, BY_VALUES),
            (self._others(*elsewhere), MOST, BY_VALUES),
        ):
            shares = {name: self._share_found(name) for name in names}
            best = max(shares.values(), default=0.0)
            if best and best >= least:
                self._choose("image", [name for name in names if shares[name] == best], how)
                if how == BY_VALUES and self.files.find(self.result.columns["image"]).path:
                    raise no_header(self.profile, self.result.columns["image"])
                break
        for name in named:
            if name not in self.result.used:
                missing = f"'{self.profile.columns[name].examples[0][:40]}'"
                self.doubts.setdefault(name, f"its values, such as {missing}, are no files in --images")
        # The errors say what is missing if the column has an unmistakable name alone.
        if "image" not in self.result.columns and len(named) == 1:
            self._take("image", named[0], BY_NAME)

    def _share_found(self, name: str) -> float:
        values = self.profile.filled(name)
        return sum(bool(self.files.find(value).path) for value in values) / max(len(values), 1)

    def _guess_words(self, meaning: str, holds: Callable[[str], bool]) -> None:
        """Find the column of views or of splits."""
        if not self._is_open(meaning):
            return
        named = self._candidates(meaning)
        shares = {name: _share(holds, self.profile.filled(name)) for name in named}
        fitting = [name for name in named if shares[name] >= HALF]
        if fitting:
            # The column of views that is fuller, or finer: PA and AP say more than frontal.
            ranks = {name: (self.profile.columns[name].filled, self._kinds(name)) for name in fitting}
            best = [name for name in fitting if meaning != "view" or ranks[name] == max(ranks.values())]
            self._choose(meaning, best, BY_NAME)
            for name in fitting:
                if name not in best:
                    self.doubts.setdefault(name, f"'{best[0]}' is the {meaning} already, and says more")
        for name in named:
            if name not in fitting:
                odd = quoted(_short(value for value in self.profile.filled(name) if not holds(value)))
                advice = f"--view '{name}' takes it" if meaning == "view" else "write train, validate (or val) and test"
                self.doubts.setdefault(name, f"its values {odd} are no {meaning}s; {advice}")
        if fitting:
            return
        clear = [name for name in self._others(*TEXTS) if self._is_clear(self.profile.columns[name], holds)]
        if clear:
            self._choose(meaning, clear, BY_VALUES)

    def _kinds(self, name: str) -> int:
        return len({view_word(value) for value in self.profile.filled(name)} - {None, ""})

    def _is_clear(self, column: Column, holds: Callable[[str], bool]) -> bool:
        values = [*column.values]
        return bool(values) and all(map(holds, values)) and len(values) > 1 and max(map(len, values)) > 1

    def _guess_by_name(self, meaning: str) -> None:
        if not self._is_open(meaning):
            return
        named = self._candidates(meaning)
        if meaning in TEXTS:
            for name in [name for name in named if not _is_text(self.profile.filled(name))]:
                named.remove(name)
                self.doubts.setdefault(
                    name, f"its values, such as {quoted(_short(self.profile.filled(name))[:1])}, are no text"
                )
        if named:
            self._choose(meaning, named, BY_NAME)

    def _guess_mask(self) -> None:
        files = self.masks or self.files
        if self._is_open("mask"):
            named = [
                n
                for n in self._candidates("mask")
                if _share(lambda v: bool(files.find(v).path), self.profile.filled(n))
            ]
            if named:
                self._choose("mask", named, BY_NAME)

    def _guess_boxes(self) -> None:
        given = self.wanted.columns.get("boxes", "")
        if given == NONE:
            return
        names = self._names("boxes", given) or self._candidates("boxes")
        label = self.wanted.box_label
        label = self.named("box_label", label) if label and label != NONE else label
        try:
            self.result.corners = find_corners(self.profile, names, self.wanted.box_format, label, asked=bool(given))
        except UserError as error:
            self.problems.append(str(error))

    def _guess_labels(self) -> None:
        if self.wanted.labels == NONE:
            return
        if names := self._names("labels", self.wanted.labels):
            self.result.labels = check_named(self.profile, names)
            return
        taken, columns = self.result.used, {}
        lists = []
        for column in self.profile.columns.values():
            if column.name in taken and not (self.result.corners and column.name == self.result.corners.label):
                continue
            if has_meaning(column.name, "label list") and is_list(column, self.profile.filled(column.name)):
                lists.append(column.name)
            elif (doubt := doubts(column)) is None:
                columns[column.name] = column.name
            elif not column.many or is_known_label(column.name):
                self.doubts.setdefault(column.name, doubt)
        if columns:
            self.result.labels = LabelColumns(label_names([*columns]))
            reason = "the label columns are used; --labels '{}' takes it instead"
        elif lists:
            self.result.labels = LabelColumns(listed=lists[0])
            reason = f"'{lists[0]}' has the labels already; --labels '{{}}' takes it instead"
        else:
            self.result.labels = LabelColumns(of_boxes=True)
        for name in lists:
            self.doubts.setdefault(name, reason.format(name))


def _holds(word: Callable[[str], str | None]) -> Callable[[str], bool]:
    return lambda value: word(value) is not None


def _share(holds: Callable[[str], bool], values: Sequence[str]) -> float:
    return sum(map(holds, values)) / max(len(values), 1)


def _is_text(values: Sequence[str]) -> bool:
    """Return whether values are texts: some of two words or more."""
    return any(len(value.split()) > 1 and any(map(str.isalpha, value)) for value in values)


def _same(meaning: str, first: Sequence[str], second: Sequence[str], files: ImageFiles) -> bool:
    """Return whether two columns say the same in the first rows: one file, or ids that go together one by one."""
    if len(first) != len(second):
        return False
    if meaning == "image":
        return all(files.find(a).path == files.find(b).path for a, b in zip(first, second, strict=True))
    pairs = set(zip(first, second, strict=True))
    if meaning in IDS:
        return len(pairs) == len(set(first)) == len(set(second))
    return all(key(a) == key(b) for a, b in pairs)


def _short(values: Iterable[str]) -> list[str]:
    return [*dict.fromkeys(values)][:3]
