"""Published pairs of encoders as tasks, for everything that takes a checkpoint."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from typing import Any, cast

from lightning.pytorch.cli import instantiate_module

from medvlp.config.parser import concise
from medvlp.data.preprocessing import Preprocessing
from medvlp.errors import UserError
from medvlp.models.published import find_dual
from medvlp.objectives import SharedSpace
from medvlp.tasks.pretraining import PretrainingTask

OBJECTIVE = "shared"


def load_published(name: str) -> PretrainingTask:
    """Return the task of a published pair of an image encoder and a text encoder.

    Args:
        name: See `medvlp.models.published.find_dual`.

    Returns:
        The task, in evaluation mode. Nothing says which patients its weights have seen: its `trained_on` is empty.

    Raises:
        UserError: If it is no such pair, or its files cannot be had or do not fit.
    """
    dual = find_dual(name)
    head = dual.head()
    space = {
        "head": head.kind,
        "hidden": head.hidden,
        "bias": head.bias,
        "places": dual.places,
        "temperature": head.temperature,
        "logit_bias": head.logit_bias,
    }
    settings: dict[str, Any] = {
        "image_encoder": {"class_path": "medvlp.models.TimmEncoder", "init_args": dual.image_encoder},
        "text_encoder": {"class_path": "medvlp.models.DualTextEncoder", "init_args": {"name": name}},
        "objectives": {OBJECTIVE: {"class_path": "medvlp.objectives.SharedSpace", "init_args": space}},
    }
    try:
        with warnings.catch_warnings():
            # A task made from settings stores these, not its modules.
            warnings.filterwarnings("ignore", ".*is an instance of `nn.Module` and is already saved")
            task: PretrainingTask = instantiate_module(PretrainingTask, settings)
        task.image_encoder.fit(dual.framing.crop)
        cast("SharedSpace", task.objectives[OBJECTIVE]).head.load_state_dict(head.state)
    except UserError:
        raise
    except Exception as error:  # what does not fit together, in the words of whatever finds out first
        reason = concise(str(error)) or type(error).__name__
        raise UserError(f"weights='{name}' cannot be made by this medvlp: {reason}") from error
    task.preprocessing = Preprocessing(**asdict(dual.framing))
    return task.eval().requires_grad_(False)
