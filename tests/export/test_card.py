"""The model card: where a model comes from, what its figures are, and what may be done with it."""

import json

import pytest
import yaml

from medvlp.__main__ import main
from medvlp.errors import NotFoundError, UserError
from medvlp.export import export
from medvlp.export.card import read_results
from medvlp.models.weights import fingerprint
from tests.support.checkpoints import save, settings
from tests.support.invented import write_cell
from tests.support.tiny import make_language_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    make_language_model(folder / "bert")
    save(folder / "last.ckpt", settings(folder / "bert"))
    return folder


def make_card(place, out, **data):
    """Return the card of a checkpoint with other data."""
    save(out / "other.ckpt", settings(place / "bert"), **data)
    export(out / "other.ckpt", out=out / "model")
    return (out / "model" / "README.md").read_text()


def test_says_what_the_checkpoint_says(place, tmp_path):
    export(place / "last.ckpt", out=tmp_path / "chest", name="Chest model")
    text = (tmp_path / "chest" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "other"
    for said in (
        "# Chest model\n",
        'medvlp.load("chest")',
        "Not for clinical use",
        "| image encoder | test_resnet.r160_in1k, 0.4 million parameters |",
        "| text encoder | bert, frozen, ",
        "`hierarchical/impression` (16), `hierarchical/findings` (16), `report/report` (8)",
        "resized to a square of 48 pixels, with its aspect ratio",
        "3. averaged to 40 x 40 pixels\n4. cut to the central 32 x 32 pixels\n",
        "1,234 images of train",
        "epochs: 6\nsteps: 540\n",
        "lr: 0.001",
        "The text encoder, bert, is copied into `text_encoder/`.",
        f"checkpoint_sha256: {fingerprint(str(place / 'last.ckpt'))}",
    ):
        assert said in body, said
    assert "## Results" not in body


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"dataset": "mimic_cxr"}, "PhysioNet Credentialed Health Data License 1.5.0"),
        ({"dataset": "open_i"}, "CC BY-NC-ND 4.0"),
        ({"dataset": "our_hospital"}, "The terms of the data set `our_hospital` hold"),
        ({"dataset": "mimic_cxr", "synthetic": True}, "no licence of data binds these weights"),
    ],
)
def test_says_whose_terms_hold(place, tmp_path, data, said):
    text = make_card(place, tmp_path, **data)
    assert said in text
    assert ("PhysioNet" in text) == (data == {"dataset": "mimic_cxr"})
    assert ("drawings alone" in text) == data.get("synthetic", False)


def test_of_a_split_without_a_name(place, tmp_path):
    assert "| split | the only one |" in make_card(place, tmp_path, split="", split_sha256=None)


def test_has_the_figures_of_these_weights_alone(place, tmp_path, capsys):
    own = fingerprint(str(place / "last.ckpt"))
    for seed, value in enumerate((0.81, 0.83)):
        write_cell(tmp_path / "runs" / f"rsna-{seed}", seed=seed, metrics={"auroc": value}, weights_sha256=own)
    write_cell(tmp_path / "runs" / "others", label="others", metrics={"auroc": 0.99})
    main(["export", str(place / "last.ckpt"), "--out", str(tmp_path / "model"), f"--results={tmp_path / 'runs'}"])
    text = (tmp_path / "model" / "README.md").read_text()
    (row,) = [line for line in text.splitlines() if "AUROC" in line]
    assert "| AUROC | 1 % | 82.0 ± 1.4 (2) [" in row
    assert "mgca_16010 (cdcdcdcd)" in row
    assert "99.0" not in text


@pytest.mark.parametrize("name", ["results.json", "cell"])
def test_one_result_can_be_named(tmp_path, name):
    cell = write_cell(tmp_path / "runs" / "cell")
    path = {"results.json": cell / "results.json", "cell": cell}[name]
    (benchmark,) = read_results(path, ["ab" * 32])
    assert benchmark.name == "rsna"


def test_the_summary_of_results_can_be_named(tmp_path):
    write_cell(tmp_path / "cell")
    main(["results", str(tmp_path)])
    (benchmark,) = read_results(tmp_path / "results.json", ["ab" * 32])
    assert "rsna" in json.loads((tmp_path / "results.json").read_text())
    assert benchmark.name == "rsna"


def test_other_weights_and_missing_folders_are_errors(tmp_path):
    write_cell(tmp_path / "runs" / "cell")
    with pytest.raises(UserError, match="none of the 1 results there was computed with these weights"):
        read_results(tmp_path / "runs", ["cd" * 32])
    with pytest.raises(NotFoundError, match="no such folder"):
        read_results(tmp_path / "nowhere", ["ab" * 32])
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="holds no finished cell"):
        read_results(tmp_path / "empty", ["ab" * 32])
