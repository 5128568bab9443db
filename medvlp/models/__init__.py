"""Encoders, and the networks on top of them: projection heads, decoders, detectors.

They take tensors or texts, and know neither data sets nor objectives.
"""

from medvlp.models.aggregation import ChannelAggregation
from medvlp.models.batch_norm import GlobalBatchNorm
from medvlp.models.heads import ProjectionHead
from medvlp.models.image import ImageEncoder
from medvlp.models.query_decoder import QueryDecoder
from medvlp.models.text import TextEncoder

__all__ = ["ChannelAggregation", "GlobalBatchNorm", "ImageEncoder", "ProjectionHead", "QueryDecoder", "TextEncoder"]
