"""A run that is to learn a batch by heart ends in a verdict."""

from functools import partial

import lightning as L
import pytest
import torch

from medvlp.__main__ import main
from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.models import HFTextEncoder, TimmEncoder
from medvlp.objectives import GlobalAlignment, RegionAlignment, TagDecoding
from medvlp.tasks import PretrainingTask
from medvlp.tasks.overfit import Overfit, fallen
from tests.support.runs import QUIET, UNCHANGED
from tests.support.tiny import options

pytestmark = pytest.mark.slow

ASG = {
    "report": partial(GlobalAlignment, dim=16, hidden=24),
    "region": partial(RegionAlignment, dim=16, hidden=24),
    "tag": partial(TagDecoding, dim=16, hidden=24, layers=1),
}


class Seen(L.Callback):
    """Remembers what was trained and validated on."""

    def __init__(self):
        self.trained, self.validated = [], []

    def on_train_batch_start(self, trainer, module, batch, *args):
        self.trained.append(batch["image"])

    def on_validation_batch_start(self, trainer, module, batch, *args):
        self.validated.append(batch["image"])


def fit(place, lr, steps, objectives=ASG, **data):
    L.seed_everything(0)
    task = PretrainingTask(
        TimmEncoder("test_resnet.r160_in1k", pretrained=False),
        HFTextEncoder(str(place / "bert")),
        objectives,
        optimizer=partial(torch.optim.AdamW, lr=lr, weight_decay=0.0),
    )
    seen = Seen()
    trainer = L.Trainer(
        overfit_batches=1,
        max_epochs=-1,
        max_steps=steps,
        check_val_every_n_epoch=steps,
        num_sanity_val_steps=0,
        **QUIET,
        enable_checkpointing=False,
        callbacks=[seen],
    )
    module = CXRDataModule(place / "data", **{"batch_size": 8, "crop": 32, "num_workers": 0, "regions": True, **data})
    module.augmentation = UNCHANGED
    trainer.fit(task, module)
    (verdict,) = (callback for callback in trainer.callbacks if isinstance(callback, Overfit))
    return verdict, seen


def test_a_configuration_that_learns(place, caplog):
    verdict, seen = fit(place, 3e-3, 250)
    assert verdict.learnt, caplog.text
    assert verdict.last["train/loss"] < 0.5 * verdict.first["train/loss"]
    assert any("Verdict: this configuration can learn (250 steps" in message for message in caplog.messages)
    assert any("i2t_R@1" in message for message in caplog.messages)
    # The same views each time, in training as in validation.
    assert len(seen.trained) == 250
    assert all(torch.equal(batch, seen.trained[0]) for batch in seen.trained)
    (validated,) = seen.validated
    assert torch.equal(validated[:, 0], seen.trained[0][:, 0])
    assert seen.trained[0].shape[:2] == (8, 2)


def test_a_configuration_that_cannot_learn(place):
    with pytest.raises(UserError, match=r"does not learn: after 10 steps on the same 1 batch\(es\) the loss is"):
        fit(place, 0.0, 10)


def test_a_configuration_that_has_not_had_the_time(place, caplog):
    verdict, _ = fit(place, 1e-3, 12)
    assert verdict.learnt is False
    assert any("has not learnt its images by heart after 12 steps" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("first", "last", "expected"), [(2, 1, True), (2, 1.95, False), (2, 3, False), (-1, -2, True), (0, 0, True)]
)
def test_fallen(first, last, expected):
    assert fallen(first, last) is expected


def test_few_steps_have_no_verdict(place, caplog):
    assert fit(place, 0.0, 2)[0].learnt is None
    assert any("No verdict: 2 steps are too few" in message for message in caplog.messages)


@pytest.mark.parametrize("order", ["first", "last"])
def test_the_option_of_the_command_line(place, tmp_path, monkeypatch, caplog, order):
    monkeypatch.chdir(tmp_path)
    rest = ["-c", "imitate", *options(place / "data", place / "bert"), "--trainer.max_steps=60"]
    line = ["fit", "--overfit", *rest] if order == "first" else ["fit", *rest, "--overfit"]
    main([*line, "--model.optimizer.lr=0.003"])
    assert "Verdict: this configuration" in caplog.text
    # Nothing is kept of it but the config.
    assert not list(tmp_path.rglob("*.ckpt"))


def test_other_tasks_are_judged_by_their_loss(place, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    size = ["--data.resize=32", "--model.weights=random", "--model.architecture=test_resnet.r160_in1k"]
    rest = ["--model.cache_features=false", "--model.optimizer.lr=0.3", "--trainer.max_steps=80"]
    config = ["-c", "classification/mimic", "--overfit"]
    labels = ["--model.labels=[Cardiomegaly, Pleural Effusion]"]
    main(["fit", *config, *options(place / "data"), *size, *rest, *labels])
    assert "Verdict: this configuration can learn" in caplog.text
