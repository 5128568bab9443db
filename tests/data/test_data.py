"""Batches, their order and their views, and what is said of folders and options that do not fit."""

import pickle

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from medvlp.data import Augmentation, CXRDataModule, PreparedDataset
from medvlp.data.sampler import EpochSampler
from medvlp.data.transforms import EvaluationTransform, TrainTransform
from medvlp.errors import NotFoundError, UserError
from medvlp.parse import FINDINGS
from medvlp.prepared import INDEX, MANIFEST
from medvlp.types import Batch
from tests.support.runs import UNCHANGED
from tests.support.tiny import LABELS, make_prepared

STUDIES, SIZE = 48, 40
NO_BOXES = np.zeros((0, 4), np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("data") / "prepared", STUDIES, SIZE)


def module(root, **options):
    return CXRDataModule(root, **{"batch_size": 8, "crop": 32, "num_workers": 0, **options})


def test_a_batch_has_the_documented_keys(root):
    batch = next(iter(module(root, views=3).train_dataloader()))
    assert set(batch) == set(Batch.__annotations__)
    shapes = {key: (value.dtype, tuple(value.shape)) for key, value in batch.items() if torch.is_tensor(value)}
    assert shapes == {
        "image": (torch.uint8, (8, 3, 32, 32)),
        "findings_mask": (torch.bool, (8,)),
        "impression_mask": (torch.bool, (8,)),
        "label": (torch.int8, (8, len(LABELS))),
        "existence": (torch.int8, (8, len(FINDINGS))),
        "index": (torch.int64, (8,)),
        "source": (torch.int64, (8,)),
    }


@pytest.mark.parametrize("split", ["train", "validate", "test"])
def test_batches_hold_what_the_index_says(root, split):
    table = [row for row in pq.read_table(root / INDEX).to_pylist() if row["split"] == split]
    data = module(root)
    loader = {"train": data.train_dataloader, "validate": data.val_dataloader, "test": data.test_dataloader}[split]()
    seen = []
    for batch in loader:
        for k, i in enumerate(batch["index"].tolist()):
            seen.append(i)
            for section in ("findings", "impression"):
                assert batch[section][k] == (table[i][section] or "")
                assert batch[f"{section}_mask"][k] == (table[i][section] is not None)
            stated = [table[i][f"label/{name}"] for name in LABELS]
            assert batch["label"][k].tolist() == [-2 if value is None else value for value in stated]
    assert sorted(seen) == list(range(len(table)))


def test_evaluation_sees_the_centre_of_the_right_image(root):
    table = [row for row in pq.read_table(root / INDEX).to_pylist() if row["split"] == "test"]
    stored = np.load(root / "images.npy")
    (batch,) = module(root, batch_size=100).test_dataloader()
    for i, row in enumerate(table):
        np.testing.assert_array_equal(batch["image"][i, 0], stored[row["row"], 4:-4, 4:-4])


def epochs(data, count):
    loader = data.train_dataloader()
    passes = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        batches = list(loader)
        order = torch.cat([b["index"] for b in batches])
        passes.append((order, torch.cat([b["image"] for b in batches])[order.argsort()]))
    return passes


@pytest.mark.slow
def test_views_are_a_function_of_seed_epoch_image_and_view(root):
    first = epochs(module(root), 2)
    for (order, images), (again, same) in zip(first, epochs(module(root, num_workers=2), 2), strict=True):
        torch.testing.assert_close(again, order)
        torch.testing.assert_close(same, images)
    (_, images), (_, later) = first
    ((_, other),) = epochs(module(root, seed=1), 1)
    assert (images[:, 0] != images[:, 1]).flatten(1).any(1).all()
    assert (images != later).flatten(1).any(1).all()
    assert (images != other).flatten(1).any(1).all()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_sample_comes_once_in_an_epoch(world):
    def share(rank, epoch):
        sampler = EpochSampler(20, shuffle=True, seed=3)
        sampler.num_replicas, sampler.rank = world, rank
        sampler.num_samples = -(-20 // world)
        sampler.total_size = sampler.num_samples * world
        sampler.set_epoch(epoch)
        assert len(sampler) == sampler.num_samples
        return list(sampler)

    shares = [share(rank, 5) for rank in range(world)]
    assert {len(s) for s in shares} == {-(-20 // world)}
    assert {epoch for s in shares for epoch, _ in s} == {5}
    assert sorted({i for s in shares for _, i in s}) == list(range(20))
    # All but the filling up of the last share comes once.
    assert sum(map(len, shares)) - 20 < world
    assert share(0, 5) == shares[0]
    assert [i for _, i in share(0, 6)] != [i for _, i in shares[0]]


def test_sampler_of_evaluation_keeps_the_order():
    assert list(EpochSampler(4, shuffle=False)) == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_samples_that_a_resumed_run_has_seen_are_left_out_once():
    sampler = EpochSampler(20, shuffle=True)
    whole = list(sampler)
    sampler.skip = 12
    assert list(sampler) == whole[12:]
    assert list(sampler) == whole


def test_the_last_incomplete_batch_of_training_is_left_out(root):
    data = module(root, batch_size=10)
    assert [len(batch["index"]) for batch in data.train_dataloader()] == [10, 10]
    assert [len(batch["index"]) for batch in data.val_dataloader()] == [10, 2]


def test_official_training_on_all_splits(root):
    assert len(module(root, train_splits=["train", "validate", "test"]).dataset("train")) == STUDIES


def marked():
    """An image with a bright upper left, a dark lower left and a grey right."""
    image = np.zeros((SIZE, SIZE), np.uint8)
    image[:, SIZE // 2 :] = 80
    image[: SIZE // 2, : SIZE // 2] = 160
    return image


def sides(transform, seeds=60):
    """Where the bright and the dark quarter are in each view: (down, across)."""
    found = set()
    for seed in range(seeds):
        view = transform(marked(), NO_BOXES, seed).image.astype(int)
        half = len(view) // 2
        quarters = {
            (v, h): view[v * half : (v + 1) * half, h * half : (h + 1) * half].mean() for v in (0, 1) for h in (0, 1)
        }
        found.add((max(quarters, key=quarters.get), min(quarters, key=quarters.get)))
    return found


def test_without_flips_sides_are_kept():
    gentle = Augmentation(horizontal_flip=0, vertical_flip=0, rotation=10, perspective=0.5, distortion=0.2)
    for augmentation in (UNCHANGED, gentle):
        assert sides(TrainTransform(36, augmentation)) == {((0, 0), (1, 0))}


def test_each_flip_has_its_direction():
    across = Augmentation(horizontal_flip=0.5, vertical_flip=0, rotation=0, perspective=0)
    assert sides(TrainTransform(36, across)) == {((0, 0), (1, 0)), ((0, 1), (1, 1))}
    down = Augmentation(horizontal_flip=0, vertical_flip=0.5, rotation=0, perspective=0)
    assert sides(TrainTransform(36, down)) == {((0, 0), (1, 0)), ((1, 0), (0, 0))}


def test_all_off_is_a_crop_of_the_stored_image():
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    crops = {image[y : y + 36, x : x + 36].tobytes() for y in range(5) for x in range(5)}
    views = {TrainTransform(36, UNCHANGED)(image, NO_BOXES, seed).image.tobytes() for seed in range(100)}
    assert views <= crops
    assert len(views) > 15
    assert TrainTransform(SIZE, UNCHANGED)(image, NO_BOXES, 0).image.tobytes() == image.tobytes()
    assert EvaluationTransform(SIZE)(image, NO_BOXES, 0).image.tobytes() == image.tobytes()


@pytest.mark.parametrize("image", [np.zeros((SIZE, SIZE), np.uint8), np.full((SIZE, SIZE), 255, np.uint8)])
def test_constant_images_survive(image):
    everything = Augmentation(1, 1, 30, 1, 0.5, 1)
    view = TrainTransform(32, everything)(image, NO_BOXES, 0).image
    assert view.shape == (32, 32)
    assert view.dtype == np.uint8


def test_stored_images_are_never_changed(root):
    before = np.load(root / "images.npy")
    epochs(module(root), 1)
    np.testing.assert_array_equal(np.load(root / "images.npy"), before)


def test_a_spawned_worker_gets_no_pixels(root):
    dataset = module(root).dataset("train")
    assert len(pickle.dumps(dataset.prepared)) < 500
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset))[3]["image"], dataset[3]["image"])


def test_a_folder_without_labels(root, tmp_path):
    bare = make_prepared(tmp_path / "bare")
    table = pq.read_table(bare / INDEX)
    pq.write_table(table.drop_columns([f"label/{name}" for name in LABELS]), bare / INDEX)
    data = module(bare)
    assert data.labels == []
    assert next(iter(data.val_dataloader()))["label"].shape == (8, 0)


def test_reports_are_those_of_the_data_sets(root):
    findings, impression = module(root).reports(["train", "validate", "test"])
    assert len(findings) == len(impression) == STUDIES
    assert len(module(root).reports(["test"])[0]) == len(module(root).dataset("test"))
    assert "" in impression
    assert None not in findings


def test_crop_larger_than_the_images(root):
    with pytest.raises(UserError, match=f"crop=64.*'{root}' have {SIZE} pixels.*--data.crop {SIZE}"):
        module(root, crop=64).val_dataloader()


def test_unknown_split(root):
    with pytest.raises(UserError, match=r"splits=\['valid'\].*splits there: test, train, validate"):
        module(root, validation_splits=["valid"]).val_dataloader()


def test_batch_larger_than_the_split(root):
    with pytest.raises(UserError, match=r"batch_size=25.*24 images.*smaller --data.batch_size"):
        module(root, batch_size=25).train_dataloader()


def test_missing_folder(tmp_path):
    with pytest.raises(NotFoundError, match=r"absent' is not a prepared folder.*medvlp prepare"):
        module(tmp_path / "absent").train_dataloader()


def test_unfinished_folder(tmp_path):
    unfinished = make_prepared(tmp_path / "data")
    (unfinished / MANIFEST).unlink()
    with pytest.raises(NotFoundError, match=r"data' holds an unfinished preparation.*\(again\)"):
        module(unfinished).train_dataloader()


def test_one_view_by_default(root):
    assert PreparedDataset(root, ["test"], EvaluationTransform(32))[0]["image"].shape == (1, 32, 32)


@pytest.mark.parametrize("name", ["train", "validate"])
def test_resize_comes_before_the_crop(root, name):
    # A crop as large as the resized image shows all of it, whatever the stored size.
    plain = Augmentation(horizontal_flip=0, vertical_flip=0, rotation=0, perspective=0, autocontrast=0)
    dataset = module(root, resize=16, crop=16, augmentation=plain).dataset(name)
    stored = dataset.prepared.images[dataset.rows[0]]
    expected = cv2.resize(stored, (16, 16), interpolation=cv2.INTER_AREA)
    assert (dataset[0]["image"] == expected).all()


def test_crop_larger_than_the_resized_images(root):
    with pytest.raises(UserError, match=r"crop=32, but resize=16 makes images of 16 pixels"):
        module(root, resize=16, crop=32).val_dataloader()
