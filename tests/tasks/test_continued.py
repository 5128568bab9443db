"""A model that is continued: what is loaded by name, what is said of the rest, and that its ancestors are known."""

import json
import re
import warnings
from copy import deepcopy
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.cli import instantiate_module
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters_context

from medvlp.__main__ import main
from medvlp.data import CXRDataModule
from medvlp.errors import NotFoundError, UserError
from medvlp.models import HFTextEncoder
from medvlp.models.pretrained import pretrained_on
from medvlp.prepared import Prepared
from medvlp.tasks import PretrainingTask, ZeroShotTask
from medvlp.tasks.checkpoints import load_pretraining
from medvlp.tasks.continued import lineage
from medvlp.trainer import command
from tests.support.runs import ONE_SPLIT, QUIET, clear_environment
from tests.support.tiny import make_language_model, make_prepared, options
from tests.support.trained import make_checkpoint

pytestmark = pytest.mark.slow

TAG = {"class_path": "medvlp.objectives.TagDecoding", "init_args": {"dim": 16, "hidden": 24, "layers": 1}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, a language model, and a checkpoint of report, region and tag at 32 pixels."""
    folder = tmp_path_factory.mktemp("continued")
    make_prepared(folder / "data", size=48)
    make_checkpoint(folder, ("report", "region", "tag"), size=48)
    return folder


def path_of(place):
    return place / "model-report-region-tag-0.ckpt"


def content_of(path):
    return torch.load(path, weights_only=True)


def settings_of(place):
    return deepcopy({k: v for k, v in content_of(path_of(place))["hyper_parameters"].items() if k != "_instantiator"})


def changed(place, name, change, source=None):
    """Write a checkpoint with changes."""
    content = content_of(source or path_of(place))
    change(content)
    torch.save(content, place / name)
    return place / name


def start(place, settings, weights=None, verb="test", crop=32):
    """Begin a run from weights; return its task, and what is said of the weights."""
    L.seed_everything(7)
    settings = {**deepcopy(settings), "weights": str(weights) if weights else None}
    # As the command line does, so that the settings are the hyper-parameters.
    with _given_hyperparameters_context(deepcopy(settings), "lightning.pytorch.cli.instantiate_module"):
        task = instantiate_module(PretrainingTask, settings)
    trainer = L.Trainer(**QUIET, default_root_dir=place, max_steps=1, limit_val_batches=0, num_sanity_val_steps=0)
    data = CXRDataModule(place / "data", batch_size=8, crop=crop, num_workers=0, regions=True, **ONE_SPLIT)
    said = []
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        patch.setattr("medvlp.tasks.continued.rank_zero_info", said.append)
        getattr(trainer, verb)(task, data)
    texts = [str(w.message) for w in warned]
    return task, said, [text for text in texts if "text encoder" in text or "heads" in text], trainer


def same(state, expected, prefix=""):
    """Names of the tensors under a prefix that are equal, and of those that are not."""
    names = [k for k, v in state.items() if k.startswith(prefix) and isinstance(v, torch.Tensor) and k in expected]
    equal = {k for k in names if state[k].shape == expected[k].shape and torch.equal(state[k], expected[k])}
    return equal, set(names) - equal


def test_all_of_it_is_loaded_by_name(place):
    task, said, warned, _ = start(place, settings_of(place), path_of(place))
    expected = content_of(path_of(place))["state_dict"]
    equal, apart = same(task.state_dict(), expected)
    assert not apart
    assert len(equal) == sum(isinstance(v, torch.Tensor) for v in expected.values())
    (text,) = said
    counts = {name: (int(a), int(b)) for name, a, b in re.findall(r"(image encoder|'\w+') (\d+) of (\d+)", text)}
    assert counts.keys() == {"image encoder", "'report'", "'region'", "'tag'"}
    assert all(a == b > 0 for a, b in counts.values())
    assert text.startswith("Weights of 'model-report-region-tag-0.ckpt', trained on 24 images of tiny, by tensors")
    assert "\n" not in text
    assert text.endswith("The text encoder is frozen, with the weights of 'bert', not the file's.")
    assert not warned


def test_other_objectives_and_shapes_are_said(place):
    settings = settings_of(place)
    del settings["objectives"]["region"]
    settings["objectives"]["report"]["init_args"]["dim"] = 12
    settings["objectives"]["hierarchical"] = {
        "class_path": "medvlp.objectives.HierarchicalAlignment", "init_args": {"dim": 16, "grid": 4},
    }  # fmt: skip
    task, (text,), _, _ = start(place, settings, path_of(place))
    state, expected = task.state_dict(), content_of(path_of(place))["state_dict"]
    assert not same(state, expected, "image_encoder.")[1]
    assert not same(state, expected, "objectives.tag.")[1]
    equal, apart = same(state, expected, "objectives.report.")
    assert equal
    assert apart
    assert all(state[k].shape != expected[k].shape for k in apart)
    first, missing, other, left = text.splitlines()
    new = sum(k.startswith("objectives.hierarchical") and torch.is_tensor(v) for k, v in state.items())
    assert f"objective 'report' {len(equal)} of {len(equal | apart)}, objective 'tag'" in first
    assert missing == f"Not in the file, and untrained here: objective 'hierarchical' ({new} tensors)."
    assert re.match(r"Not loaded, because they differ: objectives\.report\.\S+ \(\(8.*\) there, \(12.*\) here\)", other)
    gone = sum(k.startswith("objectives.region") for k in expected)
    assert left == f"Only in the file, and left out: objective 'region' ({gone} tensors)."


def test_queries_of_other_tags_are_not_loaded(place):
    # Both label sets have 14 tags, so that the shapes are the same.
    settings = settings_of(place)
    made = {}
    for tags in ("chexpert", "nih"):
        settings["objectives"] = {"tag": {**TAG, "init_args": {**TAG["init_args"], "tags": tags}}}
        made[tags] = instantiate_module(PretrainingTask, deepcopy(settings)).state_dict()

    def change(content):
        content["hyper_parameters"]["objectives"] = deepcopy(settings["objectives"])
        content["hyper_parameters"]["objectives"]["tag"]["init_args"]["tags"] = "chexpert"
        content["state_dict"] = {**made["chexpert"], "objectives.tag.classifier.bias": torch.full((1,), 5.0)}

    weights = changed(place, "chexpert.ckpt", change)
    task, (text,), _, _ = start(place, settings, weights)
    state = task.state_dict()
    assert torch.equal(state["objectives.tag.queries"], made["nih"]["objectives.tag.queries"])
    assert not torch.equal(state["objectives.tag.queries"], made["chexpert"]["objectives.tag.queries"])
    assert state["objectives.tag.classifier.bias"] == 5
    assert "because they differ: objectives.tag.queries (made from other options there)." in text
    # Of the same tags there is nothing to say.
    settings["objectives"]["tag"]["init_args"]["tags"] = "chexpert"
    assert len(start(place, settings, weights)[1][0].splitlines()) == 1


@pytest.mark.parametrize("image", ["test_vit.r160_in1k", "test_convnext.r160_in1k"])
def test_images_of_another_size(place, image):
    settings = settings_of(place)
    settings["image_encoder"]["init_args"]["name"] = image
    settings["objectives"] = {"report": settings["objectives"]["report"]}
    torch.manual_seed(3)
    trained = instantiate_module(PretrainingTask, deepcopy(settings))
    trained.image_encoder.fit(32)

    def change(content):
        content["hyper_parameters"] |= deepcopy(settings)
        content["state_dict"] = trained.state_dict()

    weights = changed(place, "size.ckpt", change)
    task, *_ = start(place, settings, weights, crop=40 if "convnext" in image else 48)
    # As the encoder alone is loaded and fitted.
    alone = load_pretraining(weights).image_encoder
    alone.fit(task.datamodule.crop)
    assert not same(task.image_encoder.state_dict(), alone.state_dict())[1]
    assert task.datamodule.crop != 32


def test_another_architecture_is_refused(place):
    settings = settings_of(place)
    for name in ("test_convnext.r160_in1k", "test_resnet"):
        settings["image_encoder"]["init_args"]["name"] = name
        if name == "test_resnet":
            settings["image_encoder"]["init_args"]["arguments"] = {"stem_width": 64}
        with pytest.raises(
            UserError, match=r"of another architecture, test_resnet.r160_in1k; this run has test_\w+: \d+"
        ) as error:
            start(place, settings, path_of(place))
        assert "\n" not in str(error.value)


WRONG = {
    "a bare state dict": lambda content: {k: content.pop(k) for k in [*content] if k != "state_dict"},
    "another task": lambda content: content.update(
        hyper_parameters={"_class_path": "medvlp.tasks.ClassificationTask", "weights": "imagenet"}
    ),
    "no encoder": lambda content: content.update(state_dict={"encoder.backbone.x": torch.zeros(3)}),
    "no data": lambda content: content.pop("data"),
    "no objectives": lambda content: content["hyper_parameters"].pop("objectives"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_files_are_refused(place, case):
    weights = changed(place, "wrong.ckpt", WRONG[case])
    with pytest.raises(UserError, match="is neither a checkpoint of a pre-training nor a folder") as error:
        start(place, settings_of(place), weights)
    assert "\n" not in str(error.value)


def test_files_that_are_no_checkpoints_are_refused(place, tmp_path):
    with pytest.raises(NotFoundError, match="no such file"):
        start(place, settings_of(place), tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    for weights in (tmp_path / "text.ckpt", tmp_path):
        with pytest.raises(UserError, match="is neither a checkpoint"):
            start(place, settings_of(place), weights)
    spoilt = changed(place, "nan.ckpt", lambda content: content["state_dict"]["image_encoder.mean"].fill_(float("nan")))
    with pytest.raises(UserError, match=r"not finite, such as 'image_encoder\.mean'"):
        start(place, settings_of(place), spoilt)


def test_no_code_of_the_file_runs(place, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('code of the file has run')\n")
    monkeypatch.syspath_prepend(tmp_path)

    def change(content):
        content["hyper_parameters"]["objectives"]["report"]["class_path"] = "evil.Objective"
        content["hyper_parameters"]["image_encoder"]["class_path"] = "evil.Encoder"

    task, *_ = start(place, settings_of(place), changed(place, "evil.ckpt", change))
    assert not same(task.state_dict(), content_of(path_of(place))["state_dict"])[1]


def trained_text(place, layers=None):
    """A checkpoint whose text encoder was trained."""
    settings = settings_of(place)
    settings["text_encoder"]["init_args"]["trainable_layers"] = layers
    torch.manual_seed(5)
    task = instantiate_module(PretrainingTask, deepcopy(settings))
    with torch.no_grad():
        for parameter in task.text_encoder.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)

    def change(content):
        content["hyper_parameters"] |= deepcopy(settings)
        content["state_dict"] |= task.state_dict()

    return changed(place, "text.ckpt", change), settings, task


def test_a_trained_text_encoder(place):
    weights, settings, trained = trained_text(place)
    task, (text,), warned, _ = start(place, settings, weights)
    number = len(trained.text_encoder.state_dict())
    assert f"text encoder {number} of {number}" in text
    assert not same(task.state_dict(), trained.state_dict(), "text_encoder.")[1]
    assert not warned
    # Into a frozen one it cannot be loaded: a checkpoint would not hold its weights.
    task, (text,), (warning,), _ = start(place, settings_of(place), weights)
    assert "the text encoder was trained in the file, and is frozen here, with the weights of 'bert'" in warning
    assert f"left out: text encoder ({number} tensors)" in text
    # Trained here and frozen there, it starts from its own weights.
    task, (text,), warned, _ = start(place, settings, path_of(place))
    assert f"text encoder 0 of {number}" in text
    assert not warned  # the same language model


def test_another_text_encoder_is_said(place):
    settings = settings_of(place)
    make_language_model(place / "other" / "clinical")
    settings["text_encoder"]["init_args"] |= {"name": str(place / "other" / "clinical"), "pooling": "cls"}
    _, _, (warning,), _ = start(place, settings, path_of(place))
    assert "heads that read texts were trained for another text encoder: name=" in warning
    assert "clinical' here" in warning
    assert "pooling='mean' there, 'cls' here" in warning
    # The same model in another folder is the same.
    make_language_model(place / "moved" / "bert")
    settings = settings_of(place)
    settings["text_encoder"]["init_args"]["name"] = str(place / "moved" / "bert")
    assert not start(place, settings, path_of(place))[2]


def test_an_exported_folder(place, tmp_path):
    weights, settings, trained = trained_text(place)
    main(["export", str(weights), "--out", str(tmp_path / "exported")])
    task, (text,), _, _ = start(place, settings, tmp_path / "exported")
    assert not same(task.state_dict(), trained.state_dict(), "text_encoder.")[1]
    assert not same(task.state_dict(), content_of(weights)["state_dict"])[1]
    assert len(text.splitlines()) == 1
    # Frozen as it was trained, as the message says.
    frozen = settings_of(place)
    frozen["text_encoder"]["init_args"]["name"] = str(tmp_path / "exported" / "text_encoder")
    task, *_ = start(place, frozen, tmp_path / "exported")
    with torch.no_grad():
        torch.testing.assert_close(task.text_encoder(["normal"]), trained.eval().text_encoder(["normal"]))


def test_training_starts_from_the_weights_and_keeps_the_chain(place):
    settings = settings_of(place)
    *_, trainer = start(place, settings, path_of(place), "fit")
    trainer.save_checkpoint(place / "child.ckpt")
    child = content_of(place / "child.ckpt")
    entry = child["data"]["continued_from"]
    assert entry["weights"] == "model-report-region-tag-0.ckpt"
    assert len(entry["sha256"]) == 64
    assert entry["fitted"]["objectives.tag"][0] > 0
    assert entry["data"] == content_of(path_of(place))["data"]
    # One step from the start, not from chance.
    before, after = (c["state_dict"]["objectives.tag.classifier.weight"] for c in (content_of(path_of(place)), child))
    assert 0 < (before - after).abs().max() < 1e-2
    *_, trainer = start(place, settings, place / "child.ckpt", "fit")
    trainer.save_checkpoint(place / "grandchild.ckpt")
    (place / "child.ckpt").rename(place / "gone.ckpt")
    model = load_pretraining(place / "grandchild.ckpt")  # which needs none of the others
    assert model.trained_on == pretrained_on(str(place / "grandchild.ckpt"))
    names = [one.get("continued_from", {}).get("weights") for one in lineage(model.trained_on)]
    assert names == ["child.ckpt", "model-report-region-tag-0.ckpt", None]
    assert [*lineage(model.trained_on)][-1] == content_of(path_of(place))["data"]


def test_an_encoder_alone_has_ancestors_too(place):
    settings = settings_of(place)
    settings["image_encoder"]["init_args"]["weights"] = str(path_of(place))
    task, said, _, _ = start(place, settings, verb="fit")
    assert not said
    assert task.trained_on["continued_from"]["data"] == content_of(path_of(place))["data"]
    state = torch.load(path_of(place), weights_only=True)["state_dict"]
    torch.save({k.removeprefix("image_encoder.backbone."): v for k, v in state.items()}, place / "bare.pth")
    settings["image_encoder"]["init_args"]["weights"] = str(place / "bare.pth")
    task, *_ = start(place, settings, verb="fit")
    assert "continued_from" not in task.trained_on


def descended(place, name, **data):
    """A checkpoint of other data that was continued from one that has seen `quarters`."""

    def change(content):
        split = Prepared.open(place / "data").split_variants["quarters"]
        own = {**content["data"], "synthetic": False, "split_sha256": split["sha256"], **data}
        stranger = {"dataset": "elsewhere", "split": "official", "split_sha256": "0" * 64, "synthetic": True}
        entry = {"weights": "parent.ckpt", "sha256": "1" * 64, "fitted": {}, "data": own}
        content["data"] = {**content["data"], **stranger, "continued_from": entry}
        content |= {"epoch": 0, "global_step": 1}

    return changed(place, name, change)


def test_patients_of_ancestors_are_seen(place):
    weights = descended(place, "kin.ckpt", train_splits=["train", "test"])
    task = ZeroShotTask(weights=str(weights), labels=["Cardiomegaly"])
    L.Trainer(**QUIET, default_root_dir=place).test(
        task, CXRDataModule(place / "data", crop=32, num_workers=0), verbose=False
    )
    tested = Prepared.open(place / "data").of_splits(["test"], ["subject_id"], "quarters")["subject_id"].unique()
    assert task.notes == [f"{len(tested)} of {len(tested)} test patients were in the model's training data."]
    unknown = descended(place, "unknown.ckpt", split_sha256="9" * 64)
    task = ZeroShotTask(weights=str(unknown), labels=["Cardiomegaly"])
    L.Trainer(**QUIET, default_root_dir=place).test(
        task, CXRDataModule(place / "data", crop=32, num_workers=0), verbose=False
    )
    assert task.notes == [
        "whether test patients were in the model's training data (tiny, split quarters) is not known."
    ]


def test_a_model_card_names_ancestors_and_their_licences(place, tmp_path):
    weights = descended(place, "card.ckpt", dataset="mimic_cxr")
    main(["export", str(weights), "--out", str(tmp_path / "card")])
    card = (tmp_path / "card" / "README.md").read_text()
    assert "| started from | parent.ckpt, SHA-256 1111111111111111 |" in card
    assert "| data set | mimic_cxr |" in card
    assert "PhysioNet Credentialed Health Data License" in card
    assert "no licence of data binds" not in card
    assert "It has seen drawings alone" not in card
    exported = json.loads((tmp_path / "card" / "config.json").read_text())
    assert [one["dataset"] for one in lineage(exported["data"])] == ["elsewhere", "mimic_cxr"]


def test_a_run_from_weights_is_resumed_without_them(place, tmp_path, monkeypatch, capsys):
    clear_environment(monkeypatch)
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "start.ckpt"
    weights.write_bytes(path_of(place).read_bytes())
    objectives = {k: v for k, v in settings_of(place)["objectives"].items() if k == "report"}
    own = [
        f"--model.objectives={json.dumps(objectives)}", "--trainer.logger=false", "--trainer.default_root_dir=runs",
        f"--model.weights={weights}", "--model.text_encoder.init_args.pooling=mean", "--trainer.max_epochs=2",
        "--trainer.enable_progress_bar=false", "--trainer.callbacks=null",
    ]  # fmt: skip
    args = ["fit", "-c", "imitate", *options(place / "data", place / "bert"), *own]
    writer = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.filename={step}",
              "--trainer.callbacks.save_top_k=-1", "--trainer.callbacks.every_n_train_steps=1"]  # fmt: skip
    whole = command.main([*args, *writer])
    (half,) = tmp_path.rglob("step=3.ckpt")
    weights.unlink()
    with pytest.raises(NotFoundError, match=r"start\.ckpt': no such file"):
        command.main([*args, *writer])
    with monkeypatch.context() as patch:
        patch.setattr("medvlp.tasks.pretraining.continue_from", partial(pytest.fail, "the weights are read again"))
        resumed = command.main([*args, *writer, f"--ckpt_path={half}"])
        command.main(["test", *args[1:], f"--ckpt_path={half}"])
    states = [trainer.lightning_module.state_dict() for trainer in (whole, resumed)]
    assert not same(*states)[1]
    assert resumed.lightning_module.trained_on == whole.lightning_module.trained_on
    assert resumed.lightning_module.trained_on["continued_from"]["weights"] == "start.ckpt"


class Own(HFTextEncoder):
    """A frozen text encoder whose parameters are in the checkpoint, as those of strangers are."""

    def __init__(self, name):
        super().__init__(name)
        self.shift = torch.nn.Parameter(torch.zeros(16))

    def embed(self, texts):
        return super().embed(texts) + self.shift

    def identity(self):
        return f"{super().identity()}-{self.shift.sum().item():.3f}"


def test_stored_embeddings_are_those_of_the_loaded_text_encoder(place):
    settings = settings_of(place)
    own = {"class_path": f"{__name__}.Own", "init_args": {"name": str(place / "bert")}}
    settings["text_encoder"] = own
    settings["objectives"] = {"report": settings["objectives"]["report"]}

    def change(content):
        content["hyper_parameters"]["text_encoder"] = own
        content["state_dict"]["text_encoder.shift"] = torch.full((16,), 2.0)

    task, (text,), _, _ = start(place, settings, changed(place, "shift.ckpt", change))
    assert "text encoder 1 of 1" in text
    assert task.text_encoder.cache is not None
    plain = HFTextEncoder(str(place / "bert"))
    torch.testing.assert_close(task.text_encoder(["normal"]), plain(["normal"]) + 2)
