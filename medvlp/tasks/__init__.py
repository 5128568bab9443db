"""Tasks, the Lightning modules that the Trainer runs: pre-training, downstream, and evaluation as it is.

They join data, encoders, objectives and metrics; `checks` and `checkpoints` serve them.
"""

from medvlp.tasks.base import BaseTask
from medvlp.tasks.classification import ClassificationTask
from medvlp.tasks.detection import DetectionTask
from medvlp.tasks.downstream import DownstreamTask
from medvlp.tasks.grounding import GroundingTask
from medvlp.tasks.per_image import PerImageTask
from medvlp.tasks.pretraining import PretrainingTask
from medvlp.tasks.retrieval import RetrievalTask
from medvlp.tasks.segmentation import SegmentationTask
from medvlp.tasks.torchvision_detection import TorchvisionDetectionTask
from medvlp.tasks.zeroshot import ZeroShotTask

__all__ = [
    "BaseTask",
    "ClassificationTask",
    "DetectionTask",
    "DownstreamTask",
    "GroundingTask",
    "PerImageTask",
    "PretrainingTask",
    "RetrievalTask",
    "SegmentationTask",
    "TorchvisionDetectionTask",
    "ZeroShotTask",
]
