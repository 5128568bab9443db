import pytest

from tests.support.tiny import make_language_model, make_prepared


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with prepared data and a language model."""
    folder = tmp_path_factory.mktemp("place")
    make_prepared(folder / "data")
    make_language_model(folder / "bert")
    return folder


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return make_language_model(tmp_path_factory.mktemp("bert") / "bert")
