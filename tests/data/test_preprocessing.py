"""Which prepared data a checkpoint takes."""

import pytest

from medvlp.data.preprocessing import Preprocessing
from medvlp.errors import UserError
from medvlp.prepared import Prepared
from tests.support.tiny import make_prepared, refit


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Images of 40 pixels, padded."""
    return Prepared.open(make_prepared(tmp_path_factory.mktemp("data") / "data"))


@pytest.mark.parametrize(
    ("size", "resize"),
    [(40, None), (40, 32), (40, 48), (256, 32), (256, 40)],
    ids=["as it is", "reduced", "enlarged in training, too", "larger in training", "reduced to this size"],
)
def test_a_model_takes_what_it_would_see_as_in_training(prepared, size, resize):
    Preprocessing(size=size, fit="pad", resize=resize, crop=32).check(prepared)


@pytest.fixture(scope="module")
def oblong(tmp_path_factory):
    """The same of images that are no squares."""
    root = make_prepared(tmp_path_factory.mktemp("data") / "data")
    refit(root, "pad")
    return Prepared.open(root)


@pytest.mark.parametrize("fit", ["pad", "squash", "crop"])
def test_squares_fill_a_square_in_one_way(prepared, oblong, fit):
    Preprocessing(size=40, fit=fit, resize=None, crop=32).check(prepared)
    if fit != "pad":
        with pytest.raises(UserError, match=f"--resize pad, but the model was trained on --size 40 --resize {fit}"):
            Preprocessing(size=40, fit=fit, resize=None, crop=32).check(oblong)


@pytest.mark.parametrize(("size", "fit", "resize"), [(48, "pad", None), (256, "pad", 48), (40, "squash", None)])
def test_other_images_are_refused(oblong, size, fit, resize):
    with pytest.raises(UserError, match=f"trained on --size {size} --resize {fit}"):
        Preprocessing(size=size, fit=fit, resize=resize, crop=32).check(oblong)
