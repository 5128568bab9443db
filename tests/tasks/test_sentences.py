"""Objectives that read sentences get them, each embedded alone, and a frozen encoder embeds them before training."""

import lightning as L
import pyarrow.parquet as pq
import pytest
import torch

from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.models import HFTextEncoder, TimmEncoder
from medvlp.objectives import Objective
from medvlp.prepared import INDEX, TRIPLETS
from medvlp.tasks import PretrainingTask
from tests.support.runs import QUIET
from tests.support.tiny import make_prepared

pytestmark = pytest.mark.slow


class Sentences(Objective):
    """Reads all sentences, and keeps what it was given."""

    reads_sentences = True

    def __init__(self, image_encoder, text_encoder):
        super().__init__()
        self.head = torch.nn.Linear(text_encoder.width, image_encoder.width)
        self.given = []

    def forward(self, image, text, batch):
        self.given.append((text, batch["sentence"]))
        rows = (
            self.head(text.sentence) * image.pooled.unflatten(0, batch["image"].shape[:2])[batch["sentence"].study, 0]
        )
        return {"distance": rows.square().mean()}


def run(root, language, **options):
    L.seed_everything(0)
    encoder = TimmEncoder("test_resnet.r160_in1k", pretrained=False)
    task = PretrainingTask(encoder, HFTextEncoder(str(language), **options), {"own": Sentences})
    trainer = L.Trainer(max_epochs=1, **QUIET, default_root_dir=root.parent, limit_val_batches=1)
    trainer.fit(task, CXRDataModule(root, batch_size=8, crop=32, num_workers=0))
    return task


@pytest.fixture
def root(tmp_path):
    return make_prepared(tmp_path / "data")


@pytest.mark.parametrize("trainable_layers", [0, 1])
def test_each_sentence_is_embedded_alone(root, language, trainable_layers):
    task = run(root, language, trainable_layers=trainable_layers)
    text, sentence = task.objectives["own"].given[-1]
    assert len(sentence.text) == len(text.sentence) > 8
    assert len(set(sentence.text)) < len(sentence.text)
    assert text.sections == {}
    assert text.word is None
    task.text_encoder.eval()
    if not trainable_layers:
        alone = torch.cat([task.text_encoder.embed([text]) for text in sentence.text])
        torch.testing.assert_close(text.sentence, alone, rtol=1e-4, atol=1e-5)
    rows = {name: text.sentence[i] for i, name in enumerate(sentence.text)}
    assert all((text.sentence[i] == rows[name]).all() for i, name in enumerate(sentence.text))


def test_a_trained_encoder_learns_from_sentences(root, language):
    task = run(root, language, trainable_layers=None)
    start = HFTextEncoder(str(language)).language_model.state_dict()
    end = task.text_encoder.language_model.state_dict()
    assert any((end[name] != value).any() for name, value in start.items())


def test_a_frozen_encoder_embeds_all_sentences_before_training(root, language, monkeypatch):
    embedded = []
    fill = HFTextEncoder.fill

    def counted(self, texts, *arguments, **options):
        embedded.append(list(texts))
        fill(self, texts, *arguments, **options)

    monkeypatch.setattr(HFTextEncoder, "fill", counted)
    run(root, language)
    rows = [row for row in pq.read_table(root / INDEX).to_pylist() if row["split"] in ("train", "validate")]
    assert len(embedded) == 1
    assert set(embedded[0]) >= {row[section] for row in rows for section in ("findings", "impression")} - {None}


def test_reports_of_which_all_are_alike_are_explained(root, language):
    (root / TRIPLETS).unlink()
    table = pq.read_table(root / INDEX)
    for findings, said in ((None, "have no words"), ("Clear.", "say word for word the same")):
        rows = [{**row, "findings": findings, "impression": None} for row in table.to_pylist()]
        pq.write_table(type(table).from_pylist(rows, table.schema), root / INDEX)
        with pytest.raises(UserError, match=rf"objective 'own' learns from the sentences.*{said}"):
            run(root, language)
