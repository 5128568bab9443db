"""Learning rates by part and layer: each parameter has one rate at each step, and weight decay spares some of them."""

import math
from functools import partial
from itertools import pairwise

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from timm import create_model
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, OneCycleLR

from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.models import HFTextEncoder, ImageEncoder
from medvlp.objectives import GlobalAlignment, HierarchicalAlignment, RegionAlignment, TagDecoding
from medvlp.tasks import ClassificationTask, PretrainingTask
from medvlp.tasks.parameter_groups import RATES, is_decayed
from medvlp.types import ImageFeatures
from tests.support.runs import ONE_SPLIT, QUIET, UNCHANGED
from tests.support.tiny import make_language_model, make_prepared

pytestmark = pytest.mark.slow

STEPS = 6
ADAMW = partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.05)


class Stages(ImageEncoder):
    """Three stages with a position, a class token and norms, which say which layers they are."""

    def __init__(self):
        super().__init__()
        widths = [1, 4, 8, 16]
        self.position = nn.Parameter(torch.zeros(1, 1, 32, 32))
        self.cls_token = nn.Parameter(torch.zeros(1, 16))
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o), nn.ReLU()) for i, o in pairwise(widths)
        )

    def forward(self, image):
        x, pyramid = self.normalise(image) + self.position, []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x)
        return ImageFeatures(x.mean((2, 3)) + self.cls_token, pyramid)

    side = 32

    def parameters_by_depth(self):
        return [[self.position, self.cls_token], *(list(stage.parameters()) for stage in self.stages)]


class OneLayer(Stages):
    def parameters_by_depth(self):
        return ImageEncoder.parameters_by_depth(self)


class Record(Callback):
    """Rates of each parameter, by name, at each step."""

    def __init__(self):
        self.rates, self.metrics = [], {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.metrics = dict(trainer.callback_metrics)  # of the step before

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        names = {parameter: name for name, parameter in pl_module.named_parameters()}
        self.rates.append({names[p]: g["lr"] for g in optimizer.param_groups for p in g["params"]})
        self.decay = {names[p]: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    make_prepared(folder / "data")
    make_language_model(folder / "bert")
    return folder


def make_task(place, encoder=Stages, trainable=None, kind=PretrainingTask, **options):
    L.seed_everything(0)
    text = HFTextEncoder(str(place / "bert"), trainable_layers=trainable, max_length=16)
    objectives = {"report": partial(GlobalAlignment, dim=8, hidden=8)}
    return kind(encoder(), text, objectives, optimizer=ADAMW, **options)


def fit(place, task, folder=None, ckpt_path=None, epochs=2, steps=STEPS):
    record = Record()
    callbacks = [record]
    if folder:
        callbacks.append(ModelCheckpoint(folder, filename="{step}", save_top_k=-1, every_n_train_steps=1))
    trainer = L.Trainer(
        **{**QUIET, "logger": False}, max_steps=steps, max_epochs=epochs, callbacks=callbacks, default_root_dir=place,
        limit_val_batches=0, num_sanity_val_steps=0, enable_checkpointing=bool(folder),
    )  # fmt: skip
    data = CXRDataModule(place / "data", batch_size=8, crop=32, num_workers=0, augmentation=UNCHANGED, **ONE_SPLIT)
    # Its hyper-parameters are modules, as no command line makes them.
    trainer.fit(task, data, ckpt_path=ckpt_path, weights_only=False)
    return record, trainer


def test_without_options_there_is_one_group_as_before(place):
    task = make_task(place)
    record, trainer = fit(place, task)
    (group,) = trainer.optimizers[0].param_groups
    expected = [p for p in task.parameters() if p.requires_grad]
    assert all(a is b for a, b in zip(group["params"], expected, strict=True))
    assert len(record.rates) == STEPS
    assert "train/lr/head" not in record.metrics


@pytest.mark.parametrize("exclude", [False, True])
def test_each_parameter_has_its_rate_at_each_step(place, exclude):
    options = {"image_lr": 2e-4, "text_lr": 1e-5, "layer_decay": 0.5, "exclude_bias_and_norm": exclude, "warmup": 0.5}
    task = make_task(place, **options)
    record, _ = fit(place, task)
    trained = {name for name, p in task.named_parameters() if p.requires_grad}
    assert set(record.decay) == trained
    factors = [
        min((step + 1) / 3, 1) if step < 3 else (1 + math.cos(math.pi * (step - 3) / 3)) / 2 for step in range(6)
    ]
    text = len(task.text_encoder.parameters_by_depth())
    assert text == 3
    for step, rates in enumerate(record.rates):
        for name, rate in rates.items():
            if name.startswith("image_encoder."):
                depth = int(name.split(".")[2]) + 1 if "stages" in name else 0
                expected = 2e-4 * 0.5 ** (3 - depth)
            elif name.startswith("text_encoder."):
                depth = int(name.partition("layer.")[2][0]) + 1 if "layer." in name else 0
                expected = 1e-5 * 0.5 ** (2 - depth)
            else:
                expected = 1e-3
            assert rate == pytest.approx(expected * factors[step], rel=1e-9), (name, step)
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            apart = parameter.ndim == 1 or "position" in name or "cls_token" in name
            assert record.decay[name] == (0 if exclude and apart else 0.05), name
    metrics = record.metrics
    assert metrics["train/lr"] == metrics["train/lr/head"] == pytest.approx(1e-3 * factors[5])
    assert metrics["train/lr/image"] == pytest.approx(metrics["train/lr"] / 5)
    assert metrics["train/lr/text"] == pytest.approx(metrics["train/lr"] / 100)


def test_a_resumed_run_equals_one_without_a_break(place, tmp_path):
    options = {"image_lr": 2e-4, "text_lr": 1e-5, "layer_decay": 0.5, "exclude_bias_and_norm": True}
    whole = make_task(place, **options)
    fit(place, whole, tmp_path)
    again = make_task(place, **options)
    record, _ = fit(place, again, ckpt_path=tmp_path / "step=4.ckpt")
    assert len(record.rates) == STEPS - 4
    for (name, one), other in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, name
    with pytest.raises(UserError, match=r"other groups of them: resume with its image_lr.* --model.weights"):
        fit(place, make_task(place), ckpt_path=tmp_path / "step=4.ckpt")


class Further(PretrainingTask):
    """A task with a module beside encoders and objectives."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.further = nn.Linear(2, 2)
        self.objectives["report"].encoder = self.image_encoder


def test_each_trained_parameter_is_in_one_group(place):
    options = {"image_lr": 1e-4, "kind": Further}
    record, trainer = fit(place, task := make_task(place, **options))
    grouped = [p for group in trainer.optimizers[0].param_groups for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {p for p in task.parameters() if p.requires_grad}
    assert record.rates[0]["further.weight"] == 1e-3


REFUSED = {
    "a frozen text encoder": ({"trainable": 0, "text_lr": 1e-5}, "nothing of the text encoder is trained"),
    "no rate": ({"image_lr": 0.0}, "image_lr=0.0: pass a rate above 0"),
    "a negative rate": ({"head_lr": -1e-3}, "head_lr=-0.001: pass a rate above 0"),
    "too much": ({"layer_decay": 1.5}, "layer_decay=1.5: pass a share between 0 and 1"),
    "nothing": ({"layer_decay": 0.0}, "layer_decay=0.0: pass a share between 0 and 1"),
    "an encoder of one layer": ({"encoder": OneLayer, "layer_decay": 0.5}, "the image encoder does not say which"),
    "a schedule of one rate": (
        {"image_lr": 1e-5, "schedule": partial(OneCycleLR, max_lr=1e-3, total_steps=STEPS)},
        "schedule OneCycleLR sets one learning rate for all parts",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_options_without_effect_are_refused(place, case):
    options, message = REFUSED[case]
    with pytest.raises(UserError, match=message) as error:
        fit(place, make_task(place, **options))
    assert "\n" not in str(error.value)


def test_a_schedule_that_multiplies_all_rates_is_taken(place):
    task = make_task(place, image_lr=1e-5, schedule=partial(ConstantLR, factor=0.5, total_iters=100))
    record, _ = fit(place, task)
    assert set(record.rates[0].values()) == {5e-6, 5e-4}


def test_a_frozen_text_encoder_needs_no_rate(place):
    record, _ = fit(place, make_task(place, trainable=0, layer_decay=0.5, image_lr=1e-4))
    assert not [name for name in record.decay if name.startswith("text_encoder")]


def test_fine_tuning_has_the_same_options(place):
    options = {"weights": "random", "architecture": "test_resnet.r160_in1k", "labels": ["Cardiomegaly"]}

    def task(**more):
        return ClassificationTask(**options, **more, optimizer=ADAMW)

    record, _ = fit(place, tuned := task(freeze=False, image_lr=1e-5, exclude_bias_and_norm=True))
    assert {record.rates[0][n] for n in record.rates[0] if n.startswith("encoder.")} == {1e-5}
    assert {record.rates[0][n] for n in record.rates[0] if not n.startswith("encoder.")} == {1e-3}
    assert {n for n, decay in record.decay.items() if decay} == {
        n for n, p in tuned.named_parameters() if p.ndim > 1 and n.endswith("weight")
    }
    with pytest.raises(UserError, match="nothing of the image encoder is trained"):
        fit(place, task(freeze=True, image_lr=1e-5))
    with pytest.raises(UserError, match="nothing of the text encoder is trained"):
        fit(place, task(freeze=False, text_lr=1e-5))
    # Results are stored with the options, and without them where they are off.
    assert task().settings.keys().isdisjoint(RATES)
    assert tuned.settings["image_lr"] == 1e-5


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "beit_base_patch16_224", "eva02_tiny_patch14_224",
             "tiny_vit_5m_224", "maxvit_tiny_rw_224", "convnext_tiny", "resnet18"],
)  # fmt: skip
def test_weight_decay_spares_what_timm_says(name):
    with torch.device("meta"):
        network = create_model(name, num_classes=0)
    spared = network.no_weight_decay() if hasattr(network, "no_weight_decay") else set()
    for key, parameter in network.named_parameters():
        assert is_decayed(key, parameter) == (parameter.ndim > 1 and key not in spared), key


def test_weight_decay_spares_positions_tokens_and_norms_of_objectives(place):
    encoder, text = Stages(), HFTextEncoder(str(place / "bert"), trainable_layers=None, max_length=16)
    made = [
        HierarchicalAlignment(encoder, text, dim=16, grid=4, ratios=(0.5, 0.5, 0.5)),
        RegionAlignment(encoder, text, dim=8, hidden=8),
        TagDecoding(encoder, text, dim=16, hidden=8, layers=1),
    ]
    spared = {n for m in [*made, text] for n, p in m.named_parameters() if p.ndim > 1 and not is_decayed(n, p)}
    assert {name.rpartition(".")[2] if "weight" not in name else name for name in spared} == {
        "cls", "positions", "model.embeddings.position_embeddings.weight"
    }  # fmt: skip
