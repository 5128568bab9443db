"""Boxes stay on what they were drawn around, and sentences with the regions they speak of."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.data import Augmentation, CXRDataModule
from medvlp.data.regions import ImageBoxes, RegionList, collate_regions, find, study_regions
from medvlp.data.transforms import EvaluationTransform, TrainTransform
from medvlp.data.triplets import RegionSentence, ReportTriplets
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


def sentence(text, *regions, section="findings"):
    return RegionSentence(section, text, np.array(sorted(map(REGIONS.index, regions)), np.int64))


SECTIONS = {
    "findings": "Right effusion. Heart is large. Right effusion.",
    "impression": "Both lungs are hazy. Heart is large.",
}


def boxes_of(given, regions):
    """Return the boxes of one image as the index holds them, between those of two others."""
    column = pa.chunked_array([pa.array([GIVEN[:1], given, None, []], pa.list_(REGION_TYPE))])
    return ImageBoxes(column, regions).of(1)


def align(given, said, regions):
    return study_regions(boxes_of(given, regions), said, SECTIONS, regions)


GIVEN = [
    {"name": "right costophrenic angle", "x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.0},
    {"name": "cardiac silhouette", "x1": 5.0, "y1": 6.0, "x2": 7.0, "y2": 8.0},
    {"name": "left lung", "x1": 2.0, "y1": 2.0, "x2": 3.0, "y2": 9.0},
    {"name": "trachea", "x1": 2.0, "y1": 2.0, "x2": 3.0, "y2": 9.0},
    {"name": "left cardiophrenic angle", "x1": 2.0, "y1": 2.0, "x2": 3.0, "y2": 9.0},
]
SAID = [
    sentence("Right effusion.", "right costophrenic angle"),
    sentence("Heart is large.", "cardiac silhouette"),
    sentence("Right effusion.", "right costophrenic angle"),
    sentence("Both lungs are hazy.", "left lung", "right lung", section="impression"),
    sentence("Heart is large.", "cardiac silhouette", section="impression"),
]


def test_regions_meet_the_sentences_that_speak_of_them():
    study, boxes = align(GIVEN, SAID, RegionList())
    assert [REGIONS[i] for i in study.region_id] == ["right costophrenic angle", "left lung", "cardiac silhouette"]
    assert boxes.tolist() == [[1, 2, 3, 4], [2, 2, 3, 9], [5, 6, 7, 8]]
    assert study.sentence == [s.text for s in SAID]
    assert study.aligned.astype(int).tolist() == [[1, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 1, 0, 0, 1]]
    text = report_text(SECTIONS["findings"], SECTIONS["impression"])
    assert [text[a:b] for a, b in study.span] == study.sentence
    assert (np.diff(study.span[:, 0]) > 0).all()  # the second "Right effusion." is not the first


def test_empty_boxes_are_left_out():
    flat = [{**GIVEN[0], "x2": GIVEN[0]["x1"]}, GIVEN[1]]
    study, _ = align(flat, SAID, RegionList())
    assert [REGIONS[i] for i in study.region_id] == ["cardiac silhouette"]


def test_sentences_of_a_whole_report():
    """As RadGraph's table has them: the section is the report, words stand between blanks."""
    said = [sentence(s.text.replace(".", " ."), *(REGIONS[i] for i in s.regions), section="report") for s in SAID]
    study, _ = align(GIVEN, said, RegionList())
    text = report_text(SECTIONS["findings"], SECTIONS["impression"])
    assert [text[a:b] for a, b in study.span] == [s.text for s in SAID]


def test_a_study_without_regions_or_sentences():
    for boxes, said in (([], SAID), (GIVEN, [])):
        study, boxes = align(boxes, said, RegionList())
        assert (len(study.region_id), len(study.sentence), boxes.shape) == (0, 0, (0, 4))
        assert study.aligned.shape == (0, 0)


def test_merged_regions(tmp_path):
    path = tmp_path / "regions.yaml"
    lines = "left chest: [left lung, cardiac silhouette]", "right chest: [right lung, right costophrenic angle]"
    path.write_text("\n".join(lines))
    study, boxes = align(GIVEN, SAID, RegionList(path))
    assert study.region_id.tolist() == [0, 1]
    assert boxes.tolist() == [[2, 2, 7, 9], [1, 2, 3, 4]]
    assert study.aligned.astype(int).tolist() == [[0, 1, 0, 1, 1], [1, 0, 1, 1, 0]]


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


def test_sentences_are_found_whatever_the_white_space():
    assert find("a\n b.  c d.", "c d.", 0) == (7, 11)
    assert find("No effusion, or\n pneumothorax.", "No effusion , or pneumothorax .", 0) == (0, 30)
    assert find("No effusion.", "Effusion.", 0) is None
    assert find("x", "", 1) == (1, 1)


def test_studies_are_put_together_block_by_block():
    first, boxes = align(GIVEN, SAID, RegionList())
    first.box, first.visible = boxes[None], np.ones((1, 3), np.bool_)
    empty, boxes = align([], SAID, RegionList())
    batch = collate_regions([first, empty, first])
    assert batch.study.tolist() == [0, 0, 0, 2, 2, 2]
    assert batch.sentence_study.tolist() == [0] * 5 + [2] * 5
    assert (batch.sentence_id[:5] == batch.sentence_id[5:]).all()
    assert batch.aligned.sum() == 10
    assert not batch.aligned[:3, 5:].any()
    assert not batch.aligned[3:, :5].any()
    assert batch.box.shape == (1, 6, 4)
    nothing = collate_regions([empty])
    assert nothing.aligned.shape == (0, 0)
    assert nothing.box.shape == (1, 0, 4)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("regions") / "prepared")


def test_batches_hold_the_regions_of_their_own_study(root):
    data = CXRDataModule(root, batch_size=8, crop=32, views=2, num_workers=0, regions=True, augmentation=UNCHANGED)
    table = pq.read_table(root / INDEX).to_pylist()
    train = [row for row in table if row["split"] == "train"]
    for batch in data.train_dataloader():
        region = batch["region"]
        for r, s in region.aligned.nonzero().tolist():
            study = int(region.study[r])
            assert study == int(region.sentence_study[s])
            row = train[int(batch["index"][study])]
            name, text = REGIONS[int(region.region_id[r])], region.sentence[s]
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
    assert [s.text for s in triplets.sentences(3)] == ["No pleural effusion.", "Large left pleural effusion."]
    assert "left costophrenic angle" in [REGIONS[i] for i in triplets.sentences(3)[1].regions]
    assert triplets.sentences(2) == triplets.sentences(4) == []


def test_other_sections_do_not_speak_of_the_image(tmp_path):
    write_triplets([("a", {"indication": "Rule out pneumothorax.", "findings": ""})], tmp_path / TRIPLETS, workers=1)
    triplets = ReportTriplets(tmp_path / TRIPLETS, ["a"])
    assert (triplets.existence == NOT_MENTIONED).all()
    assert triplets.sentences(0) == triplets.texts == []


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


@settings(deadline=None, max_examples=50)
@given(st.text(), st.text(min_size=1))
def test_found_spans_hold_the_sentence(section, text):
    span = find(section, text, 0)
    if span is not None:
        assert "".join(section[slice(*span)].split()) == "".join(text.split())


def test_moving_regions(root):
    data = CXRDataModule(root, batch_size=8, crop=32, num_workers=0, regions=True)
    region = next(iter(data.val_dataloader()))["region"]
    moved = region.to(torch.device("cpu"))
    assert moved.sentence == region.sentence
    torch.testing.assert_close(moved.box, region.box)
