"""What the results of a cell are a function of, and how two such configurations differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# What changes where a cell runs, or what is shown of it, and not its results.
ELSEWHERE = {
    "trainer": (
        "accelerator",
        "barebones",
        "default_root_dir",
        "devices",
        "enable_model_summary",
        "enable_progress_bar",
        "log_every_n_steps",
        "logger",
        "num_nodes",
        "profiler",
        "strategy",
    ),
    "data": ("num_workers", "root", "text_cache"),
}
# Before the options of a preparation in a configuration.
PREPARED = "prepared"


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a config decides about results, by dotted name."""
    kept = {section: dict(config[section]) for section in ("trainer", "model", "data")}
    for section, names in ELSEWHERE.items():
        for name in names:
            kept[section].pop(name, None)
    return dict(flatten({"seed_everything": config["seed_everything"], **kept}))


def flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested dictionaries and lists, with dotted names."""
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from flatten(part, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        for i, part in enumerate(value):
            yield from flatten(part, f"{key}.{i}")
    else:
        yield key.replace(".init_args", ""), value


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the settings in which two configurations differ; one that an older medvlp did not have was None."""
    keys = {*before, *now}
    if not any(key.startswith(f"{PREPARED}.") for key in before):
        # A cell older than these notes: the hash of the data says whether they are the same.
        keys = {key for key in keys if not key.startswith(f"{PREPARED}.")}
    return sorted(key for key in keys if before.get(key) != now.get(key))


def changes(before: Mapping[str, Any], now: Mapping[str, Any], most: int = 5) -> str:
    """Return in words how two configurations differ."""
    keys = differing(before, now)
    said = [f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in keys[:most]]
    return "; ".join([*said, f"and {len(keys) - most} more"] if len(keys) > most else said)
