"""`medvlp explain`: pictures of where a model sees what texts say."""

import numpy as np
import pytest
import torch
from PIL import Image

from medvlp.__main__ import main
from medvlp.errors import LeftOutError
from medvlp.inference.explain import Radiograph, explain, heat_maps, scale_of
from medvlp.inference.model import Model
from tests.support.trained import make_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def file(tmp_path):
    """An image of noise with a bright corner at the upper right, 300 high and 200 wide."""
    pixels = np.random.default_rng(0).integers(0, 100, (300, 200), np.uint8)
    pixels[:60, 150:] = 250
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def test_radiograph_keeps_its_pixels_and_knows_what_the_model_sees(weights, file):
    model = Model.load(weights)
    radiograph = Radiograph.read(file, model.preprocessing)
    assert np.array_equal(radiograph.grey, np.asarray(Image.open(file)))
    assert torch.equal(radiograph.seen, model.read(file))
    # 300 pixels are 40 of the square, of which the model sees the central 32: 4 of 40 are 30 of 300. The width is 27
    # of the 40, 6 of them black at the left.
    x1, y1, x2, y2 = radiograph.window
    assert (y1, y2) == pytest.approx((30, 270))
    assert (x1, x2) == pytest.approx(((4 - 6) / 27 * 200, (36 - 6) / 27 * 200))


def test_smaller_radiographs_are_seen_alike(weights, file):
    model = Model.load(weights)
    large, small = Radiograph.read(file, model.preprocessing), Radiograph.read(file, model.preprocessing, 150)
    assert small.grey.shape == (150, 100)
    assert torch.equal(small.seen, large.seen)
    assert small.window == pytest.approx([edge / 2 for edge in large.window])


def test_jpeg_is_shown_at_full_resolution(weights, file, tmp_path):
    Image.open(file).resize((800, 1200)).save(tmp_path / "large.jpg", quality=95)
    radiograph = Radiograph.read(tmp_path / "large.jpg", Model.load(weights).preprocessing)
    assert np.array_equal(radiograph.grey, np.asarray(Image.open(tmp_path / "large.jpg")))


def test_heat_maps_are_those_of_the_model(weights, file):
    model = Model.load(weights)
    radiograph = Radiograph.read(file, model.preprocessing)
    texts = ["left pleural effusion", "cardiomegaly"]
    for source in ("region", "global"):
        own = np.stack([model.heat_map(radiograph.seen, text, source).double().numpy() for text in texts])
        np.testing.assert_allclose(heat_maps(model, radiograph, texts, source), own, atol=1e-6)
    attention = heat_maps(model, radiograph, texts, "tag")
    np.testing.assert_allclose(attention.mean((1, 2)), 1)


@pytest.mark.parametrize(
    ("values", "source", "low", "high"),
    [
        ([-0.5, 0.4], "region", 0.0, 0.4),
        ([0.2, 0.4], "global", 0.2, 0.4),
        ([-0.5, -0.1], "global", 0, 1),
        ([0.3, 4], "tag", 1, 4),
    ],
)
def test_what_says_nothing_has_no_colour(values, source, low, high):
    scale = scale_of(np.array([values]), source)
    assert (scale.low, scale.high) == (low, high)


@pytest.mark.parametrize("source", ["region", "global", "tag"])
def test_command_draws_every_text(weights, file, tmp_path, capsys, source):
    out = tmp_path / "pictures" / f"{source}.png"
    options = ["--weights", str(weights), "--out", str(out), "--source", source]
    main(["explain", str(file), *options, "--text", "left pleural effusion", "--text=cardiomegaly"])
    width, height = Image.open(out).size
    # The radiograph and two heat maps, each 480 pixels wide, and 600 high.
    assert width > 3 * 480
    assert height > 600
    printed = capsys.readouterr().out
    assert "left pleural effusion" in printed
    assert "cardiomegaly" in printed
    assert "not for clinical use" in " ".join(printed.split())


def test_a_text_is_taken_word_by_word(weights, file, tmp_path, capsys):
    texts = ["no, effusion: [none]", "yes"]
    out = tmp_path / "out.png"
    main(["explain", str(file), "--weights", str(weights), "--out", str(out), *(f"--text={text}" for text in texts)])
    printed = capsys.readouterr().out
    assert all(text in printed for text in texts)


def test_models_without_scores_draw_their_maps(tmp_path, file):
    weights = make_checkpoint(tmp_path, names=("region",))
    explain(file, weights=weights, text=["effusion"], out=tmp_path / "out.png")
    assert (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"text": ["  "]}, "--text is empty"),
        ({"out": "picture.bmpx"}, "must end in one of"),
        ({"out": "image.png"}, "is the image itself"),
        ({"out": "image.png/picture.png"}, "cannot be written"),
        ({"image": "none.png"}, "cannot be read: missing file"),
        ({"image": "text.txt"}, "not a known format"),
        ({"source": "tag", "text": ["left"]}, "names no tag"),
        ({"weights": "none.ckpt"}, "no such file"),
    ],
)
def test_errors_say_what_is_wrong(weights, file, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("no image")
    given = {"image": file, "weights": weights, "text": ["effusion"], "out": "out.png", **options}
    texts = [f"--text={text}" for text in given.pop("text")]
    with pytest.raises(SystemExit) as exit_:
        main(["explain", str(given.pop("image")), *texts, *(f"--{name}={value}" for name, value in given.items())])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert not (tmp_path / "out.png").exists()


def test_a_damaged_file_is_no_radiograph(weights, file):
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(LeftOutError):
        Radiograph.read(file, Model.load(weights).preprocessing)
