"""Text encoder of a published pair, with its own tokenizer, pooling and projection."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from torch import Tensor

from medvlp.models.published import find_dual, short_name
from medvlp.models.text import PROBE, TextEncoder


class DualTextEncoder(TextEncoder):
    """The text half of a published pair, frozen. An embedding is the model's own text feature, not yet normalised.

    Args:
        name: See `medvlp.models.published.find_dual`.

    Raises:
        UserError: If it is no such pair, or its files cannot be had or do not fit.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._title = short_name(name)
        self.tower = find_dual(name).tower()
        self.width = self.tower.width
        self.requires_grad_(False)
        self.eval()

    @property
    def title(self) -> str:
        """Short name of the pair."""
        return self._title

    def identity(self) -> str:
        """Return the name of the cache; it depends on the tokens of a long text, too."""
        tokens = self.tower.tokens([*PROBE, "No left pleural effusion. " * 200])
        content = str({name: value.tolist() for name, value in tokens.items()}).encode()
        return f"{super().identity()}-{hashlib.blake2b(content, digest_size=4).hexdigest()}"

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Embed one batch of M strings; returns float (M, D)."""
        device = self._device()
        features: Tensor = self.tower(**{name: value.to(device) for name, value in self.tower.tokens(texts).items()})
        return features
