"""The average of the weights: what it is, who sees it, and that a resumed run goes on as if there had been no break."""

from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.models import HFTextEncoder, TimmEncoder
from medvlp.objectives import GlobalAlignment, HierarchicalAlignment
from medvlp.tasks import ClassificationTask, PretrainingTask
from medvlp.tasks.checkpoints import load_pretraining
from medvlp.trainer.command import main
from medvlp.trainer.ema import EMA
from tests.support.processes import ForkedProcesses
from tests.support.runs import QUIET, clear_environment
from tests.support.tiny import make_language_model, make_prepared, options

pytestmark = pytest.mark.slow

STEPS = 6  # of three an epoch


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ema")
    make_prepared(folder / "data")
    make_language_model(folder / "bert")
    return folder


def floats(task):
    return {k: v.detach().clone() for k, v in task.state_dict().items() if torch.is_tensor(v) and v.is_floating_point()}


class Watched(PretrainingTask):
    """Notes the weights at the end of each validation, where it embeds the texts of zero-shot classification."""

    def on_validation_epoch_end(self):
        super().on_validation_epoch_end()
        self.seen = [*getattr(self, "seen", []), floats(self)]


class Steps(Callback):
    """Notes the weights after each step, before and after each validation."""

    def __init__(self):
        self.weights, self.around, self.drawn = [], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step > len(self.weights):
            self.weights.append(floats(pl_module))

    def on_validation_end(self, trainer, pl_module):
        self.drawn.append(floats(pl_module))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.around.append(floats(pl_module))


def make_task(place, kind=Watched, image="test_resnet.r160_in1k", lr=3e-3):
    L.seed_everything(0)
    objectives = {
        "hierarchical": partial(HierarchicalAlignment, dim=16, grid=4),
        "report": partial(GlobalAlignment, dim=8, hidden=8),
    }
    if image != "test_resnet.r160_in1k":
        del objectives["hierarchical"]
    optimizer = partial(torch.optim.AdamW, lr=lr)
    text = HFTextEncoder(str(place / "bert"), trainable_layers=1)
    return kind(TimmEncoder(image, pretrained=False), text, objectives, optimizer=optimizer)


def fit(place, folder, task, *callbacks, ckpt_path=None, average=True, steps=STEPS, **more):
    writer = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    averaging = [EMA(0.8)] if average else []
    trainer = L.Trainer(
        **{**QUIET, **more}, max_epochs=2, max_steps=steps, default_root_dir=folder,
        callbacks=[*averaging, *callbacks, writer],
    )  # fmt: skip
    data = CXRDataModule(place / "data", batch_size=8, crop=32, num_workers=0)
    trainer.fit(task, data, ckpt_path=ckpt_path, weights_only=False)
    return trainer


def averages(weights, start, decay=0.8):
    """The average after each step, by a loop."""
    average, found = {k: v.double() for k, v in start.items()}, []
    for n, step in enumerate(weights):
        d = min(decay, (1 + n) / (10 + n))
        average = {k: d * v + (1 - d) * step[k].double() for k, v in average.items()}
        found.append(average)
    return found


def assert_close(got, expected, **tolerance):
    for name, value in expected.items():
        torch.testing.assert_close(got[name].double(), value.double(), msg=name, **tolerance)


@pytest.fixture(scope="module")
def run(place):
    """A run with EMA: folder, task, and what was seen of it."""
    folder, steps = place / "run", Steps()
    task = make_task(place)
    start = floats(task)
    fit(place, folder, task, steps)
    return folder, task, steps, averages(steps.weights, start)


def test_validation_and_checkpoints_hold_the_average(run):
    folder, task, steps, expected = run
    assert len(expected) == STEPS
    norms = [name for name in expected[0] if name.endswith("running_mean")]
    assert norms  # of batch norms
    # The first validation is of the start.
    for seen, drawn, step in zip(task.seen[1:], steps.drawn[1:], (3, 6), strict=True):
        assert_close(seen, expected[step - 1], rtol=1e-5, atol=1e-6)
        # So do callbacks that look at the model afterwards.
        assert_close(drawn, seen, rtol=0, atol=0)
    for step in range(1, STEPS + 1):
        checkpoint = torch.load(folder / f"step={step}.ckpt", weights_only=False)
        assert_close(checkpoint["state_dict"], expected[step - 1], rtol=1e-5, atol=1e-6)
        live = checkpoint["callbacks"]["EMA"]["weights"]
        assert_close(steps.weights[step - 1], live, rtol=0, atol=0)
        assert live.keys() >= {*norms, *(name for name, p in task.named_parameters() if p.requires_grad)}
    # Training itself goes on with the weights of the last step.
    for before, after in zip(steps.weights, steps.around[1:], strict=False):
        assert_close(after, before, rtol=0, atol=0)
    # Afterwards the model is what the last checkpoint holds.
    assert_close(floats(task), expected[-1], rtol=1e-5, atol=1e-6)
    moved = [(expected[-1][k] - v).norm() / v.norm() for k, v in steps.weights[-1].items() if "weight" in k]
    assert max(moved) > 1e-2  # an average unlike the last weights


def test_training_is_the_same_with_and_without(place, run, tmp_path):
    steps = Steps()
    fit(place, tmp_path, make_task(place), steps, average=False)
    for a, b in zip(steps.weights, run[2].weights, strict=True):
        assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("step", [3, 4])
def test_a_resumed_run_equals_one_without_a_break(place, run, tmp_path, step):
    folder, task, *_ = run
    resumed = make_task(place)
    fit(place, tmp_path, resumed, ckpt_path=folder / f"step={step}.ckpt")
    assert_close(floats(resumed), floats(task), rtol=0, atol=0)
    one, two = (torch.load(place / f / "step=6.ckpt", weights_only=False) for f in (folder, tmp_path))
    assert_close(two["callbacks"]["EMA"]["weights"], one["callbacks"]["EMA"]["weights"], rtol=0, atol=0)
    assert one["callbacks"]["EMA"]["count"] == two["callbacks"]["EMA"]["count"] == STEPS


def test_a_run_without_average_is_taken_up(place, tmp_path):
    fit(place, tmp_path / "plain", make_task(place), average=False)
    steps, task = Steps(), make_task(place)
    fit(place, tmp_path, task, steps, ckpt_path=tmp_path / "plain" / "step=4.ckpt")
    start = torch.load(tmp_path / "plain" / "step=4.ckpt", weights_only=False)["state_dict"]
    start = {k: v for k, v in start.items() if torch.is_tensor(v) and v.is_floating_point()}
    assert_close(floats(task), averages(steps.weights, start)[-1], rtol=1e-5, atol=1e-6)


def test_accumulated_batches_are_one_step(place, tmp_path):
    steps, task = Steps(), make_task(place)
    start = floats(task)
    fit(place, tmp_path, task, steps, accumulate_grad_batches=3, steps=2)
    assert len(steps.weights) == 2
    assert_close(floats(task), averages(steps.weights, start)[-1], rtol=1e-5, atol=1e-6)


def test_the_average_is_of_the_network_that_is_fitted_to_the_data(place, tmp_path):
    # Made for 160 pixels; its positions are resampled to 32 when the data are known.
    task = make_task(place, image="test_vit.r160_in1k")
    fit(place, tmp_path, task, steps=2)
    assert task.image_encoder.side == 32


def test_weights_in_bf16_have_an_average_in_fp32(place, tmp_path):
    task = make_task(place)
    fit(place, tmp_path, task, precision="bf16-true")
    state = torch.load(tmp_path / "step=6.ckpt", weights_only=False)
    wide = [k for k, v in state["callbacks"]["EMA"]["weights"].items() if v.dtype == torch.bfloat16]
    assert wide
    assert all(state["state_dict"][k].dtype == torch.float32 for k in wide)
    assert any((state["state_dict"][k].bfloat16().float() != state["state_dict"][k]).any() for k in wide)
    resumed = make_task(place)
    fit(place, tmp_path / "resumed", resumed, ckpt_path=tmp_path / "step=4.ckpt", precision="bf16-true")
    again = torch.load(tmp_path / "resumed" / "step=6.ckpt", weights_only=False)
    assert_close(again["state_dict"], {k: state["state_dict"][k] for k in wide}, rtol=0, atol=0)


def test_two_processes_average_as_one(place, tmp_path):
    for devices, batch_size in ((2, 4), (1, 8)):
        L.seed_everything(0)
        objectives = {"report": partial(GlobalAlignment, dim=8, hidden=8)}
        image = TimmEncoder("test_vit.r160_in1k", pretrained=False, image_size=32)
        task = PretrainingTask(
            image, HFTextEncoder(str(place / "bert")), objectives, optimizer=partial(torch.optim.SGD, lr=1e-2)
        )
        writer = ModelCheckpoint(tmp_path / str(devices), filename="{step}", save_top_k=-1, every_n_train_steps=1)
        trainer = L.Trainer(
            **QUIET, max_steps=3, devices=devices, strategy=ForkedProcesses() if devices > 1 else "auto",
            callbacks=[EMA(0.8), writer], default_root_dir=tmp_path / str(devices), limit_val_batches=2,
        )  # fmt: skip
        trainer.fit(task, CXRDataModule(place / "data", batch_size, crop=32, num_workers=0))
    two, one = (torch.load(tmp_path / str(n) / "step=3.ckpt", weights_only=False) for n in (2, 1))
    weights = {k for k in one["callbacks"]["EMA"]["weights"] if "num_batches" not in k}
    for state, other in (
        (one["state_dict"], two["state_dict"]),
        *[[c["callbacks"]["EMA"]["weights"] for c in (one, two)]],
    ):
        for name in weights:
            torch.testing.assert_close(other[name], state[name], rtol=1e-3, atol=1e-5, msg=name)


def test_a_trained_head_is_averaged_too(place, tmp_path):
    task = ClassificationTask(weights="random", architecture="test_resnet.r160_in1k", labels=["Cardiomegaly"])
    steps = Steps()
    start = floats(task)
    fit(place, tmp_path, task, steps)
    head = {k for k in start if not k.startswith("encoder.")}
    expected = averages(steps.weights, start)[-1]
    assert_close(floats(task), {k: expected[k] for k in head}, rtol=1e-5, atol=1e-6)
    state = torch.load(tmp_path / "step=6.ckpt", weights_only=True)["state_dict"]
    assert {k for k in state if k in start} == head  # the frozen encoder is not stored
    assert_close(state, {k: expected[k] for k in head}, rtol=1e-5, atol=1e-6)


def test_what_would_not_hold_the_average_is_refused(place, tmp_path):
    bare = ModelCheckpoint(tmp_path, filename="bare", save_weights_only=True)
    with pytest.raises(UserError, match="save_weights_only=true, and would write the weights of the last step"):
        fit(place, tmp_path, make_task(place), bare)
    for decay in (0, 1, -0.5, 1.5):
        with pytest.raises(UserError, match=f"EMA decay={decay}"):
            EMA(decay)


def test_from_the_command_line(place, tmp_path, monkeypatch):
    clear_environment(monkeypatch)
    monkeypatch.chdir(tmp_path)
    small = [*options(place / "data", place / "bert"), "--trainer.logger=false", "--trainer.log_every_n_steps=1"]
    small += ["--model.objectives.hierarchical.dim=16", "--model.objectives.hierarchical.grid=4", "--data.crop=32"]
    length = ["--trainer.max_epochs=2", "--trainer.default_root_dir=runs"]
    trainer = main(["fit", "-c", "imitate", "-c", "overlays/ema", *small, *length])
    names = [type(c).__name__ for c in trainer.callbacks]
    assert names.index("HeatMaps") < names.index("EMA") < names.index("ModelCheckpoint")
    for name in ("best", "last"):
        (path,) = tmp_path.rglob(f"{name}.ckpt")
        content = torch.load(path, weights_only=True)
        model = load_pretraining(path)
        live = content["callbacks"]["EMA"]["weights"]
        apart = [k for k, v in model.state_dict().items() if k in live and not torch.equal(v, live[k])]
        assert len(apart) > len(live) // 2
        assert_close(floats(model), {k: content["state_dict"][k] for k in live}, rtol=0, atol=0)
