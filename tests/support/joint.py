"""Random features of studies with reports, sentences and labels, which can be cut and put together again."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from medvlp.objectives import GlobalAlignment
from medvlp.objectives.label_alignment import LabelAlignment
from medvlp.objectives.label_classification import LabelClassification
from medvlp.objectives.semantic_matching import SemanticMatching
from medvlp.objectives.sigmoid_alignment import SigmoidAlignment
from medvlp.objectives.study_alignment import StudyAlignment
from medvlp.parse import FINDINGS, LABEL_SETS, REGIONS
from medvlp.types import NOT_MENTIONED, ImageFeatures, SentenceBatch, TextFeatures, text_ids

WIDTH, TEXT = 12, 10
LABELS = ["Cardiomegaly", "Pleural Effusion", "Support Devices"]
# Findings of three labels, so that studies share some.
STATED = [FINDINGS.index(name) for name in ("cardiomegaly", "pleural effusion", "edema")]
# Study 2 has no report, study 4 no Impression, study 5 no Findings.
SENTENCES = [2, 3, 0, 4, 1, 3, 2, 4]
STUDIES = len(SENTENCES)


class Reader:
    """A text encoder whose embedding of a text is a random vector of its own."""

    width, frozen = TEXT, True

    def constant(self, texts):
        rows = [torch.randn(TEXT, generator=torch.Generator().manual_seed(int(i) % 9973)) for i in text_ids(texts)]
        return torch.stack(rows)


class Trained(Reader):
    """A text encoder with a weight."""

    frozen = False

    def __init__(self):
        self.weight = torch.ones(TEXT, requires_grad=True)

    def __call__(self, texts):
        return self.constant(texts) * self.weight


def make(kind, reader=None, **options):
    torch.manual_seed(0)
    sizes = {} if kind is LabelClassification else {"dim": 8, "hidden": 14}
    return kind(SimpleNamespace(width=WIDTH), reader or Reader(), **{**sizes, **options})


def sentence_batch(study, existence):
    """Return sentences with a text each; what no test reads is zero."""
    count = len(study)
    return SentenceBatch(
        [f"sentence {s}" for s in range(count)],
        torch.arange(1, count + 1),
        torch.zeros(count, dtype=torch.int64),
        study,
        torch.zeros(count, dtype=torch.int64),
        torch.zeros(count, 3, dtype=torch.int64),
        existence,
        torch.zeros(count, len(REGIONS), dtype=torch.bool),
    )


class Studies:
    """Features of B studies with V views each, by study."""

    def __init__(self, views=1, sentences=SENTENCES, seed=1):
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        studies = len(sentences)
        self.views = views
        self.pooled = torch.randn(studies, views, WIDTH)
        self.text = {name: torch.randn(studies, TEXT) + 0.3 for name in ("findings", "impression", "report")}
        self.sentence = [torch.randn(count, TEXT) for count in sentences]
        self.existence = self._states(rng, studies)
        self.said = [self._states(rng, count) for count in sentences]
        self.label = torch.from_numpy(rng.integers(-2, 2, (studies, len(LABELS))).astype(np.int8))
        number = torch.arange(studies)
        written = torch.tensor(sentences) > 0
        self.findings_mask, self.impression_mask = written & (number != 5), written & (number != 4)
        self.existence[~written] = NOT_MENTIONED

    @staticmethod
    def _states(rng, count):
        out = np.full((count, len(FINDINGS)), NOT_MENTIONED, np.int8)
        out[:, STATED] = rng.integers(-2, 2, (count, len(STATED)))
        return torch.from_numpy(out)

    def leaves(self):
        return [self.pooled, *self.text.values(), *self.sentence]

    def inputs(self, order):
        """Return features and batch of some studies in an order."""
        order = list(order)
        study = torch.tensor([b for b, i in enumerate(order) for _ in self.sentence[i]], dtype=torch.int64)
        image = ImageFeatures(self.pooled[order].flatten(0, 1), [torch.zeros(1)])
        sentence = torch.cat([self.sentence[i] for i in order])
        text = TextFeatures({name: rows[order] for name, rows in self.text.items()}, sentence=sentence)
        batch = {
            "image": torch.zeros(len(order), self.views, 4, 4, dtype=torch.uint8),
            "existence": self.existence[order],
            "label": self.label[order],
            "findings_mask": self.findings_mask[order],
            "impression_mask": self.impression_mask[order],
            "sentence": sentence_batch(study, torch.cat([self.said[i] for i in order])),
            "region": None,
        }
        return image, text, batch


CLIP = {"soft_label_weight": 0.0, "learned_temperature": True, "head": "linear", "directions": (0.5, 0.5)}
CONVIRT = {"soft_label_weight": 0.0, "head": "mlp", "directions": (0.75, 0.25), "text": "sentence"}
KINDS = [
    (GlobalAlignment, CLIP),
    (GlobalAlignment, {**CONVIRT, "learned_temperature": True}),
    (SigmoidAlignment, {}),
    (StudyAlignment, {}),
    (StudyAlignment, {"labels": LABELS}),
    (SemanticMatching, {}),
    (SemanticMatching, {"labels": LABELS}),
    (LabelAlignment, {}),
    (LabelAlignment, {"labels": LABELS}),
    (LabelClassification, {}),
    (LabelClassification, {"labels": LABELS}),
]
assert set(LABELS) <= set(LABEL_SETS["chexpert"])
