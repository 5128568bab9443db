"""All sentences of a report are in a batch: where they stand, in their order, with what they state."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.data import CXRDataModule, PreparedDataset
from medvlp.data.sentences import ReportSentences, collate_sentences, find
from medvlp.data.transforms import EvaluationTransform
from medvlp.data.triplets import ReportTriplets
from medvlp.parse import FINDINGS, REGIONS, Triplet, parse_report, write_triplets
from medvlp.parse.table import new_table, rows
from medvlp.prepared import INDEX, TRIPLETS
from medvlp.types import ABSENT, NOT_MENTIONED, PRECEDENCE, PRESENT, UNCERTAIN, report_text, text_ids
from tests.support.tiny import make_prepared

STATE = {"present": PRESENT, "absent": ABSENT, "uncertain": UNCERTAIN}
FINDINGS_TEXT = (
    "Comparison is made to the prior. Heart size is normal. There is a small left effusion, and possible\n"
    "pneumonia at the left base. Recommend follow-up."
)
IMPRESSION_TEXT = "1. Small left effusion.\n2. Discussed with Dr. Smith."


def sentences_of(tmp_path, reports, parse=write_triplets):
    """Return the sentences of reports, pairs of Findings and Impression, with a table of their triplets."""
    ids = [f"s{i}" for i in range(len(reports))]
    path = tmp_path / TRIPLETS
    parse([(i, {"findings": f, "impression": m}) for i, (f, m) in zip(ids, reports, strict=True)], path)
    pq.write_table(pa.table({"study_id": ids}), tmp_path / INDEX)
    return ReportSentences(ids, *columns(reports), ReportTriplets(path, ids))


def columns(reports):
    return (pa.array(texts, pa.string()) for texts in zip(*reports, strict=True))


def like_radgraph(reports, path):
    """Write triplets as RadGraph's tables have them: of the report as a whole, with blanks around each token."""
    with new_table(path) as table:
        for name, texts in reports:
            report = re.sub(r"([.,:])", r" \1 ", report_text(texts["findings"], texts["impression"]))
            spaced = " ".join(report.split())
            table.write_batch(rows((name, t) for t in parse_report({"report": spaced})))


def test_the_sentences_of_a_report(tmp_path):
    study = sentences_of(tmp_path, [(FINDINGS_TEXT, IMPRESSION_TEXT)]).of(0)
    assert study.text == [
        "Comparison is made to the prior.",
        "Heart size is normal.",
        "There is a small left effusion, and possible\npneumonia at the left base.",
        "Recommend follow-up.",
        "Small left effusion.",
        "Discussed with Dr. Smith.",
    ]
    assert study.section.tolist() == [0, 0, 0, 0, 1, 1]
    states = [{FINDINGS[f]: int(row[f]) for f in np.flatnonzero(row != NOT_MENTIONED)} for row in study.existence]
    assert states[0] == states[3] == states[5] == {}
    assert states[2] == {"pleural effusion": PRESENT, "pneumonia": UNCERTAIN}
    assert states[4] == {"pleural effusion": PRESENT}
    assert [REGIONS[r] for r in np.flatnonzero(study.region[4])] == ["left costophrenic angle"]
    assert (study.statement_id == 0).tolist() == [True, False, False, True, False, True]


def test_a_sentence_keeps_the_strongest_state_of_a_finding(tmp_path):
    text = "No right effusion, possible left effusion. There is right effusion but no left effusion."
    study = sentences_of(tmp_path, [(text, "")]).of(0)
    effusion = FINDINGS.index("pleural effusion")
    for s, name in enumerate(study.text):
        states = [STATE[t.existence] for t in parse_report({"findings": name}) if t.finding == "pleural effusion"]
        assert len(set(states)) == 2
        assert study.existence[s, effusion] == max(states, key=PRECEDENCE.index)


SAME = [
    ("Small left pleural effusion.", "There is a left pleural effusion."),
    ("Bilateral pleural effusions.", "Effusion on the right and effusion on the left."),
    ("No effusion or pneumothorax.", "There is no pneumothorax and no effusion."),
]
OTHER = [
    ("No effusion.", "Effusion."),
    ("Possible pneumonia.", "Pneumonia."),
    ("Left effusion.", "Right effusion."),
    ("No effusion.", "No effusion or pneumothorax."),
    ("Healed left rib fracture.", "Healed right rib fracture."),
]


@pytest.mark.parametrize(("pairs", "same"), [(SAME, True), (OTHER, False)])
def test_statements_are_equal_if_they_say_the_same(tmp_path, pairs, same):
    sentences = sentences_of(tmp_path, [pair for pair in pairs])
    for i, pair in enumerate(pairs):
        ids = sentences.of(i).statement_id
        assert (ids != 0).all()
        assert (ids[0] == ids[1]) == same, pair


def test_a_statement_has_one_number_in_all_folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = sentences_of(tmp_path / "a", [("Clear lungs.", ""), ("Left effusion.", "")]).of(1)
    second = sentences_of(tmp_path / "b", [("Left effusion.", "Pneumonia, pneumothorax and a nodule.")]).of(0)
    assert first.statement_id[0] == second.statement_id[0] != 0


def test_words_that_occur_earlier_do_not_mislead(tmp_path):
    """`Clear.` is the second sentence, although the first one ends with it."""
    findings = "The examination was not Clear. Clear. Lungs are clear. Lungs are clear."
    study = sentences_of(tmp_path, [(findings, findings)]).of(0)
    assert study.text == ["The examination was not Clear.", "Clear.", "Lungs are clear.", "Lungs are clear."] * 2
    assert (np.diff(study.span[:, 0]) > 0).all()


WORDS = st.sampled_from(
    [
        "Effusion",
        "no",
        "left",
        "heart",
        "is",
        "normal",
        "small",
        "Clear",
        "pneumothorax",
        "lungs",
        "Dr",
        "e.g",
        "3.5 cm",
    ]
)
GLUE = st.sampled_from([" ", " ", " ", ". ", ".\n", "\n", ", ", "  ", "\n\n", "? ", ".  "])
TEXT = st.lists(st.tuples(WORDS, GLUE), max_size=25).map(lambda parts: "".join(w + g for w, g in parts))
FREE = st.one_of(TEXT, st.text(max_size=60))


def check(study, findings, impression, exact=True):
    """Check what is true of the sentences of any report."""
    report = report_text(findings, impression)
    assert study.text == [report[a:b] for a, b in study.span.tolist()]
    assert all(text == text.strip() for text in study.text) or not exact
    flat = study.span.flatten().tolist()
    assert flat == sorted(flat)  # in their order, without overlap
    assert all(a < b for a, b in study.span.tolist())
    assert ((study.existence != NOT_MENTIONED).any(1) == (study.statement_id != 0)).all()


@settings(deadline=None, max_examples=150)
@given(TEXT, TEXT)
def test_no_word_is_lost(tmp_path_factory, findings, impression):
    report = report_text(findings, impression)
    for parse in (write_triplets, like_radgraph, None):
        folder = tmp_path_factory.mktemp("parsed")
        sentences = (
            sentences_of(folder, [(findings, impression)], parse)
            if parse
            else ReportSentences(["s"], *columns([(findings, impression)]), None)
        )
        study = sentences.of(0)
        check(study, findings, impression, parse is not like_radgraph)
        inside = np.zeros(len(report), bool)
        for a, b in study.span.tolist():
            inside[a:b] = True
        outside = "".join(c for c, i in zip(report, inside, strict=True) if not i)
        assert not any(map(str.isalnum, outside)), (report, study.text)


@settings(deadline=None, max_examples=100)
@given(FREE, FREE)
def test_any_text_has_sentences(tmp_path_factory, findings, impression):
    study = sentences_of(tmp_path_factory.mktemp("free"), [(findings, impression)]).of(0)
    check(study, findings, impression)
    stated = {(t.section, t.text) for t in parse_report({"findings": findings, "impression": impression})}
    sections = ["findings", "impression"]
    found = {(sections[n], t) for n, t, i in zip(study.section, study.text, study.statement_id, strict=True) if i}
    assert found == stated


def test_the_tables_of_radgraph(tmp_path):
    own = sentences_of(tmp_path, [(FINDINGS_TEXT, IMPRESSION_TEXT)]).of(0)
    (tmp_path / "radgraph").mkdir()
    theirs = sentences_of(tmp_path / "radgraph", [(FINDINGS_TEXT, IMPRESSION_TEXT)], like_radgraph).of(0)
    for name in ("Heart size is normal.", "Small left effusion."):
        one, other = own.text.index(name), next(s for s, text in enumerate(theirs.text) if name in text)
        assert own.statement_id[one] == theirs.statement_id[other] != 0
        assert own.section[one] == theirs.section[other]


def test_a_sentence_that_its_report_lacks_is_left_out(tmp_path):
    """The table was made of other texts: what is there is found, and nothing else is stated."""

    path, ids = tmp_path / TRIPLETS, ["s"]
    made = [
        Triplet("findings", 0, "Large heart.", ("cardiac silhouette",), None, "cardiomegaly", "present", None, 0, 5),
        Triplet("findings", 1, "Left effusion.", ("left lung",), "left", "pleural effusion", "present", None, 0, 5),
    ]
    with new_table(path) as table:
        table.write_batch(rows(("s", t) for t in made))
    sentences = ReportSentences(ids, *columns([("As before. Note. Left effusion.", "")]), ReportTriplets(path, ids))
    study = sentences.of(0)
    assert study.text == ["As before.", "Note.", "Left effusion."]
    assert (study.statement_id != 0).tolist() == [False, False, True]


def test_a_table_whose_sentences_end_elsewhere(tmp_path):
    """What the table leaves of a sentence is a sentence."""
    path, ids = tmp_path / TRIPLETS, ["s"]
    made = [Triplet("report", 0, "left effusion ,", (), "left", "pleural effusion", "present", None, 0, 5)]
    with new_table(path) as table:
        table.write_batch(rows(("s", t) for t in made))
    study = ReportSentences(
        ids, *columns([("There is left effusion, no air.", "Stable.")]), ReportTriplets(path, ids)
    ).of(0)
    assert study.text == ["There is", "left effusion,", "no air.", "Stable."]


def test_an_empty_report_has_no_sentence():
    sentences = ReportSentences(["a", "b", "c"], *columns([("", ""), (" \n", "..."), ("", "Clear.")]), None)
    assert [sentences.of(i).text for i in range(3)] == [[], [], ["Clear."]]
    assert sentences.of(2).section.tolist() == [1]
    assert sentences.texts() == ["Clear."]
    assert ReportSentences([], *(pa.array([], pa.string()) for _ in range(2)), None).texts() == []
    batch = collate_sentences([sentences.of(0)])
    assert (batch.text, len(batch.study), batch.place.shape) == ([], 0, (0, 3))
    assert batch.existence.shape == (0, len(FINDINGS))
    assert batch.region.shape == (0, len(REGIONS))


def test_studies_are_packed(tmp_path):
    reports = [("Clear. Left effusion.", ""), ("", ""), ("As before.", "Left pleural effusion. Clear.")]
    sentences = sentences_of(tmp_path, reports)
    studies = [sentences.of(i) for i in range(3)]
    batch = collate_sentences(studies)
    assert batch.text == ["Clear.", "Left effusion.", "As before.", "Left pleural effusion.", "Clear."]
    assert batch.text_id.tolist() == text_ids(batch.text).tolist()
    assert batch.study.tolist() == [0, 0, 2, 2, 2]
    assert batch.place[:, 0].tolist() == batch.study.tolist()
    assert batch.section.tolist() == [0, 0, 0, 1, 1]
    assert batch.statement_id[1] == batch.statement_id[3] != 0
    for name in ("existence", "region", "statement_id"):
        joined = np.concatenate([getattr(study, name) for study in studies])
        assert (getattr(batch, name).numpy() == joined).all()
    assert batch.existence.dtype == torch.int8
    assert {batch.study.dtype, batch.section.dtype, batch.place.dtype, batch.text_id.dtype} == {torch.int64}


def test_packed_sentences_move(tmp_path):
    batch = collate_sentences([sentences_of(tmp_path, [(FINDINGS_TEXT, IMPRESSION_TEXT)]).of(0)])
    moved = batch.to(torch.device("meta"))
    assert moved.text == batch.text
    assert moved.place.device.type == "cpu"
    assert all(getattr(moved, name).is_meta for name in ("text_id", "statement_id", "study", "section", "existence"))
    if torch.cuda.is_available():
        assert batch.pin_memory().place.is_pinned()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("sentences") / "prepared")


def test_a_data_set_gives_sentences_where_they_are_wanted(root):
    table = pq.read_table(root / INDEX).to_pylist()
    for name in ("sentences", "neither"):
        dataset = PreparedDataset(root, ["train"], EvaluationTransform(32), sentences=name == "sentences")
        assert (dataset[0]["sentence"] is not None) == (name == "sentences")
    train = [row for row in table if row["split"] == "train"]
    dataset = PreparedDataset(root, ["train"], EvaluationTransform(32), sentences=True)
    for i, row in enumerate(train):
        study = dataset[i]["sentence"]
        assert study.text == [text for text in (row["findings"], row["impression"]) if text]
        assert (study.statement_id != 0).all() == (row["findings"] != "normal ." or bool(row["impression"]))


def test_a_data_set_without_triplets_has_sentences(tmp_path):
    root = make_prepared(tmp_path / "prepared", 8)
    (root / TRIPLETS).unlink()
    dataset = PreparedDataset(root, ["train"], EvaluationTransform(32), sentences=True)
    said = [dataset[i]["sentence"] for i in range(len(dataset))]
    assert all(study.text for study in said)
    assert not any(study.statement_id.any() or study.region.any() for study in said)


class Task:
    """What the data module asks a task for."""

    reads_sentences = True


def test_the_task_of_a_run_says_whether_it_reads_sentences(root):
    data = CXRDataModule(root, batch_size=8, crop=32, num_workers=0)
    assert next(iter(data.val_dataloader()))["sentence"] is None
    data.trainer = type("Run", (), {"lightning_module": Task(), "overfit_batches": 0})()
    batch = next(iter(data.val_dataloader()))
    assert batch["region"] is None
    for text, (b, start, end) in zip(batch["sentence"].text, batch["sentence"].place.tolist(), strict=True):
        assert report_text(batch["findings"][b], batch["impression"][b])[start:end] == text
    data = CXRDataModule(root, batch_size=8, crop=32, num_workers=0, regions=True)
    assert next(iter(data.val_dataloader()))["sentence"] is not None


def test_the_sentences_of_a_run(root):
    data = CXRDataModule(root, num_workers=0)
    table = [row for row in pq.read_table(root / INDEX).to_pylist() if row["split"] in ("train", "test")]
    assert set(data.sentences(["train", "test"])) == {row[s] for row in table for s in ("findings", "impression")} - {
        None
    }
    assert len(set(data.sentences(["train"]))) == len(data.sentences(["train"]))
    assert set(data.region_sentences(["train"])) <= set(data.sentences(["train"]))
    assert data.sentences([]) == []


def test_sentences_are_the_same_after_a_resume(root):
    """They depend on the image alone, not on epoch, worker or place in the run."""
    dataset = PreparedDataset(root, ["train"], EvaluationTransform(32), sentences=True)
    for i in (0, 5):
        first, again = dataset[(0, i)]["sentence"], dataset[(7, i)]["sentence"]
        assert first.text == again.text
        assert (first.span == again.span).all()
        assert (first.statement_id == again.statement_id).all()


def test_sentences_are_found_whatever_the_white_space():
    assert find("a\n b.  c d.", "c d.", 0) == (7, 11)
    assert find("No effusion, or\n pneumothorax.", "No effusion , or pneumothorax .", 0) == (0, 30)
    assert find("No effusion.", "Effusion.", 0) is None
    assert find("x", "", 1) == (1, 1)


@settings(deadline=None, max_examples=50)
@given(st.text(), st.text(min_size=1))
def test_found_spans_hold_the_sentence(section, text):
    span = find(section, text, 0)
    if span is not None:
        assert "".join(section[slice(*span)].split()) == "".join(text.split())
