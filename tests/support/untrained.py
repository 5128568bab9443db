"""A checkpoint as `medvlp fit` writes it before its first step; its images are resized before they are cropped."""

from copy import deepcopy

import torch
from lightning.pytorch.cli import instantiate_module

from medvlp.tasks import PretrainingTask
from tests.support.tiny import WORDS, make_language_model
from tests.support.trained import OBJECTIVES

CROP, SIZE = 32, 48


def make_checkpoint(folder, names=tuple(OBJECTIVES)):
    """Write a checkpoint as `medvlp fit` does, untrained; return its path."""
    language = folder / "bert"
    if not language.exists():
        make_language_model(language, [*WORDS, "edema", "study", "chest"])
    image = {"name": "test_resnet.r160_in1k", "pretrained": False}
    made_of = {
        "image_encoder": {"class_path": "medvlp.models.TimmEncoder", "init_args": image},
        "text_encoder": {"class_path": "medvlp.models.HFTextEncoder", "init_args": {"name": str(language)}},
        "objectives": {
            name: {"class_path": f"medvlp.objectives.{OBJECTIVES[name][0]}", "init_args": OBJECTIVES[name][1]}
            for name in names
        },
    }
    torch.manual_seed(0)
    task = instantiate_module(PretrainingTask, deepcopy(made_of))
    data = {"preprocessing": {"size": SIZE, "fit": "pad", "resize": 40, "crop": CROP}, "dataset": "mimic_cxr"}
    path = folder / f"{'-'.join(names)}.ckpt"
    hyper_parameters = {"_class_path": "medvlp.tasks.PretrainingTask", **made_of}
    torch.save({"state_dict": task.state_dict(), "hyper_parameters": hyper_parameters, "data": data}, path)
    return path
