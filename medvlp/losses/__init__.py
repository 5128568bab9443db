"""Losses: functions from features or logits to one scalar, or to named terms.

No loss knows an encoder, a batch or a projection head; `medvlp.objectives` has these.
"""

from medvlp.losses.alignment import contrastive_loss, region_sentence_loss, soft_label_loss, tag_loss
from medvlp.losses.detection import detection_loss
from medvlp.losses.label_contrast import label_contrast_loss, semantic_matching_loss
from medvlp.losses.segmentation import segmentation_loss
from medvlp.losses.sigmoid import sigmoid_loss
from medvlp.losses.targets import ClinicalPrior, SoftLabels

__all__ = [
    "ClinicalPrior",
    "SoftLabels",
    "contrastive_loss",
    "detection_loss",
    "label_contrast_loss",
    "region_sentence_loss",
    "segmentation_loss",
    "semantic_matching_loss",
    "sigmoid_loss",
    "soft_label_loss",
    "tag_loss",
]
