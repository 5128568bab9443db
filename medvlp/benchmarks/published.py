"""Published results, read from published.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Published:
    """One row of one benchmark in a published table.

    Attributes:
        method: Name of the method, as printed.
        source: Short name of the source.
        where: Full reference of the source.
        protocol: Short description of the protocol.
        metric: Name of our metric that is computed in the same way.
        values: Values in percent, by label fraction in percent; missing cells of the table are left out.
        ablation: Whether the table varies one method instead of comparing several.
    """

    method: str
    source: str
    where: str
    protocol: str
    metric: str
    values: Mapping[float, float]
    ablation: bool


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return content


def title(benchmark: str) -> str:
    """Return the title of a benchmark in headings; by default its name."""
    return str(_content()["titles"].get(benchmark, benchmark))


def published(benchmark: str) -> list[Published]:
    """Return the published rows of a benchmark, in the order of the tables; see `also` in the file."""
    return [
        Published(
            method,
            table["source"],
            table["where"],
            table["protocol"],
            table["metrics"][column],
            {f: v for f, v in zip(table["fractions"], cells[column], strict=True) if v is not None},
            table.get("ablation", False),
        )
        for table in _content()["tables"]
        for column in [table.get("also", {}).get(benchmark, benchmark)]
        for method, cells in table["rows"].items()
        if column in cells
    ]


def cautions(benchmark: str) -> list[str]:
    """Return the warnings to read before a comparison with the published rows of a benchmark."""
    cautions = (table.get("cautions", {}).get(benchmark) for table in _content()["tables"])
    return list(dict.fromkeys(caution for caution in cautions if caution))
