"""A checkpoint as `medvlp fit` writes it, of a tiny model with the weights of chance."""

from copy import deepcopy
from pathlib import Path

import torch
from lightning.pytorch.cli import instantiate_module

from medvlp.tasks import PretrainingTask
from tests.support.tiny import make_language_model

OBJECTIVES = {
    "hierarchical": ("HierarchicalAlignment", {"dim": 16, "grid": 4}),
    "report": ("GlobalAlignment", {"dim": 8, "hidden": 24}),
    "region": ("RegionAlignment", {"dim": 8, "hidden": 24}),
    "tag": ("TagDecoding", {"dim": 16, "hidden": 24, "layers": 1}),
}


def make_checkpoint(folder: Path, names=("report", "region", "tag"), size=40, crop=32, fit="pad", seed=0):
    """Write FOLDER/model.ckpt and the language model that it needs."""
    language = folder / "bert"
    if not language.exists():
        make_language_model(language)
    image = {"name": "test_resnet.r160_in1k", "pretrained": False, "weights": None, "image_size": None}
    text = {"name": str(language), "trainable_layers": 0, "pooling": "mean", "max_length": 16}
    settings = {
        "_class_path": "medvlp.tasks.PretrainingTask",
        "image_encoder": {"class_path": "medvlp.models.TimmEncoder", "init_args": image},
        "text_encoder": {"class_path": "medvlp.models.HFTextEncoder", "init_args": text},
        "objectives": {
            name: {"class_path": f"medvlp.objectives.{OBJECTIVES[name][0]}", "init_args": OBJECTIVES[name][1]}
            for name in names
        },
    }
    torch.manual_seed(seed)
    task = instantiate_module(PretrainingTask, deepcopy(settings))
    # Statistics of batch norms that tell images apart, as training would leave them.
    task.train()
    for _ in range(40):
        image = torch.randint(60, (16, crop, crop), dtype=torch.uint8)
        image[torch.rand(16) < 0.5, crop // 2 :, : crop // 2] += 150
        image[torch.rand(16) < 0.5, : crop // 3, crop // 3 : 2 * crop // 3] += 100
        with torch.no_grad():
            task.embed_images(task.image_encoder(image))
    checkpoint = {
        "epoch": 5,
        "global_step": 540,
        "state_dict": task.state_dict(),
        "hyper_parameters": {**settings, "_instantiator": "lightning.pytorch.cli.instantiate_module"},
        "pytorch-lightning_version": "2.6.0",
        "data": {
            "preprocessing": {"size": size, "fit": fit, "resize": None, "crop": crop},
            "dataset": "tiny",
            "synthetic": True,
            "sha256": {},
            "split": "quarters",
            "split_sha256": None,
            "train_splits": ["train"],
            "images": 24,
        },
    }
    path = folder / f"model-{'-'.join(names)}-{seed}.ckpt"
    torch.save(checkpoint, path)
    return path
