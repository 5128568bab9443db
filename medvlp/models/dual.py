"""Published pairs of an image encoder and a text encoder: what a name such as `open_clip:...` stands for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from medvlp.errors import NotFoundError, UserError
from medvlp.models.presets import is_named, presets
from medvlp.models.tensor_files import read_tensors

State = dict[str, Tensor]
MODULE = "module."


class TextTower(nn.Module, ABC):
    """The text half of a published pair, with its tokenizer.

    A subclass defines `tokens`, and `forward` from their tensors to the text features (M, width).

    Attributes:
        width: Width of the text features, in the space in which they are compared with images.
    """

    width: int

    @abstractmethod
    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return the inputs of `forward` for M texts, each tensor (M, length)."""


@dataclass(frozen=True)
class Head:
    """The way of image features into the space of texts.

    Attributes:
        kind: See `medvlp.objectives.SharedSpace`.
        hidden: Number of hidden features of an MLP.
        bias: Whether its last layer has a bias.
        state: Its tensors.
        temperature: Of the similarities.
        logit_bias: The bias of the logits; None if there is none.
    """

    kind: str = "none"
    hidden: int = 0
    bias: bool = False
    state: State = field(default_factory=dict)
    temperature: float = 0.07
    logit_bias: float | None = None


@dataclass(frozen=True)
class Framing:
    """The way of a radiograph to the input of the image encoder; see `medvlp.data.preprocessing.Preprocessing`.

    Attributes:
        size: Side of the square in pixels.
        fit: How the image fills it: `pad`, `squash` or `crop`.
        crop: Side of the central square that the encoder sees.
        resize: Side that the square is then resized to.
    """

    size: int
    fit: str
    crop: int
    resize: int | None = None


@dataclass(frozen=True)
class DualEncoder:
    """A published pair.

    Attributes:
        image_encoder: Options of `TimmEncoder`.
        tower: Function that makes the text tower, with its weights.
        head: Function that returns the way from the image encoder's features to the texts.
        framing: The way from a radiograph to the image encoder.
        files: Paths of the weights.
        places: Whether the pooled feature is pooled from the places, so that a place alone can be compared with texts.
    """

    image_encoder: dict[str, Any]
    tower: Callable[[], TextTower]
    head: Callable[[], Head]
    framing: Framing
    files: tuple[str, ...]
    places: bool = False


def split_place(name: str) -> tuple[str, str | None]:
    """Split `PRESET:PATH` into the preset and the path of its downloaded files; return other names and None."""
    base, colon, place = name.partition(":")
    return (base, place) if colon and base in presets() else (name, None)


def is_published(name: str) -> bool:
    """Return whether a name stands for published weights: a preset, `PRESET:PATH`, or a name with a scheme."""
    return is_named(split_place(name)[0])


def pick(files: Sequence[str], wanted: Callable[[str], bool]) -> State:
    """Return the tensors of files whose names are wanted; of safetensors, the others are not read.

    A first part `module.` of the names, as training on several processes leaves it, is left out.

    Raises:
        NotFoundError: If there is no such file.
        UserError: If a file holds no tensors.
    """
    state: State = {}
    for path in files:
        if not Path(path).is_file():
            raise NotFoundError(f"weights '{path}': no such file.")
        if path.endswith(".safetensors"):
            try:
                with safe_open(path, "pt") as opened:
                    names = [key for key in opened.keys() if wanted(key.removeprefix(MODULE))]  # noqa: SIM118
                    state |= {key: opened.get_tensor(key) for key in names}
            except Exception as error:  # whatever a damaged file makes of the reader
                raise UserError(f"weights '{path}' are damaged: {error}") from error
        else:
            tensors = read_tensors(path).items()
            state |= {key: value for key, value in tensors if wanted(key.removeprefix(MODULE))}
    plain = ((key.removeprefix(MODULE), value) for key, value in state.items())
    return {key: value.float() if value.is_floating_point() else value for key, value in plain}


def load_tower(network: nn.Module, state: State, what: str) -> None:
    """Load the tensors of a text tower.

    Raises:
        UserError: If some are missing, left over or of another shape.
    """
    wanted = network.state_dict()
    wrong = [key for key, value in wanted.items() if key not in state or state[key].shape != value.shape]
    left = [key for key in state if key not in wanted]
    if wrong or left:
        first = f"the first is '{(wrong or left)[0]}'"
        raise UserError(
            f"{what}: the weights do not fit its text encoder: {len(wrong)} of {len(wanted)} tensors are missing or of "
            f"another shape, and {len(left)} are left over; {first}."
        )
    network.load_state_dict(state)


def temperature_of(state: State) -> dict[str, Any]:
    """Return temperature and bias of the logits, the fields of `Head`, from the tensors of a file."""
    values: dict[str, Any] = {}
    if (scale := state.get("logit_scale")) is not None:
        values["temperature"] = float(torch.exp(-scale.double().reshape(())))
    if (bias := state.get("logit_bias")) is not None:
        values["logit_bias"] = float(bias.reshape(()))
    return values
