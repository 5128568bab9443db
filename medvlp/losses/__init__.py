"""Losses: functions from features or logits to one scalar, or to named terms.

No loss knows an encoder, a batch or a projection head; `medvlp.objectives` has these.
"""

from medvlp.losses.alignment import contrastive_loss, region_sentence_loss, soft_label_loss, tag_loss
from medvlp.losses.detection import detection_loss
from medvlp.losses.label_contrast import label_contrast_loss, semantic_matching_loss
from medvlp.losses.late_interaction import attended_cosine, multi_positive_loss
from medvlp.losses.mentions import relation_loss
from medvlp.losses.pairs import pair_loss
from medvlp.losses.prototypes import prototype_loss, sinkhorn
from medvlp.losses.segmentation import segmentation_loss
from medvlp.losses.sigmoid import sigmoid_loss
from medvlp.losses.targets import ClinicalPrior, SoftLabels
from medvlp.losses.tokens import token_loss, token_weights
from medvlp.losses.words import local_similarity, word_cosine

__all__ = [
    "ClinicalPrior",
    "SoftLabels",
    "attended_cosine",
    "contrastive_loss",
    "detection_loss",
    "label_contrast_loss",
    "local_similarity",
    "multi_positive_loss",
    "pair_loss",
    "prototype_loss",
    "region_sentence_loss",
    "relation_loss",
    "segmentation_loss",
    "semantic_matching_loss",
    "sigmoid_loss",
    "sinkhorn",
    "soft_label_loss",
    "tag_loss",
    "token_loss",
    "token_weights",
    "word_cosine",
]
