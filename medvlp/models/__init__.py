"""Encoders and the small networks on top of them."""

from medvlp.models.aggregation import ChannelAggregation
from medvlp.models.batch_norm import GlobalBatchNorm
from medvlp.models.decoder import QueryDecoder
from medvlp.models.heads import ProjectionHead
from medvlp.models.image import ImageEncoder
from medvlp.models.text import TextEncoder

__all__ = ["ChannelAggregation", "GlobalBatchNorm", "ImageEncoder", "ProjectionHead", "QueryDecoder", "TextEncoder"]
