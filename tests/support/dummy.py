"""A task, an objective and a data module small enough to run the real command line with; also a script for DDP."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

from medvlp.config.experiments import DEFAULTS
from medvlp.errors import NotFoundError

CALLBACKS = yaml.safe_load(DEFAULTS.read_text())["trainer"]["callbacks"]
MONITOR = next(c["init_args"]["monitor"] for c in CALLBACKS if c["class_path"] == "ModelCheckpoint")


class DummyObjective(nn.Module):
    def __init__(self, weight: float = 1.0, level: Literal["flat", "hierarchical"] = "flat"):
        super().__init__()


class DummyBase(LightningModule, ABC):
    def __init__(self, lr: float = 0.1):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Linear(4, 1)
        self.lr = lr

    @abstractmethod
    def output(self, batch): ...

    def training_step(self, batch, batch_idx):
        self.log("train/loss", loss := self.output(batch))
        return loss

    def validation_step(self, batch, batch_idx):
        self.log(MONITOR, self.output(batch), sync_dist=True)

    def test_step(self, batch, batch_idx):
        self.log("test/loss", self.output(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class DummyPretraining(DummyBase):
    def __init__(
        self, objectives: dict[str, DummyObjective] | None = None, width: int = 3, fail: str = "", **kwargs: Any
    ):
        super().__init__(**kwargs)
        if width < 1:
            raise ValueError(f"width={width}, but must be positive.")
        self.fail = fail

    def output(self, batch):
        if self.fail == "interrupt":
            raise KeyboardInterrupt
        if self.fail == "print":
            print("No pleural effusion.")
        if self.fail == "bug":
            raise RuntimeError("a bug")
        return self.net(batch["image"]).pow(2).mean()


class DummyClassification(DummyBase):
    def output(self, batch):
        return self.net(batch["image"]).mean()


class DummyData(LightningDataModule):
    def __init__(self, root: str = "prepared", batch_size: int = 2):
        super().__init__()
        self.root, self.batch_size = root, batch_size

    def setup(self, stage):
        if self.root == "missing":
            raise NotFoundError("root='missing' is not a prepared folder.\nRun 'medvlp prepare'.")

    def train_dataloader(self):
        return torch.utils.data.DataLoader([{"image": torch.ones(4)}] * 8, self.batch_size)

    val_dataloader = test_dataloader = train_dataloader


def main(args):
    import medvlp.trainer.callbacks
    import medvlp.trainer.heat_maps  # noqa: F401 - so that defaults.yaml finds its callbacks
    from medvlp.trainer.command import run

    return run(DummyBase, DummyData, args)


if __name__ == "__main__":
    main(sys.argv[1:])
