"""Random features of a batch whose reports have sentences and words, which can be cut into studies and put together."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from medvlp.objectives.gloria import GLoRIA
from medvlp.objectives.mgca import MGCA
from medvlp.objectives.vecl import VECL
from medvlp.parse import FINDINGS, REGIONS
from medvlp.types import ImageFeatures, PhraseFeatures, SentenceBatch, TextFeatures, text_ids

WIDTH, PATCH, WORD, GRID, SIDE = 14, 12, 10, 3, 24
# Words of the sentences of each study; the third has no report, the sixth a report whose words are beyond the limit of
# the encoder.
SAID = [[2, 1], [3], [], [1, 2, 4], [1], [0], [2, 2], [5]]
STUDIES = len(SAID)


def encoders(width=WIDTH):
    return SimpleNamespace(width=width, patch_width=PATCH), SimpleNamespace(width=WORD)


class Reports:
    """Features of B studies with V views each, by study."""

    def __init__(self, views=1, said=SAID, seed=1, width=WIDTH):
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        studies = len(said)
        self.views = views
        self.pooled = torch.randn(studies, views, width)
        self.patches = torch.randn(studies, views, PATCH, GRID, GRID)
        self.report = torch.randn(studies, WORD) + 0.3
        self.has_report = torch.tensor([bool(counts) for counts in said])
        self.words = [[torch.randn(count, WORD) for count in counts] for counts in said]
        self.sentences = [torch.randn(len(counts), WORD) for counts in said]
        self.texts = [[f"sentence {rng.integers(6)}" for _ in counts] for counts in said]
        # Few findings, so that statements agree with and contradict reports.
        self.existence = [
            torch.from_numpy(np.where(rng.random((len(c), len(FINDINGS))) < 0.05, rng.integers(-1, 2, (len(c), 1)), -2))
            for c in said
        ]

    def leaves(self):
        words = [word for study in self.words for word in study]
        return [self.pooled, self.patches, self.report, *words, *self.sentences]

    def inputs(self, order=None):
        """Return features and batch of some studies in an order."""
        order = [int(i) for i in (range(len(self.words)) if order is None else order)]
        words = [word for i in order for word in self.words[i]]
        texts = [text for i in order for text in self.texts[i]]
        number = torch.tensor([s for s, word in enumerate(words) for _ in range(len(word))], dtype=torch.long)
        study = torch.tensor([b for b, i in enumerate(order) for _ in self.texts[i]], dtype=torch.long)
        image = ImageFeatures(
            self.pooled[order].flatten(0, 1), [torch.zeros(1), self.patches[order].flatten(0, 1)], patch_level=1
        )
        existence = torch.cat([self.existence[i] for i in order]).to(torch.int8).reshape(-1, len(FINDINGS))
        report = torch.full((len(order), len(FINDINGS)), -2, dtype=torch.int8)
        for b in range(len(order)):
            for value in (0, -1, 1):
                report[b][(existence[study == b] == value).any(0)] = value
        text = TextFeatures(
            {"report": self.report[order]},
            torch.cat(words) if words else torch.zeros(0, WORD, requires_grad=True),
            number,
            torch.cat([self.sentences[i] for i in order]),
        )
        batch = {
            "image": torch.zeros(len(order), self.views, SIDE, SIDE, dtype=torch.uint8),
            "index": torch.tensor(order),
            "existence": report,
            "findings_mask": self.has_report[order],
            "impression_mask": torch.zeros(len(order), dtype=torch.bool),
            "sentence": SentenceBatch(
                texts,
                text_ids(texts),
                text_ids([text if int(text[-1]) % 2 else "" for text in texts]),
                study,
                torch.zeros_like(study),
                torch.stack([study, study, study], 1),
                existence,
                torch.zeros(len(texts), len(REGIONS), dtype=torch.bool),
            ),
        }
        return image, text, batch


def phrases(counts=(2, 1, 3), seed=5):
    """Return phrases with a number of words each."""
    noise = torch.Generator().manual_seed(seed)
    texts = [f"phrase {m}" for m in range(len(counts))]
    pooled, word = torch.randn(len(counts), WORD, generator=noise), torch.randn(sum(counts), WORD, generator=noise)
    return PhraseFeatures(texts, pooled, word, torch.tensor([m for m, c in enumerate(counts) for _ in range(c)]))


KINDS = {
    "gloria": (GLoRIA, {}),
    "mgca": (MGCA, {"hidden": 16, "dim": 8, "prototypes": 5, "frozen_epochs": 0}),
    "vecl": (VECL, {"heads": 2, "layers": 2, "hidden": 16, "dropout": 0.0}),
}


def make(name, width=WIDTH, **options):
    torch.manual_seed(0)
    kind, own = KINDS[name]
    return kind(*encoders(width), **{**own, **options})
