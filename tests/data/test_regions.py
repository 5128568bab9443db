"""Boxes stay on what they were drawn around, and sentences with the regions they speak of."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from medvlp.data import Augmentation, CXRDataModule
from medvlp.data.regions import ImageBoxes, RegionList, collate_regions, study_regions
from medvlp.data.transforms import EvaluationTransform, TrainTransform
from medvlp.data.triplets import ReportTriplets
from medvlp.errors import NotFoundError, UserError
from medvlp.parse import FINDINGS, REGIONS, write_triplets
from medvlp.prepared import INDEX, REGION_TYPE, TRIPLETS
from medvlp.types import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN, report_text
from tests.support.runs import UNCHANGED
from tests.support.tiny import make_prepared

SIDE = 96
BOXES = np.array([[30, 40, 50, 56], [60, 20, 70, 44]], np.float32)


def drawn(number=0):
    """An image with one of the boxes filled."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    x1, y1, x2, y2 = BOXES[number].astype(int)
    image[y1:y2, x1:x2] = 240
    return image


def found(view):
    rows, columns = np.nonzero(view >= 200)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize(
    "augmentation",
    [
        UNCHANGED,
        Augmentation(1, 0, 0, 0, 0.5, 0),
        Augmentation(0, 1, 0, 0, 0.5, 0),
        Augmentation(0.5, 0.5, 0, 0, 0.5, 0),
    ],
)
@pytest.mark.parametrize("resize", [None, 80])
def test_boxes_follow_crops_flips_and_resizing(augmentation, resize):
    transform = TrainTransform(72, augmentation, resize)
    for seed in range(20):
        for number in range(2):
            view = transform(drawn(number), BOXES, seed)
            if view.visible[number] and (view.box[number] > 0).all() and (view.box[number] < 72).all():
                np.testing.assert_allclose(view.box[number], found(view.image), atol=1.1)


def test_boxes_enclose_what_was_turned_or_distorted():
    transform = TrainTransform(90, Augmentation(0.5, 0.5, 20, 0.5, 0.3, 0))
    for seed in range(40):
        for number in range(2):
            view = transform(drawn(number), BOXES, seed)
            if view.visible[number]:
                x1, y1, x2, y2 = found(view.image)
                box = view.box[number]
                assert (box[:2] <= (x1 + 2, y1 + 2)).all()
                assert (box[2:] >= (x2 - 2, y2 - 2)).all()
                assert (box >= 0).all()
                assert (box <= 90).all()


def test_boxes_change_nothing_about_the_image():
    transform = TrainTransform(72, Augmentation())
    for seed in range(10):
        alone = transform(drawn(), np.zeros((0, 4), np.float32), seed).image
        np.testing.assert_array_equal(transform(drawn(), BOXES, seed).image, alone)


def test_a_box_outside_the_view_is_not_visible():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 16, 16], [40, 40, 60, 60]], np.float32)
    view = EvaluationTransform(76)(drawn(), boxes, 0)
    assert view.visible.tolist() == [False, False, True]  # of the second 14 % remain
    assert view.box.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [30, 30, 50, 50]]
    for seed in range(50):
        view = TrainTransform(40, UNCHANGED)(drawn(), boxes, seed)
        assert not view.box[~view.visible].any()


def test_a_box_beyond_the_image_is_clipped():
    for transform in (TrainTransform(SIDE, UNCHANGED), EvaluationTransform(SIDE)):
        view = transform(drawn(), np.array([[-5, 50, 40, 120]], np.float32), 0)
        assert view.visible.tolist() == [True]
        assert view.box.tolist() == [[0, 50, 40, 96]]


def boxes_of(given, regions):
    """Return the boxes of one image as the index holds them, between those of two others."""
    column = pa.chunked_array([pa.array([GIVEN[:1], given, None, []], pa.list_(REGION_TYPE))])
    return ImageBoxes(column, regions).of(1)


def align(given, said, regions):
    mentioned = np.array([[name in names for name in REGIONS] for names in said], np.bool_).reshape(-1, len(REGIONS))
    return study_regions(boxes_of(given, regions), mentioned, regions)


GIVEN = [
    {"name": "right costophrenic angle", "x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.0},
    {"name": "cardiac silhouette", "x1": 5.0, "y1": 6.0, "x2": 7.0, "y2": 8.0},
    {"name": "left lung", "x1": 2.0, "y1": 2.0, "x2": 3.0, "y2": 9.0},
    {"name": "trachea", "x1": 2.0, "y1": 2.0, "x2": 3.0, "y2": 9.0},
    {"name": "left cardiophrenic angle", "x1": 2.0, "y1": 2.0, "x2": 3.0, "y2": 9.0},
]
# The regions that each sentence mentions; the third mentions none, the last one that the image does not have.
SAID = [
    ["right costophrenic angle"],
    ["cardiac silhouette"],
    [],
    ["left lung", "right lung"],
    ["cardiac silhouette"],
    ["spine"],
]


def test_regions_meet_the_sentences_that_speak_of_them():
    study, boxes = align(GIVEN, SAID, RegionList())
    assert [REGIONS[i] for i in study.region_id] == ["right costophrenic angle", "left lung", "cardiac silhouette"]
    assert boxes.tolist() == [[1, 2, 3, 4], [2, 2, 3, 9], [5, 6, 7, 8]]
    assert study.aligned.astype(int).tolist() == [[1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0]]


def test_empty_boxes_are_left_out():
    flat = [{**GIVEN[0], "x2": GIVEN[0]["x1"]}, GIVEN[1]]
    study, _ = align(flat, SAID, RegionList())
    assert [REGIONS[i] for i in study.region_id] == ["cardiac silhouette"]


def test_a_study_without_regions_or_sentences():
    for given_boxes, said in (([], SAID), (GIVEN, []), ([], []), (GIVEN, [[], ["spine"]])):
        study, boxes = align(given_boxes, said, RegionList())
        assert (len(study.region_id), boxes.shape) == (0, (0, 4))
        assert study.aligned.shape == (0, len(said))


def test_merged_regions(tmp_path):
    path = tmp_path / "regions.yaml"
    lines = "left chest: [left lung, cardiac silhouette]", "right chest: [right lung, right costophrenic angle]"
    path.write_text("\n".join(lines))
    study, boxes = align(GIVEN, SAID, RegionList(path))
    assert study.region_id.tolist() == [0, 1]
    assert boxes.tolist() == [[2, 2, 7, 9], [1, 2, 3, 4]]
    assert study.aligned.astype(int).tolist() == [[0, 1, 0, 1, 1, 0], [1, 0, 0, 1, 0, 0]]


def test_23_regions():
    regions = RegionList("23")
    assert len(regions.names) == 23
    assert set(regions.number) == set(REGIONS) - {"right clavicle", "left clavicle"}


@pytest.mark.parametrize("text", ["left chest: [left lnug]", "a: [spine]\nb: [spine]", "just text", "a: spine"])
def test_a_wrong_region_list_is_explained(tmp_path, text):
    path = tmp_path / "regions.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="region_list="):
        RegionList(path)
    with pytest.raises(NotFoundError, match="no such file"):
        RegionList(tmp_path / "nowhere.yaml")


def test_studies_are_put_together_block_by_block():
    first, boxes = align(GIVEN, SAID, RegionList())
    first.box, first.visible = boxes[None], np.ones((1, 3), np.bool_)
    empty, boxes = align([], SAID, RegionList())
    batch = collate_regions([first, empty, first])
    assert batch.study.tolist() == [0, 0, 0, 2, 2, 2]
    assert batch.aligned.shape == (6, 3 * len(SAID))
    assert batch.aligned.sum() == 8
    assert (batch.aligned[:3, :6] == batch.aligned[3:, 12:]).all()
    assert batch.aligned[:3, :6].sum() == 4
    assert batch.sentence.tolist() == [0, 1, 3, 4, 12, 13, 15, 16]
    assert batch.box.shape == (1, 6, 4)
    nothing = collate_regions([empty])
    assert nothing.aligned.shape == (0, len(SAID))
    assert nothing.sentence.tolist() == []
    assert nothing.box.shape == (1, 0, 4)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("regions") / "prepared")


def test_batches_hold_the_regions_of_their_own_study(root):
    data = CXRDataModule(root, batch_size=8, crop=32, views=2, num_workers=0, regions=True, augmentation=UNCHANGED)
    table = pq.read_table(root / INDEX).to_pylist()
    train = [row for row in table if row["split"] == "train"]
    for batch in data.train_dataloader():
        region, said = batch["region"], batch["sentence"]
        for r, s in region.aligned.nonzero().tolist():
            study = int(region.study[r])
            assert study == int(said.study[s])
            assert said.region[s, region.region_id[r]]
            row = train[int(batch["index"][study])]
            name, text = REGIONS[int(region.region_id[r])], said.text[s]
            assert text in report_text(row["findings"] or "", row["impression"] or "")
            assert ("cardiomegaly" in text) == (name == "cardiac silhouette")
            # The box shows what is there: bright where the report says so.
            x1, y1, x2, y2 = region.box[0, r].int().tolist()
            bright = batch["image"][study, 0, y1:y2, x1:x2].float().mean() > 90
            if name != "cardiac silhouette" and ("left" in text) == ("left" in name):
                assert bright == ("there is" in text)


def test_batches_without_regions_have_none(root):
    data = CXRDataModule(root, batch_size=8, crop=32, num_workers=0)
    assert next(iter(data.val_dataloader()))["region"] is None


def test_a_folder_without_boxes_is_explained(tmp_path):
    root = make_prepared(tmp_path / "prepared", 8)
    table = pq.read_table(root / INDEX)
    rows = [{**row, "regions": None} for row in table.to_pylist()]
    pq.write_table(type(table).from_pylist(rows, table.schema), root / INDEX)
    with pytest.raises(UserError, match="--scene_graphs"):
        CXRDataModule(root, batch_size=2, crop=32, num_workers=0, regions=True).dataset("train")


def test_findings_of_a_report(tmp_path):
    reports = [
        ("b", {"findings": "No pneumothorax. Small left pleural effusion.", "impression": "Possible pneumonia."}),
        ("a", {"findings": "No pleural effusion.", "impression": "Large left pleural effusion."}),
        ("c", {"findings": "", "impression": ""}),
    ]
    write_triplets(reports, tmp_path / TRIPLETS, workers=1)
    ids = ["a", "b", "c", "a", "unheard of"]
    triplets = ReportTriplets(tmp_path / TRIPLETS, ids)
    assert (ReportTriplets(tmp_path / TRIPLETS, ids, sentences=False).existence == triplets.existence).all()
    effusion, air, pneumonia = map(FINDINGS.index, ["pleural effusion", "pneumothorax", "pneumonia"])
    assert triplets.existence[:, [effusion, air, pneumonia]].tolist() == [
        [PRESENT, NOT_MENTIONED, NOT_MENTIONED],
        [PRESENT, ABSENT, UNCERTAIN],
        [NOT_MENTIONED] * 3,
        [PRESENT, NOT_MENTIONED, NOT_MENTIONED],
        [NOT_MENTIONED] * 3,
    ]
    assert [s.text for s in triplets.stated(3)] == ["No pleural effusion.", "Large left pleural effusion."]
    assert triplets.statements.region[triplets.stated(3)[1].statement, REGIONS.index("left costophrenic angle")]
    assert triplets.stated(2) == triplets.stated(4) == []


def test_other_sections_do_not_speak_of_the_image(tmp_path):
    write_triplets([("a", {"indication": "Rule out pneumothorax.", "findings": ""})], tmp_path / TRIPLETS, workers=1)
    triplets = ReportTriplets(tmp_path / TRIPLETS, ["a"])
    assert (triplets.existence == NOT_MENTIONED).all()
    assert triplets.stated(0) == triplets.texts == []


def test_a_table_of_other_reports_or_another_vocabulary_is_explained(tmp_path):
    path = tmp_path / TRIPLETS
    write_triplets([("s1", {"findings": "No pneumothorax."})], path, workers=1)
    pq.write_table(pa.table({"study_id": ["1", "2"]}), tmp_path / INDEX)
    with pytest.raises(UserError, match=r"ids are like 's1', those of the studies like '1'.*medvlp parse --input"):
        ReportTriplets(path, ["1", "2"])
    table = pq.read_table(path)
    for name, column in (("finding", 6), ("region", 4)):
        changed = table.set_column(column, table.schema.field(column), pa.array(["phlogiston"] * len(table)))
        pq.write_table(changed, path)
        with pytest.raises(UserError, match=rf"has the {name} 'phlogiston'.*medvlp parse --input"):
            ReportTriplets(path, ["s1"])


def test_moving_regions(root):
    data = CXRDataModule(root, batch_size=8, crop=32, num_workers=0, regions=True)
    region = next(iter(data.val_dataloader()))["region"]
    moved = region.to(torch.device("meta"))
    assert moved.sentence is region.sentence
    assert all(getattr(moved, name).is_meta for name in ("region_id", "study", "box", "visible", "aligned"))
