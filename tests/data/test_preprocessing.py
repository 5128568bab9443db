"""Which prepared data a checkpoint takes."""

import pytest

from medvlp.data.preprocessing import Preprocessing
from medvlp.errors import UserError
from medvlp.prepared import Prepared
from tests.support.tiny import make_prepared


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


@pytest.mark.parametrize(("size", "fit", "resize"), [(48, "pad", None), (256, "pad", 48), (40, "squash", None)])
def test_other_images_are_refused(prepared, size, fit, resize):
    with pytest.raises(UserError, match=f"trained on --size {size} --resize {fit}"):
        Preprocessing(size=size, fit=fit, resize=resize, crop=32).check(prepared)
