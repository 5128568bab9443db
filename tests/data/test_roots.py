"""Several prepared folders: their shares, the order of their samples, their labels, and what does not fit together."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.data import CXRDataModule
from medvlp.data.mixed import MixedSampler
from medvlp.data.preprocessing import Preprocessing
from medvlp.data.roots import Roots
from medvlp.errors import UserError
from medvlp.prepared import INDEX, Prepared
from medvlp.trainer.composition import compose
from tests.support.runs import UNCHANGED
from tests.support.tiny import LABELS, make_prepared, refit


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders of 24, 48 and 12 training images; b spells a label of a in another way, and has one of its own."""
    place = tmp_path_factory.mktemp("roots")
    make_prepared(place / "a")
    make_prepared(place / "b", 96, seed=1, labels=["pleural effusion", "Mass"])
    make_prepared(place / "large", 24, size=64)
    return place


def data_of(place, root, **options):
    named = {str(place / name): weight for name, weight in root.items()} if isinstance(root, dict) else root
    named = [str(place / name) for name in root] if isinstance(root, list) else named
    chosen = {"batch_size": 8, "crop": 32, "num_workers": 0, "augmentation": UNCHANGED}
    return CXRDataModule(named, **{**chosen, **options})


def keys(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.floats(0.05, 20)), min_size=2, max_size=5),
)
def test_counts_are_the_weights_of_an_epoch(folders):
    sizes, weights = zip(*folders, strict=True)
    roots = Roots({f"folder{i}": weight for i, weight in enumerate(weights)})
    exact = [sum(sizes) * weight / sum(weights) for weight in weights]
    if min(exact) < 1:
        return
    counts = roots.counts(sizes)
    assert sum(counts) == sum(sizes)
    assert all(abs(count - share) < 1 for count, share in zip(counts, exact, strict=True))


@pytest.mark.parametrize("weights", [(1.0, 0.5), (0.1, 0.9), (5, 1), (1, 1)])
def test_shares_are_within_one_percent_of_the_weights_over_an_epoch(weights):
    sizes = (1000, 300)
    counts = Roots({"a": weights[0], "b": weights[1]}).counts(sizes)
    for epoch in range(2):
        indices = np.array([index for _, index in keys(MixedSampler(sizes, counts), epoch)])
        assert len(indices) == 1300
        assert (indices < 1000).mean() == pytest.approx(weights[0] / sum(weights), rel=0.01)


def test_each_image_of_a_folder_is_read_equally_often_and_never_twice_alike():
    sizes, counts = (10, 4), (3, 11)
    sampler, seen = MixedSampler(sizes, counts, seed=3), Counter()
    for epoch in range(10):
        seen.update(keys(sampler, epoch))
    assert max(seen.values()) == 1
    images = Counter(index for _, index in seen)
    assert {images[i] for i in range(10)} == {3}  # 30 samples of 10 images
    assert {images[i] for i in range(10, 14)} == {27, 28}  # 110 of 4


def test_without_weights_an_epoch_reads_each_image_once():
    counts = Roots(["a", "b"]).counts((10, 4))
    sampler = MixedSampler((10, 4), counts)
    for epoch in range(3):
        assert sorted(keys(sampler, epoch)) == [(epoch, i) for i in range(14)]
    assert keys(sampler, 0) != [(0, i) for _, i in keys(sampler, 1)]


def test_batches_mix_folders():
    order = [index >= 500 for _, index in keys(MixedSampler((500, 500), (500, 500)), 0)]
    assert 300 < sum(a != b for a, b in pairwise(order)) < 700


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_samples_of_one(monkeypatch, world):
    sizes, counts = (50, 20), (40, 30)
    whole = keys(MixedSampler(sizes, counts), 4)
    parts = []
    for rank in range(world):
        monkeypatch.setattr("medvlp.data.sampler.world_size", lambda: world)
        monkeypatch.setattr("medvlp.data.sampler.rank", lambda rank=rank: rank)
        parts.append(keys(MixedSampler(sizes, counts), 4))
    woven = [key for together in zip(*parts, strict=True) for key in together]
    assert woven[: len(whole)] == whole
    assert woven[len(whole) :] == whole[: len(woven) - len(whole)]


def test_a_pass_goes_on_inside_an_epoch():
    sampler = MixedSampler((50, 20), (40, 30))
    whole = keys(sampler, 3)
    sampler.skip = 26
    assert keys(sampler, 3) == whole[26:]
    assert keys(sampler, 3) == whole


def test_batches_depend_on_neither_workers_nor_interruption(place):
    roots = {"a": 1.0, "b": 0.5}
    whole = list(data_of(place, roots).train_dataloader())
    for batch, expected in zip(data_of(place, roots, num_workers=2).train_dataloader(), whole, strict=True):
        for key in ("image", "index", "source", "label"):
            torch.testing.assert_close(batch[key], expected[key])
    resumed = data_of(place, roots)
    resumed.load_state_dict({"epoch": 0, "samples": 16})
    for batch, expected in zip(resumed.train_dataloader(), whole[2:], strict=True):
        torch.testing.assert_close(batch["index"], expected["index"])
        torch.testing.assert_close(batch["image"], expected["image"])


def test_a_batch_says_which_folder_each_sample_is_from(place):
    data = data_of(place, {"a": 1.0, "b": 1.0})
    a, b = data.datasets("train")
    counts = Counter()
    for batch in data.train_dataloader():
        for k, (index, source) in enumerate(zip(batch["index"].tolist(), batch["source"].tolist(), strict=True)):
            own = (a, b)[source]
            i = index - own.first
            np.testing.assert_array_equal(batch["label"][k], own.label[i])
            assert batch["findings"][k] == own.findings[i].as_py()
            counts[source] += 1
    assert counts == {0: 36, 1: 36}
    assert (a.first, b.first) == (0, len(a))


def test_labels_are_joined_by_name(place):
    data = data_of(place, ["a", "b"])
    assert data.labels == [*LABELS, "Mass"]
    a, b = data.datasets("test")
    own = Prepared.open(place / "b").of_splits(["test"])
    column = data.labels.index("Pleural Effusion")
    assert b.label[:, column].tolist() == own["label/pleural effusion"].to_pylist()
    assert b.label[:, data.labels.index("Mass")].tolist() == own["label/Mass"].to_pylist()
    lacking = [data.labels.index(name) for name in ("Cardiomegaly", "Support Devices")]
    assert (b.label[:, lacking] == -2).all()
    assert (a.label[:, data.labels.index("Mass")] == -2).all()
    assert data.roots.has_label.tolist() == [[True, True, True, False], [False, True, False, True]]
    assert data.find_labels(["mass"], "labels") == ["Mass"]


def test_evaluation_has_a_loader_for_each_folder_that_has_images(place, tmp_path):
    data = data_of(place, ["a", "b"])
    for loader, name in zip(data.val_dataloader(), ("a", "b"), strict=True):
        (source,) = {int(number) for batch in loader for number in batch["source"]}
        assert data.roots.names[source] == name
    indices = [int(i) for loader in data.test_dataloader() for batch in loader for i in batch["index"]]
    assert indices == list(range(12 + 24))
    few = make_prepared(tmp_path / "few", 8)  # all of them train
    data = CXRDataModule([str(few), str(place / "a")], batch_size=4, crop=32, num_workers=0)
    assert [loader.dataset.source for loader in data.val_dataloader()] == [1]


def test_reports_and_sentences_are_those_of_all_folders(place):
    data = data_of(place, ["a", "b"])
    for names in (["train"], ["train", "validate"]):
        apart = [data_of(place, place / name).reports(names) for name in ("a", "b")]
        assert data.reports(names) == tuple(first + second for first, second in zip(*apart, strict=True))
        texts = [data_of(place, place / name).sentences(names) for name in ("a", "b")]
        assert data.sentences(names) == list(dict.fromkeys(texts[0] + texts[1]))
    assert len(data.existences(["train"])) == 24 + 48


def test_a_folder_without_triplets_says_nothing(place, tmp_path):
    silent = make_prepared(tmp_path / "silent")
    (silent / "triplets.parquet").unlink()
    data = CXRDataModule([str(silent), str(place / "a")], crop=32)
    existence = data.existences(["train"])
    assert (existence[:24] == -2).all()
    assert (existence[24:] != -2).any()
    alone = CXRDataModule(silent, crop=32)
    assert alone.existences(["train"]) is None


def test_the_same_number_in_two_folders_is_seen_differently(place, tmp_path):
    copy = make_prepared(tmp_path / "copy")
    data = CXRDataModule([str(place / "a"), str(copy)], crop=32, num_workers=0)
    a, b = data.datasets("train")
    np.testing.assert_array_equal(a.prepared.images[a.rows[0]], b.prepared.images[b.rows[0]])
    assert (a[(0, 0)]["image"] != b[(0, 0)]["image"]).any()


def test_one_folder_as_a_mapping_is_the_folder(place):
    for root in ({"a": 2.0}, ["a"]):
        data = data_of(place, root)
        expected = data_of(place, place / "a")
        for batch, same in zip(data.train_dataloader(), expected.train_dataloader(), strict=True):
            torch.testing.assert_close(batch["image"], same["image"])
            torch.testing.assert_close(batch["index"], same["index"])
        assert not isinstance(data.val_dataloader(), list)
        assert data.root == place / "a"


def test_other_views_of_a_study_are_drawn_in_each_folder(place, tmp_path):
    paired = make_prepared(tmp_path / "paired")
    table = pq.read_table(paired / INDEX)
    rows = [{**row, "study_id": f"study{row['row'] // 4}"} for row in table.to_pylist()]
    pq.write_table(type(table).from_pylist(rows, table.schema), paired / INDEX)
    data = CXRDataModule(
        [str(place / "a"), str(paired)], 8, 40, num_workers=0, augmentation=UNCHANGED, view_source="study"
    )
    different = Counter()
    for batch in data.train_dataloader():
        first, second = batch["image"][:, 0], batch["image"][:, 1]
        for source, other in zip(batch["source"].tolist(), (first != second).flatten(1).any(1).tolist(), strict=True):
            different[source, other] += 1
    assert different[0, True] == different[1, False] == 0
    assert different[1, True] > 0


def test_folders_of_several_sizes_need_one(place):
    with pytest.raises(UserError, match=r"have 40 and .*large have 64 pixels a side: .*--data.resize 40"):
        data_of(place, ["a", "large"]).train_dataloader()
    data = data_of(place, ["a", "large"], resize=36)
    assert Preprocessing.of(data) == Preprocessing(40, "pad", 36, 32)
    (batch, *_) = data.train_dataloader()
    assert batch["image"].shape == (8, 2, 32, 32)


def test_folders_of_several_fits_are_refused_unless_one_is_of_squares(place, tmp_path):
    squashed, padded = make_prepared(tmp_path / "squashed"), make_prepared(tmp_path / "padded")
    refit(squashed, "squash")
    # The images of a are squares, which every fit leaves as they are.
    assert Preprocessing.of(CXRDataModule([str(place / "a"), str(squashed)], crop=32)).fit == "squash"
    refit(padded, "pad")
    with pytest.raises(UserError, match=r"padded' with --resize pad, .*squashed' with --resize squash"):
        Preprocessing.of(CXRDataModule([str(place / "a"), str(padded), str(squashed)], crop=32))


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        ({}, "give a prepared folder"),
        (Path("{data/a: x}"), "several with their weights"),
        ({"data/a": 1.0, "data/b": 0.0}, "the weight 0.0 of 'data/b' is no positive number"),
        ({"data/a": float("nan"), "data/b": 1.0}, "no positive number"),
        (["data/a", "data/../data/a"], "names the folder 'data/a' twice"),
    ],
)
def test_wrong_roots_are_explained(root, reason):
    with pytest.raises(UserError, match=reason):
        Roots(root)


def test_a_weight_that_gives_no_sample_is_explained():
    with pytest.raises(UserError, match=r"the weight 0.001 of 'b' none of the 20 samples"):
        Roots({"a": 1.0, "b": 0.001}).counts((10, 10))


def test_names_tell_folders_apart():
    assert Roots(["x/mimic", "y/mimic"]).names == ["x-mimic", "y-mimic"]
    assert Roots(["x/a", "x/b"]).names == ["a", "b"]
    assert str(Roots({"x/a": 1, "x/b": 2})) == "x/a, x/b"


def test_only_pretraining_reads_several(place):
    with pytest.raises(UserError, match=r"names 2 folders.*only pre-training reads several"):
        data_of(place, ["a", "b"]).root  # noqa: B018


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--data.root", "data/x"], "data/x"),
        (["--data.root", "{data/x: 1, data/y: 0.5}"], {"data/x": 1.0, "data/y": 0.5}),
        (["--data.root.data/x=2", "--data.root.data/y=1"], {"data/x": 2.0, "data/y": 1.0}),
        (["--data.root", "[data/x, data/y]"], ["data/x", "data/y"]),
    ],
)
def test_the_command_line_takes_all_forms(options, expected):
    assert compose(["fit", "-c", "imitate", *options])["data"]["root"] == expected
