"""Every task in every precision: bf16-true trains as fp32 does, and what cannot be right is refused."""

import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

import medvlp
from medvlp.data import Augmentation, CXRDataModule
from medvlp.errors import UserError
from medvlp.tasks import ClassificationTask, DetectionTask, SegmentationTask, TorchvisionDetectionTask
from medvlp.tasks.precision import BFloat16Weights
from medvlp.trainer.command import main
from tests.support.runs import QUIET
from tests.support.tiny import options

pytestmark = pytest.mark.slow

RESNET, VIT = "test_resnet.r160_in1k", "test_vit.r160_in1k"
OVERLAYS = {"imitate": [], "asg": ["overlays/small_asg"], "imitate_asg": ["overlays/small_imitate_asg"]}


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")


class Losses(Callback):
    """Keeps the loss of each step."""

    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(float(outputs["loss"]))


def pre_train(place, name, precision, *arguments, verb="fit", image=RESNET):
    """Run a verb of a pre-training on the tiny data; ASG with a text encoder that is trained, too."""
    configs = [part for config in (name, "overlays/small", *OVERLAYS[name]) for part in ("-c", config)]
    encoder = {"class_path": "TimmEncoder", "init_args": {"name": image, "pretrained": False, "weights": None}}
    return main(
        [
            *(verb, *configs, *options(place / "data", place / "bert")),
            f"--model.image_encoder={json.dumps(encoder)}",
            f"--model.text_encoder.init_args.trainable_layers={1 if name == 'asg' else 0}",
            f"--trainer.precision={precision}",
            *("--trainer.logger=false", "--data.resize=null", "--data.batch_size=24"),
            "--data.augmentation={horizontal_flip: 0, vertical_flip: 0, rotation: 0, perspective: 0, autocontrast: 0}",
            f"--trainer.callbacks+={__name__}.Losses",
            *arguments,
        ]
    )


def losses_of(trainer):
    return next(callback for callback in trainer.callbacks if isinstance(callback, Losses)).values


@pytest.mark.parametrize("image", [RESNET, VIT])
@pytest.mark.parametrize("name", OVERLAYS)
def test_pre_training_in_bf16_is_close_to_fp32_and_learns(place, name, image):
    # All training images make one batch: each step has the same loss to lower.
    steps = ["--trainer.max_steps=12", "--trainer.max_epochs=-1", "--trainer.limit_val_batches=0"]
    rate = ["--model.optimizer.init_args.lr=5e-4", "--model.warmup=0"]
    exact = losses_of(pre_train(place, name, "32-true", *steps, *rate, image=image))
    trainer = pre_train(place, name, "bf16-true", *steps, *rate, image=image)
    losses = losses_of(trainer)
    assert isinstance(trainer.precision_plugin, BFloat16Weights)
    assert losses[0] == pytest.approx(exact[0], rel=0.01)
    assert losses[:3] == pytest.approx(exact[:3], rel=0.03)
    assert losses[-1] < 0.97 * losses[0]
    # Weights are in bf16, and what they could not hold is not: normalisation, batch statistics, scales.
    task = trainer.lightning_module
    kinds = {name: p.dtype for name, p in task.named_parameters()}
    assert {dtype for key, dtype in kinds.items() if task.get_parameter(key).ndim > 1} == {torch.bfloat16}
    assert {b.dtype for b in task.buffers() if b.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_checkpoint_in_bf16_is_validated_tested_and_loaded(place, name):
    pre_train(place, name, "bf16-true", "--trainer.max_steps=2", "--trainer.limit_val_batches=1")
    (path,) = Path("runs").rglob("last.ckpt")
    found = {}
    for verb in ("validate", "test"):
        for precision in ("bf16-true", "32-true"):
            trainer = pre_train(place, name, precision, f"--ckpt_path={path}", verb=verb)
            found[verb, precision] = {k: float(v) for k, v in trainer.callback_metrics.items()}
        assert found[verb, "bf16-true"].keys() == found[verb, "32-true"].keys()
    assert found["validate", "bf16-true"]["val/loss"] == pytest.approx(
        found["validate", "32-true"]["val/loss"], rel=0.03
    )
    model = medvlp.load(path)
    saved = torch.load(path, weights_only=True)["state_dict"]
    for key, value in model.task.state_dict().items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, saved[key].float())
    images = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    assert all(rows.isfinite().all() for rows in model.embed_images(images).values())


def test_batch_statistics_are_those_of_fp32(place):
    def statistics(precision):
        steps = ["--trainer.max_steps=6", "--trainer.max_epochs=-1", "--model.optimizer.init_args.lr=1e-9"]
        task = pre_train(place, "imitate", precision, *steps, "--trainer.limit_val_batches=0").lightning_module
        return {key: value for key, value in task.named_buffers() if key.endswith(("running_mean", "running_var"))}

    ours, exact = statistics("bf16-true"), statistics("32-true")
    for key, value in exact.items():
        torch.testing.assert_close(ours[key], value, rtol=0.05, atol=0.05 * float(value.abs().mean()))


DOWNSTREAM = {
    "classification": (lambda **o: ClassificationTask(labels=["Cardiomegaly", "Pleural Effusion"], **o), None),
    "segmentation": (lambda **o: SegmentationTask(channels=[16, 16, 8, 8, 8], **o), "mask"),
    "yolo": (lambda **o: DetectionTask(channels=[8, 8, 8], **o), "box"),
    "fcos": (lambda **o: TorchvisionDetectionTask(channels=32, **o), "box"),
}


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("kind", DOWNSTREAM)
def test_downstream_tasks_in_bf16(place, kind, freeze, cached):
    if cached and not freeze:
        pytest.skip("features that change are not cached")
    make, targets = DOWNSTREAM[kind]
    still = Augmentation(horizontal_flip=0, vertical_flip=0, rotation=0, perspective=0, autocontrast=0)
    # FCOS halves the coarsest map twice. oneDNN 3.13 leaves parts of the weight's gradient unwritten where a strided
    # convolution in bf16 reads a map of one pixel, which a crop of up to 64 gives it.
    framing = {"resize": 96, "crop": 96} if kind == "fcos" else {"crop": 32}
    found = {}
    for precision in ("32-true", "bf16-true"):
        torch.manual_seed(0)
        task = make(weights="random", architecture=RESNET, freeze=freeze, cache_features=cached)
        data = CXRDataModule(
            place / "data", batch_size=8, num_workers=0, views=1, targets=targets, augmentation=still, **framing
        )
        trainer = Trainer(
            max_epochs=2,
            precision=precision,
            callbacks=[Losses()],
            **QUIET,
        )
        trainer.fit(task, data)
        (metrics,) = trainer.test(task, data)
        found[precision] = losses_of(trainer)[0], set(metrics), task
    assert found["bf16-true"][0] == pytest.approx(found["32-true"][0], rel=0.03)
    assert found["bf16-true"][1] == found["32-true"][1] != set()
    assert {p.dtype for p in found["bf16-true"][2].parameters() if p.ndim > 1} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["zeroshot/open_i", "retrieval/open_i", "grounding/rsna"])
def test_evaluations_in_bf16(place, name):
    pre_train(place, "imitate_asg", "32-true", "--trainer.max_steps=1", "--trainer.limit_val_batches=1")
    (path,) = Path("runs").rglob("last.ckpt")
    chosen = [*options(place / "data"), f"--model.weights={path}", "--trainer.logger=false", "--data.split=null"]
    trainer = main(["test", "-c", name, *chosen, "--trainer.precision=bf16-true"])
    assert all(torch.isfinite(value) for value in trainer.callback_metrics.values())


@pytest.mark.parametrize("precision", ["16-true", "64-true"])
def test_other_precisions_are_refused_in_one_line(place, precision):
    with pytest.raises(UserError, match="bf16-true") as error:
        pre_train(place, "imitate", precision)
    assert f"--trainer.precision {precision}" in str(error.value)
    assert "\n" not in str(error.value)
    task = ClassificationTask(weights="random", architecture=RESNET)
    trainer = Trainer(precision=precision, logger=False, accelerator="cpu")
    with pytest.raises(UserError, match=precision):
        trainer.test(task, CXRDataModule(place / "data", num_workers=0, crop=32))


def test_what_bf16_weights_lose_is_said(place):
    with pytest.warns(UserWarning, match="1/256"):
        pre_train(place, "imitate", "bf16-true", "--trainer.max_steps=1", "--trainer.limit_val_batches=0")
