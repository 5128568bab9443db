"""Trained heads say, as models that are tested as they are do, whether their encoder has seen the test patients."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from medvlp.__main__ import main
from medvlp.data import CXRDataModule
from medvlp.models import TimmEncoder
from medvlp.models.pretrained import pretrained_on
from medvlp.prepared import Prepared
from medvlp.tasks import ClassificationTask, ZeroShotTask
from medvlp.tasks.seen import UNKNOWN
from tests.support.runs import QUIET
from tests.support.tiny import make_prepared
from tests.support.trained import make_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Prepared data, and a model that was trained on some of it: its `data` can be changed."""
    folder = tmp_path_factory.mktemp("seen")
    make_prepared(folder / "data")
    return folder


@pytest.fixture(scope="module")
def trained(place):
    def write(name, **changes):
        """Write a checkpoint that was trained on train of the split `quarters`, but for the changes."""
        content = torch.load(make_checkpoint(place), weights_only=True)
        split = Prepared.open(place / "data").split_variants["quarters"]
        content["data"] |= {"synthetic": False, "split_sha256": split["sha256"], **changes}
        content |= {"epoch": 0, "global_step": 1}
        torch.save(content, place / name)
        return place / name

    return write


def notes(place, weights, kind=ClassificationTask, **data):
    task = kind(weights=str(weights), labels=["Cardiomegaly"])
    module = CXRDataModule(place / "data", crop=32, num_workers=0, **data)
    trainer = Trainer(**QUIET)
    trainer.test(task, module, verbose=False)
    return task.notes


def patients(place, *splits, variant="quarters"):
    return {*Prepared.open(place / "data").of_splits(splits, ["subject_id"], variant)["subject_id"].to_pylist()}


def test_a_trained_head_says_what_zero_shot_says(place, trained):
    weights = trained("all.ckpt", train_splits=["train", "validate", "test"])
    tested = len(patients(place, "test"))
    expected = [f"{tested} of {tested} test patients were in the model's training data."]
    assert notes(place, weights) == notes(place, weights, ZeroShotTask) == expected
    # As it should be, there is nothing to say.
    assert notes(place, trained("train.ckpt")) == []
    # Of the other split, some of the test images are of patients that it has seen.
    seen = patients(place, "test", variant="halves") & patients(place, "train")
    count = len(patients(place, "test", variant="halves"))
    expected = [f"{len(seen)} of {count} test patients were in the model's training data."]
    assert notes(place, place / "train.ckpt", split="halves") == expected


def test_data_of_another_preparation(place, trained):
    weights = trained("other.ckpt", split_sha256="0" * 64)
    assert notes(place, weights) == [
        "whether test patients were in the model's training data (tiny, split quarters) is not known."
    ]
    assert notes(place, trained("elsewhere.ckpt", dataset="open_i", split_sha256="0" * 64)) == []


def test_an_exported_folder_says_it_too(place, trained):
    weights = trained("all.ckpt", train_splits=["train", "test"])
    main(["export", str(weights), "--out", str(place / "exported")])
    assert pretrained_on(str(place / "exported")) == pretrained_on(str(weights))
    assert notes(place, place / "exported")[0].endswith("test patients were in the model's training data.")


@pytest.mark.parametrize("content", ["bare", "state_dict", "data", "old"])
def test_of_foreign_weights_it_is_not_known(place, content, tmp_path):
    state = TimmEncoder("test_resnet", pretrained=False).backbone.state_dict()
    wrapped = {"bare": state, "state_dict": {"state_dict": state}, "old": {"state_dict": state, "data": {}}}
    wrapped["data"] = {"state_dict": state, "data": {"dataset": "MIMIC"}}
    torch.save(wrapped[content], tmp_path / "foreign.pth")

    class Task(ClassificationTask):
        def __init__(self, weights, labels):
            super().__init__(weights=weights, labels=labels, architecture="test_resnet")

    assert notes(place, tmp_path / "foreign.pth", Task) == [UNKNOWN]


def test_there_is_nothing_to_say_of_weights_that_have_seen_no_patients():
    assert pretrained_on("imagenet") == pretrained_on("random") == {}
    assert pretrained_on(str(Path(__file__))) is None
