"""Small checkpoints, as `medvlp fit` writes them, made without training; and processes that know nothing of them."""

import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import torch
from lightning.pytorch.cli import instantiate_module

from medvlp.objectives import GlobalAlignment
from medvlp.tasks import PretrainingTask

DATA = {
    "preprocessing": {"size": 48, "fit": "pad", "resize": 40, "crop": 32},
    "dataset": "mimic_cxr",
    "synthetic": False,
    "sha256": {},
    "split": "official",
    "split_sha256": "5" * 64,
    "train_splits": ["train"],
    "images": 1234,
}
OBJECTIVES = {
    "hierarchical": ("medvlp.objectives.HierarchicalAlignment", {"dim": 16, "grid": 4}),
    "report": ("medvlp.objectives.GlobalAlignment", {"dim": 8, "hidden": 24}),
    "region": ("medvlp.objectives.RegionAlignment", {"dim": 8, "hidden": 24}),
    "tag": ("medvlp.objectives.TagDecoding", {"dim": 16, "hidden": 24, "layers": 1}),
    "own": ("tests.support.checkpoints.Own", {"dim": 8, "hidden": 24}),
}
IMITATE_ASG = ("hierarchical", "report", "region", "tag")


class Own(GlobalAlignment):
    """An objective that is not of medvlp."""


def settings(language, names=IMITATE_ASG, image="test_resnet.r160_in1k", size=None, protocol="medvlp", **text):
    """Return the hyper-parameters of a checkpoint."""
    chosen = {"name": image, "pretrained": True, "weights": None, "image_size": size}
    return {
        "_class_path": "medvlp.tasks.PretrainingTask",
        "image_encoder": {"class_path": "medvlp.models.TimmEncoder", "init_args": chosen},
        "text_encoder": {
            "class_path": "medvlp.models.HFTextEncoder",
            "init_args": {"name": str(language), "trainable_layers": 0, "pooling": "cls", "max_length": 16, **text},
        },
        "objectives": {
            name: {"class_path": OBJECTIVES[name][0], "init_args": dict(OBJECTIVES[name][1])} for name in names
        },
        "protocol": str(protocol),
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
        "warmup": 0.1,
        "schedule": None,
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }


def save(path, hyper_parameters, **data):
    """Write a checkpoint whose weights, and statistics of batch norms, are those of chance."""
    made_of = deepcopy({k: hyper_parameters[k] for k in ("image_encoder", "text_encoder", "objectives", "protocol")})
    if "pretrained" in (image := made_of["image_encoder"]["init_args"]):
        image["pretrained"] = False
    torch.manual_seed(0)
    task = instantiate_module(PretrainingTask, made_of)
    for name, buffer in task.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    for parameter in task.text_encoder.parameters():
        # What training makes of a text encoder is in the checkpoint alone.
        parameter.data += 0.1 * torch.randn_like(parameter)
    checkpoint = {
        "epoch": 5,
        "global_step": 540,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": task.state_dict(),
        "hyper_parameters": hyper_parameters,
        "data": {**deepcopy(DATA), **data},
    }
    torch.save(checkpoint, path)
    return path


def python(code, folder, *arguments):
    """Run Python in a new process in a folder, without a network; return what it prints."""
    path = str(Path(__file__).parents[2])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "PYTHONPATH": path}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def snippets(card):
    """Return the Python of a model card, one text a way to use the model."""
    return [part.partition("```")[0] for part in card.read_text().split("```python\n")[1:]]
