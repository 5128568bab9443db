"""Encoders, and the networks on top of them: projection heads, decoders, detectors.

Models take tensors or texts, and import neither data sets nor objectives. A new encoder is one file here with a
subclass of `ImageEncoder` or `TextEncoder`. Configs can name the class without further changes.
"""

from importlib import import_module
from pkgutil import iter_modules

from medvlp.models.aggregation import ChannelAggregation
from medvlp.models.batch_norm import GlobalBatchNorm
from medvlp.models.dual_text_encoder import DualTextEncoder
from medvlp.models.heads import HeadKind, ProjectionHead, make_head
from medvlp.models.hf_text_encoder import HFTextEncoder
from medvlp.models.image import ImageEncoder
from medvlp.models.image_tokens import ImageTokens, PatchTokens
from medvlp.models.pair_decoder import PairDecoder
from medvlp.models.query_decoder import QueryDecoder
from medvlp.models.temperature import Temperature
from medvlp.models.text import TextEncoder
from medvlp.models.timm_encoder import TimmEncoder

__all__ = [
    "ChannelAggregation",
    "DualTextEncoder",
    "GlobalBatchNorm",
    "HFTextEncoder",
    "HeadKind",
    "ImageEncoder",
    "ImageTokens",
    "PairDecoder",
    "PatchTokens",
    "ProjectionHead",
    "QueryDecoder",
    "Temperature",
    "TextEncoder",
    "TimmEncoder",
    "make_head",
]

for module in iter_modules(__path__):
    import_module(f"{__name__}.{module.name}")
