"""Random features of a batch with the sentences of its reports, which can be cut into studies and put together."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from medvlp.parse import FINDINGS, REGIONS
from medvlp.types import (
    ABSENT,
    NOT_MENTIONED,
    PRESENT,
    UNCERTAIN,
    ImageFeatures,
    PhraseFeatures,
    SentenceBatch,
    TextFeatures,
)

WIDTH, PATCH, WORD, GRID, SIDE = 24, 12, 16, 4, 32
# One study without any report, and one whose only sentence states nothing.
SENTENCES = [2, 3, 0, 4, 1, 3, 2, 4]
STUDIES = len(SENTENCES)
SAYINGS, STATEMENTS = 9, 4


class TextEncoder:
    """Embeds a text by a hash of its letters; a linear layer over it is trained unless it is frozen."""

    width = WORD

    def __init__(self, frozen=True):
        self.frozen = frozen
        self.layer = torch.nn.Linear(WORD, WORD)

    def embed(self, texts):
        rows = [torch.randn(WORD, generator=torch.Generator().manual_seed(sum(map(ord, text)))) for text in texts]
        return self.layer(torch.stack(rows)) if rows else torch.zeros(0, WORD)

    def constant(self, texts):
        with torch.no_grad():
            return self.embed(texts)


def make(kind, frozen=True, **options):
    torch.manual_seed(0)
    image_encoder = SimpleNamespace(width=WIDTH, patch_width=PATCH)
    return kind(image_encoder, TextEncoder(frozen), **{"dropout": 0.0, **options})


class Studies:
    """Features of B studies with V views each, by study."""

    def __init__(self, views=1, sentences=SENTENCES, seed=1):
        rng = np.random.default_rng(seed)
        noise = torch.Generator().manual_seed(seed)
        self.views = views
        studies = len(sentences)

        def draw(*shape):
            return torch.randn(*shape, generator=noise)

        self.pooled = draw(studies, views, WIDTH)
        self.patches = draw(studies, views, PATCH, GRID, GRID)
        self.report = draw(studies, WORD)
        states = np.array([PRESENT, ABSENT, UNCERTAIN, NOT_MENTIONED], np.int8)
        self.existence = torch.from_numpy(rng.choice(states, (studies, len(FINDINGS)), p=[0.2, 0.2, 0.1, 0.5]))
        # What is said, what it states (0: nothing), and the words of each sentence; every fifth was cut off.
        self.saying = [rng.integers(1, SAYINGS, count) for count in sentences]
        self.statement = [saying % STATEMENTS for saying in self.saying]
        self.sentence = [draw(count, WORD) for count in sentences]
        counts = [[0 if rng.random() < 0.2 else int(rng.integers(1, 4)) for _ in range(count)] for count in sentences]
        self.words = [[draw(number, WORD) for number in of_study] for of_study in counts]

    def leaves(self):
        words = [word for study in self.words for word in study]
        return [self.pooled, self.patches, self.report, *self.sentence, *words]

    def inputs(self, order):
        """Return features and batch of some studies in an order."""
        order = list(order)
        saying = np.concatenate([self.saying[i] for i in order] or [np.zeros(0, int)])
        statement = np.concatenate([self.statement[i] for i in order] or [np.zeros(0, int)])
        words = [word for i in order for word in self.words[i]]
        study = torch.tensor([b for b, i in enumerate(order) for _ in self.saying[i]], dtype=torch.long)
        existence = torch.full((len(saying), len(FINDINGS)), NOT_MENTIONED, dtype=torch.int8)
        existence[np.flatnonzero(statement), statement[statement > 0]] = PRESENT
        image = ImageFeatures(
            self.pooled[order].flatten(0, 1), [torch.zeros(1), self.patches[order].flatten(0, 1)], patch_level=1
        )
        text = TextFeatures(
            {"report": self.report[order]},
            # As the words of a trained encoder, they have a gradient even if there are none.
            torch.cat([*words, self.report[:0]]),
            torch.tensor([s for s, word in enumerate(words) for _ in range(len(word))], dtype=torch.long),
            torch.cat([*(self.sentence[i] for i in order), torch.zeros(0, WORD)]),
        )
        sentence = SentenceBatch(
            text=[f"saying {number}" for number in saying],
            text_id=torch.from_numpy(saying).long(),
            statement_id=torch.from_numpy(statement).long(),
            study=study,
            section=torch.zeros_like(study),
            place=torch.zeros(len(study), 3, dtype=torch.long),
            existence=existence,
            region=torch.zeros(len(study), len(REGIONS), dtype=torch.bool),
        )
        has = torch.tensor([len(self.saying[i]) > 0 for i in order], dtype=torch.bool)
        batch = {
            "image": torch.zeros(len(order), self.views, SIDE, SIDE, dtype=torch.uint8),
            "existence": self.existence[order],
            "findings_mask": has,
            "impression_mask": torch.zeros_like(has),
            "sentence": sentence,
            "region": None,
        }
        return image, text, batch


def phrases(texts=("left pleural effusion", "cardiomegaly", "edema")):
    """Return texts with one or two words each."""
    noise = torch.Generator().manual_seed(3)
    owner = torch.tensor([m for m in range(len(texts)) for _ in range(1 + m % 2)], dtype=torch.long)
    pooled, word = (torch.randn(count, WORD, generator=noise) for count in (len(texts), len(owner)))
    return PhraseFeatures(list(texts), pooled, word, owner)
