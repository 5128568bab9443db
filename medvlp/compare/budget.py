"""Is the budget of the methods equal? Compares their whole configs, and tells a method's own settings from a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# What a method consists of. Everything else that differs is an unequal budget.
OWN = (
    "model.objectives",
    "model.protocol",
    "data.augmentation",
    "data.region_list",
    "data.regions",
    "data.views",
    "trainer.callbacks",
    "trainer.sync_batchnorm",
)
# Names of the parts of a budget in warnings; the rest is named by the setting.
PARTS = {
    "image encoder": ("model.image_encoder",),
    "text encoder": ("model.text_encoder",),
    "image size": ("data.crop", "data.resize"),
    "batch size": ("data.batch_size", "trainer.accumulate_grad_batches", "trainer.devices", "trainer.num_nodes"),
    "length": ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "trainer.limit_train_batches"),
    "optimiser": ("model.optimizer", "model.schedule", "model.warmup", "trainer.gradient_clip"),
    "data": ("data", "prepared", "prepared data"),
}
# Settings that the tables state.
STATED = ("data.batch_size", "data.crop", "data.resize", "trainer.max_epochs", "trainer.max_steps", "trainer.precision")


def is_of(setting: str, parts: Sequence[str]) -> bool:
    """Return whether a setting is one of these parts of a config, or inside one."""
    return any(f"{setting}.".startswith(f"{part}.") for part in parts)


def differences(configurations: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the settings in which methods differ, with the value of each method; those of objectives are left out.

    Args:
        configurations: The settings of each method, by its name.
    """
    settings = sorted({setting for configuration in configurations.values() for setting in configuration})
    found = {}
    for setting in settings:
        values = {name: configuration.get(setting) for name, configuration in configurations.items()}
        first = next(iter(values.values()))
        if not is_of(setting, OWN[:1]) and any(value != first for value in values.values()):
            found[setting] = values
    return found


def unequal(configurations: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a warning for each part of the budget in which methods differ.

    Args:
        configurations: See `differences`.
    """
    parts: dict[str, list[str]] = {}
    for setting, values in differences(configurations).items():
        if not is_of(setting, OWN):
            part = next((name for name, some in PARTS.items() if is_of(setting, some)), "other")
            parts.setdefault(part, []).append(in_words(setting, values))
    return [f"unequal budget, {part}: {'; '.join(texts)}" for part, texts in parts.items()]


def own(configurations: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the settings beside the objectives that belong to a method, and in which methods differ, as texts.

    Args:
        configurations: See `differences`.
    """
    found = differences(configurations).items()
    return [in_words(setting, values) for setting, values in found if is_of(setting, OWN)]


def in_words(setting: str, values: Mapping[str, Any]) -> str:
    """Return the values of a setting as text: `data.views is 2 (imitate), 1 (asg, clip)`."""
    names: dict[str, list[str]] = {}
    for name, value in values.items():
        names.setdefault(str(value), []).append(name)
    texts = [f"{value} ({', '.join(some)})" for value, some in names.items()]
    return f"{setting} is {', '.join(texts)}"


def stated(configuration: Mapping[str, Any]) -> str:
    """Return the budget of a method as text: encoders, image and batch size, length, precision, optimiser."""
    values = [f"{name.rpartition('.')[2]} {configuration.get(name)}" for name in STATED]
    rate = configuration.get("model.optimizer.lr")
    encoders = [configuration.get(f"model.{kind}_encoder.name") for kind in ("image", "text")]
    optimiser = str(configuration.get("model.optimizer.class_path")).rpartition(".")[2]
    return ", ".join([*(str(name) for name in encoders), *values, f"{optimiser} {rate}"])
