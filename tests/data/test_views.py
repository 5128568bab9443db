"""The second view of an image is another image of its study, where there is one."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.data import CXRDataModule, PreparedDataset
from medvlp.data.transforms import EvaluationTransform
from medvlp.data.views import StudyImages
from medvlp.errors import UserError
from medvlp.prepared import INDEX
from tests.support.runs import UNCHANGED
from tests.support.tiny import make_prepared


def regroup(root, study_of):
    """Give the images of a prepared folder other studies."""
    table = pq.read_table(root / INDEX)
    rows = [{**row, "study_id": study_of(row["row"])} for row in table.to_pylist()]
    pq.write_table(type(table).from_pylist(rows, table.schema), root / INDEX)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = make_prepared(tmp_path_factory.mktemp("views") / "prepared")
    # Studies of one to four images.
    regroup(root, lambda row: f"study{int(np.searchsorted(np.cumsum([1, 2, 3, 4] * 8), row, 'right'))}")
    return root


def data_of(root, **options):
    chosen = {"batch_size": 8, "crop": 40, "num_workers": 0, "augmentation": UNCHANGED, "view_source": "study"}
    return CXRDataModule(root, **{**chosen, **options})


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.integers(1, 5), st.integers(0, 9))
def test_views_are_drawn_from_the_own_study_each_once(studies, views, seed):
    images = StudyImages([str(study) for study in studies])
    for i, study in enumerate(studies):
        drawn = images.draw(i, views, (0, seed, i)).tolist()
        others = [j for j, other in enumerate(studies) if other == study and j != i]
        taken = drawn[1 : 1 + len(others)]
        assert drawn[0] == i
        assert len(drawn) == views
        assert len(set(taken)) == len(taken)
        assert set(taken) <= set(others)
        assert all(j == i for j in drawn[1 + len(others) :])
        assert drawn == images.draw(i, views, (0, seed, i)).tolist()
    assert images.paired == sum(studies.count(study) > 1 for study in studies)


def test_all_others_are_drawn_in_time():
    images = StudyImages(["a", "b", "a", "a"])
    assert {int(images.draw(0, 2, (0, epoch, 0))[1]) for epoch in range(40)} == {2, 3}


def test_views_show_other_images_of_the_study(root):
    data = data_of(root, views=3, augmentation=UNCHANGED)
    dataset = data.dataset("train")
    stored = {int(row): dataset.prepared.images[row] for row in dataset.rows}
    studies = dataset.study_id.to_pylist()
    different = 0
    for i in range(len(dataset)):
        sample = dataset[(0, i)]
        own = {int(dataset.rows[j]) for j, study in enumerate(studies) if study == studies[i]}
        shown = [next(row for row, image in stored.items() if (image == view).all()) for view in sample["image"]]
        assert shown[0] == dataset.rows[i]
        assert set(shown) <= own
        assert len(set(shown)) == min(3, len(own))
        different += len(set(shown)) > 1
    assert different == dataset.study.paired > 0


def batches(loader):
    return [batch["image"].numpy() for batch in loader]


def test_views_depend_on_neither_workers_nor_interruption(root):
    whole = batches(data_of(root).train_dataloader())
    for got, expected in zip(batches(data_of(root, num_workers=2).train_dataloader()), whole, strict=True):
        np.testing.assert_array_equal(got, expected)
    resumed = data_of(root)
    resumed.load_state_dict({"epoch": 0, "samples": 8})
    for got, expected in zip(batches(resumed.train_dataloader()), whole[1:], strict=True):
        np.testing.assert_array_equal(got, expected)
    other = data_of(root, seed=1)
    assert any((a != b).any() for a, b in zip(batches(other.train_dataloader()), whole, strict=True))


def test_evaluation_has_the_image_itself(root):
    for image, expected in zip(
        batches(data_of(root).val_dataloader()),
        batches(data_of(root, view_source="image").val_dataloader()),
        strict=True,
    ):
        np.testing.assert_array_equal(image, expected)


def test_what_goes_without_a_real_second_view_is_explained(root, tmp_path):
    for options, reason in (
        ({"views": 1}, "views 2"),
        ({"regions": True}, "regions"),
        ({"targets": "mask"}, "targets"),
    ):
        with pytest.raises(UserError, match=rf"view_source='study'.*{reason}"):
            data_of(root, **options)
    alone = make_prepared(tmp_path / "alone", 16)
    with pytest.raises(UserError, match=r"no study of the training images.*has two images"):
        data_of(alone, batch_size=4).train_dataloader()


def test_a_data_set_alone_draws_as_well(root):
    dataset = PreparedDataset(root, ["train"], EvaluationTransform(40), views=2, view_source="study")
    paired = [i for i in range(len(dataset)) if (dataset[i]["image"][0] != dataset[i]["image"][1]).any()]
    assert len(paired) == dataset.study.paired
