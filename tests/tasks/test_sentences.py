"""Objectives that read sentences get them, each embedded alone, and a frozen encoder embeds them before training."""

from functools import partial

import lightning as L
import pyarrow.parquet as pq
import pytest
import torch

from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.models import HFTextEncoder, TimmEncoder
from medvlp.objectives import Objective, RegionAlignment
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


class Words(Sentences):
    """Reads the words of all sentences."""

    reads_sentences, reads_words = False, True

    def forward(self, image, text, batch):
        self.given.append((text, batch["sentence"]))
        return {"norm": self.head(text.word).square().mean()}


def run(root, language, kind=Sentences, **options):
    L.seed_everything(0)
    encoder = TimmEncoder("test_resnet.r160_in1k", pretrained=False)
    task = PretrainingTask(encoder, HFTextEncoder(str(language), **options), {"own": kind})
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


@pytest.mark.parametrize("trainable_layers", [0, 1])
def test_words_are_those_of_all_sentences(root, language, trainable_layers):
    task = run(root, language, Words, trainable_layers=trainable_layers)
    text, sentence = task.objectives["own"].given[-1]
    assert text.sentence is None
    assert (text.word_sentence.diff() >= 0).all()
    counts = text.word_sentence.bincount(minlength=len(sentence.text)).tolist()
    # The words of a trained encoder are those of the tokenizer, full stops included.
    assert counts == [len(t.split()) if trainable_layers else 1 for t in sentence.text]
    if not trainable_layers:
        torch.testing.assert_close(text.word, task.text_encoder(sentence.text))


@pytest.mark.parametrize("trainable_layers", [0, None])
def test_words_of_other_sentences_do_not_reach_region_alignment(tmp_path, language, trainable_layers):
    """Beside an objective that reads all words it does as it does alone, to the last digit."""
    root = make_prepared(tmp_path / "data", 16)
    table = pq.read_table(root / INDEX)
    # Sentences between those about regions, which the triplets do not know.
    rows = [{**row, "findings": f"there normal . {row['findings']} normal left ."} for row in table.to_pylist()]
    pq.write_table(type(table).from_pylist(rows, table.schema), root / INDEX)
    batch = next(iter(CXRDataModule(root, batch_size=8, crop=32, num_workers=0, regions=True).train_dataloader()))
    assert len(batch["region"].sentence) < len(batch["sentence"].text)
    region = partial(RegionAlignment, dim=8, hidden=24)
    seen = []
    for others in ({}, {"own": Words}):
        L.seed_everything(0)
        encoder = TimmEncoder("test_resnet.r160_in1k", pretrained=False)
        text_encoder = HFTextEncoder(str(language), trainable_layers=trainable_layers)
        task = PretrainingTask(encoder, text_encoder, {"region": region, **others})
        text_encoder.eval()
        features = task.encode_batch(batch)
        loss = task.objectives["region"](*features, batch)["contrastive"]
        head = task.objectives["region"].word_head
        seen.append((loss, [value.clone() for value in head.state_dict().values()], len(features[1].word)))
    (alone, state, few), (beside, other_state, many) = seen
    assert few < many
    torch.testing.assert_close(alone, beside, rtol=1e-6, atol=0)
    for one, other in zip(state, other_state, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


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
