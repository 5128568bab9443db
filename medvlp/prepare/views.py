"""The view of an image whose tables do not say it: told when the image is decoded."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from medvlp.prepare.dicom.elements import code, read_content
from medvlp.prepare.source import Source, open_source


class ViewTeller(Protocol):
    """The source of the views of a data set whose tables have none. It is pickled into the worker processes."""

    @property
    def name(self) -> str:
        """What tells the views, for messages and the manifest."""

    def tell(self, source: Source, flags: Collection[str]) -> str:
        """Return the view of an image, in capitals; empty if nothing tells it.

        Args:
            source: Path of the image file, or its content. It has been decoded.
            flags: What the screening has flagged.
        """


@dataclass(frozen=True)
class ByScreening:
    """FRONTAL or LATERAL, by the flag `lateral` of `medvlp.prepare.screening`, which says how often that is right."""

    name: str = "the screening"

    def tell(self, source: Source, flags: Collection[str]) -> str:
        """Return LATERAL for an image with the flag, FRONTAL for any other; see `ViewTeller`."""
        return "LATERAL" if "lateral" in flags else "FRONTAL"


@dataclass(frozen=True)
class ByHeader:
    """ViewPosition of the DICOM header."""

    name: str = "ViewPosition of the DICOM header"

    def tell(self, source: Source, flags: Collection[str]) -> str:
        """Return the value of the header; empty for a file that has none or is no DICOM; see `ViewTeller`."""
        with warnings.catch_warnings(), open_source(source) as file:
            warnings.simplefilter("ignore")
            try:
                return code(read_content(file, ["ViewPosition"]).elements, "ViewPosition")
            except Exception:  # noqa: BLE001  (the parser raises any exception for what is no DICOM)
                return ""
