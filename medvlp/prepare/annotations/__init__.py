"""Boxes and masks that annotators drew.

`contract` says what a reader returns. Each other file holds one form in which annotations are handed out, for all data
sets that have it. What a single data set has is in `medvlp.prepare.layouts`.
"""

from medvlp.prepare.annotations.contract import Annotation, AnnotationSource, Box, annotated_side, cut_boxes

__all__ = ["Annotation", "AnnotationSource", "Box", "annotated_side", "cut_boxes"]
