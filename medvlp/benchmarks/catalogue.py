"""The benchmarks by name: configs under experiments/ that pass a benchmark's name to `SaveResults`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvlp.config.experiments import EXPERIMENTS, read_layers
from medvlp.errors import NotFoundError, UserError, suggestion


def benchmarks() -> dict[str, Path]:
    """Return the config of each benchmark by its name.

    Raises:
        UserError: If two configs have the same name.
    """
    configs: dict[str, Path] = {}
    for path in sorted(EXPERIMENTS.glob("*/*.yaml")):
        if name := name_of(path):
            if name in configs:
                raise UserError(f"{path} and {configs[name]} are both benchmark '{name}': rename one of them.")
            configs[name] = path
    return configs


def name_of(config: Path) -> str | None:
    """Return the name of the benchmark that a config describes; None if it describes none.

    Raises:
        UserError: If the file holds no settings.
    """
    for layer in reversed(list(read_layers(config, "fit"))):
        trainer: Mapping[str, Any] = layer.settings.get("trainer") or {}
        callbacks = trainer.get("callbacks+") or trainer.get("callbacks") or []
        for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
            if isinstance(callback, dict) and callback.get("class_path") == "SaveResults":
                name: str = callback["init_args"]["benchmark"]
                return name
    return None


def find(name: str) -> dict[str, Path]:
    """Return the configs of the benchmarks that an argument of the command line selects, by name.

    Args:
        name: A benchmark, a folder of benchmarks, a config by file or name, such as zeroshot/nih, or several of these
            with commas between them.

    Raises:
        NotFoundError: If there is no such benchmark.
    """
    return _find(name, benchmarks())


def _find(name: str, configs: Mapping[str, Path]) -> dict[str, Path]:
    if "," in name:
        return {key: path for part in name.split(",") for key, path in _find(part.strip(), configs).items()}
    if name in configs:
        return {name: configs[name]}
    if group := {key: path for key, path in configs.items() if path.parent.name == name}:
        return group
    for path in (Path(name), EXPERIMENTS / f"{name}.yaml"):
        if path.is_file() and (key := name_of(path)):
            return {key: path}
    names = [*configs, *dict.fromkeys(path.parent.name for path in configs.values())]
    close = suggestion(name, names) or f" There are: {', '.join(names)}."
    raise NotFoundError(f"there is no benchmark '{name}'.{close}")
