"""A mapping in a protocol file; its errors name the wrong entry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from medvlp.errors import UserError, suggestion


class Section:
    """A mapping of names to values; null counts as a missing value.

    Args:
        value: Value at this place of the file.
        where: Name of the place in errors.

    Raises:
        UserError: If the value is no mapping. All methods raise it if an entry is missing or wrong.
    """

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict) or not value:
            raise UserError(f"{where} must be a mapping 'name: value'.")
        wrong = [name for name in value if not isinstance(name, str)]
        if wrong:
            raise UserError(f"{where}: {wrong[0]!r} is not a name; put it in quotes.")
        self.value: dict[str, Any] = value
        self.where = where

    def __contains__(self, name: str) -> bool:
        """Whether there is an entry."""
        return self.value.get(name) is not None

    def only(self, *names: str) -> None:
        """Refuse all entries but these."""
        for name in self.value:
            if name not in names:
                raise UserError(
                    f"{self.where}: unknown entry '{name}'.{suggestion(name, names)} It has {_list(names)}."
                )

    def section(self, name: str) -> Section:
        """Return an entry that is a mapping itself."""
        return Section(self.value.get(name), f"{self.where}, {name}")

    def sections(self) -> Iterator[tuple[str, Section]]:
        """Yield the entries, which must all be mappings."""
        for name in self.value:
            yield name, self.section(name)

    def text(self, name: str) -> str:
        """Return a text."""
        return _text(self.value.get(name), f"{self.where}, {name}")

    def texts(self, name: str, blank: bool = False) -> list[str]:
        """Return a list of texts; `blank` allows empty ones."""
        value, where = self.value.get(name), f"{self.where}, {name}"
        if not isinstance(value, list) or not value:
            raise UserError(f"{where} must be a list of texts.")
        return [text if blank and text == "" else _text(text, where) for text in value]

    def whole(self, name: str, default: int | None = None) -> int:
        """Return a whole number from 0 on."""
        value = self._get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise UserError(f"{self.where}, {name} must be a whole number, not {value!r}.")
        return value

    def positive(self, name: str, default: float) -> float:
        """Return a number above 0."""
        value = self._get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
            raise UserError(f"{self.where}, {name} must be a number above 0, not {value!r}.")
        return float(value)

    def choice(self, name: str, allowed: Sequence[Any], default: Any = None) -> Any:
        """Return one of the allowed values."""
        value = self._get(name, default)
        if value not in allowed:
            raise UserError(f"{self.where}, {name} is {value!r}; it must be one of {_list(map(str, allowed))}.")
        return value

    def _get(self, name: str, default: Any) -> Any:
        return self.value[name] if name in self else default


def _text(value: Any, where: str) -> str:
    # YAML reads a bare `no` as false.
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: {value!r} is not a text; put it in quotes.")
    return value.strip()


def _list(names: Any) -> str:
    return ", ".join(names)
