"""Tasks: what the Trainer runs."""

from medvlp.tasks.base import BaseTask
from medvlp.tasks.pretraining import PretrainingTask
from medvlp.tasks.zeroshot import ZeroShotTask

__all__ = ["BaseTask", "PretrainingTask", "ZeroShotTask"]
