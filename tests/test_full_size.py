"""Every config of full size is run as it is written: its networks, precision, augmentation, objectives and callbacks.

Only what a machine without hub and GPU must change is changed: where data and weights lie, how many images make a batch
and how many batches a run, the loggers, and loader processes.
"""

import gc
import json
import shutil
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from transformers import BertConfig, BertModel, BertTokenizerFast

from medvlp.models import TimmEncoder
from medvlp.prepare.datasets import chexpert, covidx, nih, rsna, siim
from medvlp.prepare.layouts import open_i_labels
from medvlp.trainer.command import main
from medvlp.trainer.composition import compose
from tests.support.tiny import WORDS, make_prepared
from tests.test_experiments import BENCHMARKS, EVALUATIONS, LEARNT, PRE_TRAININGS

pytestmark = pytest.mark.slow

SIZE, CROP, BATCH = 256, 224, 2
CHECKPOINT = "imitate_asg.ckpt"
FULL, HEADS = (
    [names for names in configs if not any("overlays/" in name for name in names)]
    for configs in (PRE_TRAININGS, BENCHMARKS)
)
# By architecture, parameters without the classifier.
MADE = {
    "resnet50": 23_508_032,
    "deit_base_patch16_224": 85_798_656,
    "vit_base_patch16_224": 85_798_656,
    "vit_base_patch14_dinov2": 85_724_928,
}
# What a machine without hub, or data of one image a study, must also change.
OWN = {
    "cxr_clip": {"data.view_source": "image"},
    # The network of its encoder, whose weights are on the hub, at 224 of 518 pixels.
    "radzero": {
        "model.image_encoder.init_args.name": "vit_base_patch14_dinov2",
        "data.root": "data/mimic_cxr",
        "data.crop": CROP,
    },
}
MACHINE = {
    "trainer.accelerator": "cpu",
    "trainer.devices": 1,
    "trainer.logger": "false",
    "data.batch_size": BATCH,
    "data.num_workers": 0,
    "data.text_cache": "text",  # of all data: what has been read once is not read again
}
STEPS = {"trainer.max_steps": 2, "trainer.limit_train_batches": 2, "trainer.limit_val_batches": 1}


# Data sets whose labels the code of `medvlp prepare` names; of others, those that the configs name.
LABELS = {
    **dict.fromkeys(("chexpert", "chexpert_plus", "mimic_cxr"), chexpert.LABELS),
    "covidx": covidx.CLASSES.values(),
    "nih": nih.FINDINGS.values(),
    "open_i": open_i_labels.LABELS,
    "rsna": [rsna.LABEL],
    "siim": [siim.LABEL],
}


def make_data(folder):
    """Make the prepared folder of every config, with the labels and the splits that its configs ask for."""
    labels, splits = {}, {}
    for name in [*LEARNT, *EVALUATIONS]:
        config = compose(["fit", "-c", name, "--model.weights=random"])
        root, chosen = config["data"]["root"], config["model"]["init_args"].get("labels")
        labels.setdefault(root, dict.fromkeys(LABELS.get(Path(root).name, ()))).update(dict.fromkeys(chosen or ()))
        splits.setdefault(root, set()).update(filter(None, [config["data"]["split"]]))
    for root, names in labels.items():
        make_prepared(folder / root, 16, SIZE, labels=[*names], splits=sorted(splits[root]))


class Watch(Callback):
    """Keeps the losses of all steps, and says what has run."""

    def __init__(self):
        self.losses, self.validated = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if not trainer.sanity_checking:
            self.validated.append(len(batch["index"]))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the language model, and with data at the places that configs name."""
    folder = tmp_path_factory.mktemp("place")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "bert").mkdir()
    (folder / "bert" / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(str(folder / "bert" / "vocab.txt")).save_pretrained(folder / "bert")
    BertModel(BertConfig(vocab_size=len(vocabulary)), add_pooling_layer=False).save_pretrained(folder / "bert")
    make_data(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def workplace(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def seen(monkeypatch):
    """The sizes of all images that image encoders normalise."""
    sizes = []
    normalise = TimmEncoder.normalise

    def watched(self, image):
        sizes.append(tuple(image.shape[1:]))
        return normalise(self, image)

    monkeypatch.setattr(TimmEncoder, "normalise", watched)
    return sizes


def run(verb, names, options):
    """Run a verb with configs as they are written, but for some options; return the Trainer."""
    configs = [part for name in names for part in ("-c", name)]
    watch = [f"--trainer.callbacks+={__name__}.Watch"]
    return main([verb, *configs, *watch, *(f"--{key}={value}" for key, value in options.items())])


def check(trainer, seen, architecture):
    """Two steps, one validation batch, finite numbers, views of 224 pixels, the network that is named."""
    watch = next(callback for callback in trainer.callbacks if isinstance(callback, Watch))
    assert len(watch.losses) == 2
    assert torch.tensor(watch.losses).isfinite().all()
    assert watch.validated == [BATCH]
    assert torch.tensor([float(value) for value in trainer.callback_metrics.values()]).isfinite().all()
    task = trainer.lightning_module
    encoder = task.image_encoder if hasattr(task, "image_encoder") else task.encoder
    assert encoder.backbone.pretrained_cfg["architecture"] == architecture
    assert sum(p.numel() for p in encoder.parameters()) == MADE[architecture]
    assert set(seen) <= {(CROP, CROP), (CROP // 2, CROP // 2)}
    assert (CROP, CROP) in seen


def pre_train(names, folder):
    """Pre-train with networks of chance; return the Trainer."""
    own = {
        **OWN.get(names[0], {}),
        "model.image_encoder.init_args.pretrained": "false",
        "trainer.default_root_dir": folder,
    }
    own["model.text_encoder.init_args.name"] = "bert"
    if names == ["asg"]:
        own["model.objectives.tag.init_args.query_encoder.init_args.name"] = "bert"
    return run("fit", names, MACHINE | STEPS | own)


@pytest.mark.parametrize("names", FULL, ids="+".join)
def test_pre_training(names, seen, tmp_path):
    trainer = pre_train(names, tmp_path)
    encoder = compose(["fit", "-c", names[0]])["model"]["init_args"]["image_encoder"]["init_args"]["name"]
    check(trainer, seen, OWN.get(names[0], {}).get("model.image_encoder.init_args.name", encoder))
    layers = trainer.lightning_module.text_encoder.language_model.config.num_hidden_layers
    assert layers == (6 if names == ["asg"] else 12)
    assert {path.name for path in tmp_path.rglob("*.ckpt")} == {"best.ckpt", "last.ckpt"}
    if names == ["imitate_asg"]:
        (path,) = tmp_path.rglob("last.ckpt")
        shutil.move(path, CHECKPOINT)
    # They hold gigabytes.
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("names", HEADS, ids="+".join)
def test_benchmark(names, seen, tmp_path):
    own = {"model.weights": "random", "model.architecture": "resnet50", "trainer.default_root_dir": tmp_path}
    check(run("fit", names, MACHINE | STEPS | own), seen, "resnet50")
    assert {path.name for path in tmp_path.rglob("*.ckpt")} == {"best.ckpt", "last.ckpt"}


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of imitate_asg at full size, of the test above or, where that has not run, of another run."""
    if not Path(CHECKPOINT).exists():
        pre_train(["imitate_asg"], tmp_path / "run")
        (path,) = (tmp_path / "run").rglob("last.ckpt")
        shutil.move(path, CHECKPOINT)
        shutil.rmtree(tmp_path / "run")
    return CHECKPOINT


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluation(name, checkpoint, seen, tmp_path):
    seen.clear()
    own = {"model.weights": checkpoint, "trainer.default_root_dir": tmp_path}
    if name in ("grounding/chest_imagenome", "grounding/regions"):
        own["model.region_source"] = "null"  # the regions of these data are of neither
    trainer = run("test", [name], MACHINE | own)
    assert set(seen) == {(CROP, CROP)}
    assert trainer.lightning_module.settings["architecture"] == "resnet50"
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["metrics"]
    assert torch.tensor([metric["value"] for metric in results["metrics"].values()]).isfinite().all()
