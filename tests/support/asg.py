"""Random features of a batch with regions, which can be cut into studies and put together again."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from medvlp.data.regions import StudyRegions, collate_regions
from medvlp.data.sentences import StudySentences, collate_sentences
from medvlp.data.statements import Statements
from medvlp.objectives import GlobalAlignment, RegionAlignment, TagDecoding
from medvlp.parse import FINDINGS
from medvlp.types import ImageFeatures, TextFeatures

WIDTH, PATCH, WORD, GRID, SIDE = 24, 12, 10, 4, 32
REGIONS = [3, 2, 0, 4, 1, 3, 2, 5]
SENTENCES = [2, 3, 0, 4, 1, 3, 2, 4]
STUDIES = len(REGIONS)


def encoders():
    class Text:
        width = WORD

        def constant(self, texts):
            generator = torch.Generator().manual_seed(5)
            return torch.randn(len(texts), WORD, generator=generator)

    return SimpleNamespace(width=WIDTH, patch_width=PATCH), Text()


def make(kind, **options):
    torch.manual_seed(0)
    sizes = {"dim": 16, "heads": 2, "dropout": 0.0, "layers": 2} if kind is TagDecoding else {"dim": 8}
    return kind(*encoders(), **{"hidden": 14, **sizes, **options})


class Studies:
    """Features of B studies with V views each, by study."""

    def __init__(self, views=1, regions=REGIONS, sentences=SENTENCES, seed=1):
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        studies = len(regions)
        self.views = views
        self.pooled = torch.randn(studies, views, WIDTH)
        self.patches = torch.randn(studies, views, PATCH, GRID, GRID)
        self.report = torch.randn(studies, WORD) + 0.3
        self.existence = torch.from_numpy(rng.integers(-2, 2, (studies, len(FINDINGS))).astype(np.int8))
        self.has_report = torch.tensor([i != 4 for i in range(studies)])
        self.regions, self.sentences, self.words = [], [], []
        nothing = Statements.nothing()
        for count, said in zip(regions, sentences, strict=True):
            corner = rng.integers(0, GRID - 1, (views, count, 2))
            size = rng.integers(1, 3, (views, count, 2))
            end = np.minimum(corner + size, GRID)
            box = np.concatenate([corner, end], 2).astype(np.float32) * (SIDE / GRID)
            # The last of many sentences mentions no region.
            spoken = said - (said > 2)
            aligned = (rng.random((count, said)) < 0.5) & (np.arange(said) < spoken)
            aligned[np.arange(count), np.arange(count) % max(spoken, 1)] = True
            texts = [f"sentence {rng.integers(4)}" for _ in range(said)]
            span = np.stack([np.arange(said), np.arange(said) + 1], 1).astype(np.int64).reshape(-1, 2)
            visible = rng.random((views, count)) < 0.8
            self.regions.append(StudyRegions(np.arange(count), aligned, box, visible))
            none = np.zeros(said, np.int64)
            sentences = StudySentences(texts, span, none, none, nothing.existence[none], nothing.region[none])
            self.sentences.append(sentences)
            # Every fifth sentence was cut off.
            counts = [0 if rng.random() < 0.2 else int(rng.integers(1, 4)) for _ in range(said)]
            self.words.append([torch.randn(n, WORD) for n in counts])

    def leaves(self):
        words = [w for study in self.words for w in study]
        return [self.pooled, self.patches, self.report, *words]

    def inputs(self, order):
        """Return features and batch of some studies in an order."""
        order = list(order)
        words = [w for i in order for w in self.words[i]]
        number = torch.tensor([s for s, w in enumerate(words) for _ in range(len(w))], dtype=torch.long)
        image = ImageFeatures(
            self.pooled[order].flatten(0, 1), [torch.zeros(1), self.patches[order].flatten(0, 1)], patch_level=1
        )
        word = torch.cat(words) if words else torch.zeros(0, WORD)
        text = TextFeatures({"report": self.report[order]}, word, number)
        batch = {
            "image": torch.zeros(len(order), self.views, SIDE, SIDE, dtype=torch.uint8),
            "existence": self.existence[order],
            "findings_mask": self.has_report[order],
            "impression_mask": torch.zeros(len(order), dtype=torch.bool),
            "sentence": collate_sentences([self.sentences[i] for i in order]),
            "region": collate_regions([self.regions[i] for i in order]),
        }
        return image, text, batch


KINDS = [
    (GlobalAlignment, {}),
    (RegionAlignment, {}),
    (RegionAlignment, {"negatives": "batch"}),
    (RegionAlignment, {"roi_size": 3}),
    (RegionAlignment, {"background": True}),
    (RegionAlignment, {"background": True, "negatives": "batch"}),
    (TagDecoding, {}),
    (TagDecoding, {"uncertain": "masked", "unmentioned": "masked"}),
]
