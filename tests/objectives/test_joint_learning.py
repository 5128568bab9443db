"""Each objective of whole images learns a toy problem: kinds of studies that images, reports and labels show."""

from types import SimpleNamespace

import pytest
import torch

from medvlp.parse import FINDINGS
from medvlp.types import NOT_MENTIONED, PRESENT, ImageFeatures, TextFeatures
from tests.support.joint import KINDS, LABELS, TEXT, WIDTH, Reader, sentence_batch

NAMES = [f"{kind.__name__}-{i}" for i, (kind, _) in enumerate(KINDS)]
FINDING = ["cardiomegaly", "pleural effusion", "pacemaker"]
STUDIES = 36


def problem(seed=0):
    """Return features in which one of three findings decides everything but the noise."""
    noise = torch.Generator().manual_seed(seed)
    kind = torch.arange(STUDIES) % 3
    means = torch.Generator().manual_seed(5)
    shown, told = torch.randn(3, WIDTH, generator=means), torch.randn(3, TEXT, generator=means)
    image = shown[kind] + 0.3 * torch.randn(STUDIES, WIDTH, generator=noise)
    text = told[kind] + 0.3 * torch.randn(STUDIES, TEXT, generator=noise)
    existence = torch.full((STUDIES, len(FINDINGS)), NOT_MENTIONED, dtype=torch.int8)
    existence[range(STUDIES), [FINDINGS.index(FINDING[k]) for k in kind]] = PRESENT
    there = torch.ones(STUDIES, dtype=torch.bool)
    batch = {
        "image": torch.zeros(STUDIES, 1, 4, 4, dtype=torch.uint8),
        "existence": existence,
        "label": torch.nn.functional.one_hot(kind, 3).to(torch.int8),
        "findings_mask": there,
        "impression_mask": there,
        "sentence": sentence_batch(torch.arange(STUDIES), existence),
    }
    sections = dict.fromkeys(("findings", "impression", "report"), text)
    return ImageFeatures(image, []), TextFeatures(sections, sentence=text), batch, kind


def accuracy(objective, texts):
    """Return how many images of another draw of noise are nearest to the text of their finding."""
    image, _, _, kind = problem(seed=1)
    with torch.no_grad():
        seen = next(iter(objective.eval().embed_image(image).values()))
        best = objective.similarity(seen, objective.embed_text(texts)).argmax(1)
    objective.train()
    return (best == kind).float().mean().item()


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=NAMES)
def test_it_learns(kind, options):
    torch.manual_seed(0)
    reader = Reader()
    image, text, batch, finding = problem()
    sizes = {} if kind.__name__ == "LabelClassification" else {"dim": 8, "hidden": 16}
    objective = kind(SimpleNamespace(width=WIDTH), reader, **sizes, **options)
    # Objectives of labels know their names, the others what reports say of them.
    named = reader.constant(label_texts(objective)) if kind.__name__.startswith("Label") else None
    texts = torch.stack([text.sections["report"][finding == k].mean(0) for k in range(3)]) if named is None else named
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.02)
    losses = []
    for _ in range(80):
        loss = sum(objective(image, text, batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    # Chance is a third.
    assert accuracy(objective, texts) > 0.9


def label_texts(objective):
    texts = (objective.statements if hasattr(objective, "statements") else objective.texts).texts
    return [texts[objective.labels.names.index(name)] for name in LABELS]
