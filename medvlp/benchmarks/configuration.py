"""Configuration of a cell: the settings that decide its results, and the differences of two configurations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

# Settings that decide where a cell runs or which output it prints, and leave its results alone.
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
# Prefix of the options of `medvlp prepare` in a configuration.
PREPARED = "prepared"


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a config that decide the results, by dotted name."""
    kept = {section: dict(config[section]) for section in ("trainer", "model", "data")}
    for section, names in ELSEWHERE.items():
        for name in names:
            kept[section].pop(name, None)
    return dict(flatten({"seed_everything": config["seed_everything"], **kept}))


def prepared_data(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what identifies prepared data, as part of a configuration: a hash, and the options of preparation."""
    data = json.dumps([manifest["sha256"], manifest["splits"]], sort_keys=True)
    return {"prepared data": short_hash(data), **dict(flatten({PREPARED: manifest["options"]}))}


def short_hash(text: str) -> str:
    """Return eight hex digits of the sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


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
    """Return the settings in which two configurations differ; a setting that one of them lacks counts as off."""
    keys = {*before, *now}
    if not any(key.startswith(f"{PREPARED}.") for key in before):
        # Older cells lack these options; their hash of the data shows whether the data are the same.
        keys = {key for key in keys if not key.startswith(f"{PREPARED}.")}
    # An option that is newer than the cell, and off.
    keys -= {key for key in keys if (key not in before or key not in now) and not (before.get(key) or now.get(key))}
    return sorted(key for key in keys if before.get(key) != now.get(key))


def changes(before: Mapping[str, Any], now: Mapping[str, Any], most: int = 5) -> str:
    """Return a text that lists the differences of two configurations."""
    keys = differing(before, now)
    texts = [f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in keys[:most]]
    return "; ".join([*texts, f"and {len(keys) - most} more"] if len(keys) > most else texts)
