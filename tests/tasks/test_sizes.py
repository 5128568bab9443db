"""A run says the size of its images once: pre-training, evaluation, downstream tasks, loading and export follow."""

import json
import shutil
from pathlib import Path

import pytest
import timm
import torch
from timm.models import save_for_hf

import medvlp
from medvlp.__main__ import main as command
from medvlp.errors import UserError
from medvlp.export import export
from medvlp.trainer.command import main
from tests.support.runs import clear_environment
from tests.support.tiny import make_language_model, make_prepared, options

pytestmark = pytest.mark.slow

SIDE, CROP = 80, 64
VIT, SWIN = "test_vit3.r160_in1k", "swin_tiny_patch4_window7_224"
SMALL = {"imitate": [], "asg": ["overlays/small_asg"], "imitate_asg": ["overlays/small_imitate_asg"]}


@pytest.fixture(scope="module", autouse=True)
def workplace(tmp_path_factory):
    """A folder with tiny data, a language model, and a transformer as timm saves one for the hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        patch.setenv("WANDB_MODE", "offline")
        clear_environment(patch)
        make_prepared(Path("data"), size=SIDE)
        make_language_model(Path("bert"))
        network = timm.create_model("test_vit3", num_classes=5, global_pool="avg")
        save_for_hf(network, Path("vit"), model_config={"model_args": {"global_pool": "avg"}})
        yield


def fit(name, image, *arguments, crop=CROP, pretrained=False):
    """Pre-train for a step; the image encoder has its name alone."""
    encoder = {"class_path": "TimmEncoder", "init_args": {"name": image, "pretrained": pretrained, "weights": None}}
    configs = [part for config in (name, "overlays/small", *SMALL[name]) for part in ("-c", config)]
    tiny = options(Path("data"), Path("bert"))
    once = ["--trainer.max_steps=1", "--trainer.limit_val_batches=1", "--trainer.logger=false", "--data.resize=null"]
    chosen = [f"--model.image_encoder={json.dumps(encoder)}", f"--data.crop={crop}", *arguments]
    shutil.rmtree("runs", ignore_errors=True)
    main(["fit", *configs, *tiny, *once, *chosen])
    return shutil.move("runs/checkpoints/last.ckpt", f"{name}-{Path(image).name}-{crop}.ckpt")


@pytest.fixture(scope="module", params=[VIT, SWIN, f"local-dir:{'vit'}"])
def checkpoint(request):
    path = fit("imitate_asg", request.param, pretrained=request.param.startswith("local"))
    if request.param.startswith("local"):
        # What the name has stood for is not there any more.
        Path("vit").rename("away")
    yield path
    if Path("away").exists():
        Path("away").rename("vit")


def images(size=CROP):
    return torch.randint(0, 256, (2, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["imitate", "asg"])
def test_pre_training_asks_for_the_size_of_its_data(name, caplog):
    with caplog.at_level("INFO"):
        state = torch.load(fit(name, VIT), weights_only=True)["state_dict"]
    assert f"made for images of 160 pixels, data.crop is {CROP}: its positions are resampled" in caplog.text
    assert state["image_encoder.backbone.pos_embed"].shape[1] in (16, 17)


def test_a_checkpoint_is_loaded_without_hints(checkpoint):
    model = medvlp.load(checkpoint)
    assert model.task.image_encoder.side == CROP
    assert all(rows.shape[0] == 2 for rows in model.embed_images(images()).values())
    assert model.heat_map(images()[0], "left effusion").shape[0] in (4, 2)


def test_it_is_exported_without_what_it_was_made_from(checkpoint, tmp_path):
    export(Path(checkpoint), out=tmp_path / "model")
    exported, model = medvlp.load(tmp_path / "model"), medvlp.load(checkpoint)
    for space, rows in model.embed_images(images()).items():
        torch.testing.assert_close(exported.embed_images(images())[space], rows)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert "local-dir" not in json.dumps(config)
    assert Path.cwd().name not in json.dumps(config)
    export(tmp_path / "model", out=tmp_path / "again")
    torch.testing.assert_close(medvlp.load(tmp_path / "again").embed_images(images()), model.embed_images(images()))


@pytest.mark.parametrize("name", ["zeroshot/open_i", "retrieval/open_i", "grounding/rsna"])
@pytest.mark.parametrize("magnify", [1, 1.5])
def test_it_is_evaluated_at_its_size(checkpoint, name, magnify):
    if magnify != 1 and not name.startswith("grounding"):
        pytest.skip("only grounding magnifies")
    # The data module's crop is another.
    chosen = [*options(Path("data")), f"--model.weights={checkpoint}", "--trainer.logger=false", "--data.split=null"]
    larger = [f"--model.magnify={magnify}"] if magnify != 1 else []
    trainer = main(["test", "-c", name, *chosen, *larger])
    assert trainer.lightning_module.encoder.side == CROP * magnify
    results = json.loads(Path("runs/results.json").read_text())
    assert results["protocol"]["architecture"] in (VIT.split(".")[0], SWIN)


@pytest.mark.parametrize("task", ["classification/rsna", "segmentation/rsna", "detection/rsna"])
@pytest.mark.parametrize("cached", [True, False])
def test_downstream_tasks_ask_for_the_size_of_their_data(checkpoint, task, cached, tmp_path):
    small = ["-c", f"overlays/small_{task.split('/')[0]}"]
    labels = ["--model.labels=[Cardiomegaly]"] if task.startswith("class") else ["--model.channels=[8, 8, 8]"]
    channels = ["--model.channels=[16, 16, 8, 8, 8]"] if task.startswith("seg") else labels
    chosen = [*options(Path("data")), f"--model.weights={checkpoint}", "--data.resize=null", f"--data.crop={SIDE}"]
    once = ["--trainer.max_steps=1", f"--model.cache_features={str(cached).lower()}", "--trainer.limit_val_batches=1"]
    place = [f"--trainer.default_root_dir={tmp_path}"]
    trainer = main(["fit", "-c", task, *small, *chosen, *channels, *once, *place, "--trainer.val_check_interval=1"])
    encoder = trainer.lightning_module.encoder
    assert encoder.side == SIDE
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    (path,) = tmp_path.rglob("last.ckpt")
    main(["test", "-c", task, *small, *chosen, *channels, *once, *place, f"--ckpt_path={path}"])


def test_another_run_starts_from_it_at_another_size(checkpoint):
    weights = f"--model.image_encoder.init_args.weights={checkpoint}"
    name = medvlp.load(checkpoint).task.image_encoder.recipe
    arguments = f"--model.image_encoder.init_args.arguments={json.dumps(name['arguments'])}"
    again = fit("imitate", name["name"], weights, arguments, crop=SIDE)
    assert medvlp.load(again).task.image_encoder.side == SIDE


@pytest.mark.parametrize("name", SMALL)
def test_a_size_that_cannot_be_taken_is_refused_before_the_first_step(name):
    with pytest.raises(UserError, match=r"50 x 50 pixels \(50 is no multiple of 16\).*48, 64\.$"):
        fit(name, VIT, crop=50)
    with pytest.raises(SystemExit):
        command(
            ["fit", "-c", "classification/rsna", *options(Path("data")), "--data.crop=50", "--data.resize=null",
             "--model.weights=random", f"--model.architecture={VIT}", "--model.labels=[Cardiomegaly]"]
        )  # fmt: skip


@pytest.mark.parametrize("image", [VIT, SWIN])
def test_the_option_of_old_goes_on_working(image):
    path = fit("imitate", image, f"--model.image_encoder.init_args.image_size={CROP}")
    saved = torch.load(path, weights_only=True)
    # A checkpoint from before recipes were saved.
    del saved["image_encoder"]
    torch.save(saved, path)
    model = medvlp.load(path)
    assert model.task.image_encoder.side == CROP
    assert all(rows.isfinite().all() for rows in model.embed_images(images()).values())
