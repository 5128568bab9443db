"""Labels of studies, and the texts of labels."""

import pytest
import torch

from medvlp.errors import UserError
from medvlp.objectives.study_labels import LabelTexts, StudyLabels
from medvlp.parse import FINDINGS, LABEL_SETS, parse_report
from medvlp.parse.labels import labels, summary
from medvlp.types import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN
from tests.support.joint import LABELS, Reader

REPORTS = [
    "The lungs are clear. No pleural effusion or pneumothorax.",
    "Small left pleural effusion. Pacemaker in place.",
    "A pacemaker is in place.",
    "Possible pneumonia.",
    "Possible pneumonia. Large right pneumothorax.",
    "",
]
STATES = {"present": PRESENT, "absent": ABSENT, "uncertain": UNCERTAIN}


def batch_of(reports, label=None):
    existence = torch.full((len(reports), len(FINDINGS)), NOT_MENTIONED, dtype=torch.int8)
    for row, report in zip(existence, reports, strict=True):
        for finding, state in summary((t.finding, t.existence) for t in parse_report({"": report})).items():
            row[FINDINGS.index(finding)] = STATES[state]
    there = torch.tensor([bool(report) for report in reports])
    return {"existence": existence, "findings_mask": there, "impression_mask": there & False, "label": label}


def test_the_parsers_labels_are_those_of_the_parser():
    module = StudyLabels("chexpert")
    state, known = module(batch_of(REPORTS))
    assert module.names == list(LABEL_SETS["chexpert"])
    assert known.tolist() == [bool(report) for report in REPORTS]
    for row, report in zip(state.tolist(), REPORTS[:-1], strict=False):
        expected = labels(summary((t.finding, t.existence) for t in parse_report({"": report})), "chexpert")
        got = {name: value for name, value in zip(module.names, row, strict=True) if value != NOT_MENTIONED}
        if "No Finding" not in expected:
            assert got.pop("No Finding") == ABSENT
        assert got == {name: STATES[value] for name, value in expected.items()}
    assert (state[-1] == NOT_MENTIONED).all()


def test_no_finding_is_added_to_labels_that_lack_it():
    module = StudyLabels(LABELS)
    assert module.names == [*LABELS, "No Finding"]
    rows = [[PRESENT, 0, 0], [0, 0, PRESENT], [0, UNCERTAIN, 0], [-2, -2, -2], [0, -2, 0]]
    state, known = module({"label": torch.tensor(rows, dtype=torch.int8)})
    assert state[:, :3].tolist() == rows
    assert state[:, 3].tolist() == [ABSENT, PRESENT, ABSENT, NOT_MENTIONED, PRESENT]
    assert known.tolist() == [True, True, True, False, True]


def test_the_folders_own_no_finding_is_kept():
    rows = torch.tensor([[0, 0], [1, 0], [-2, 1]], dtype=torch.int8)
    state, _ = StudyLabels(["Edema", "No Finding"])({"label": rows})
    assert (state == rows).all()


def test_another_number_of_labels_is_explained():
    with pytest.raises(UserError, match=r"labels=\['Edema'\] are 1, but the data have 3: name all labels"):
        StudyLabels(["Edema"])({"label": torch.zeros(2, 3, dtype=torch.int8)})


def test_the_text_of_a_set_is_the_mean_of_those_of_its_labels():
    reader = Reader()
    texts = LabelTexts(reader, ["Edema", "Pleural_Thickening", "No Finding"], {PRESENT: "{}.", ABSENT: "No {}."})
    assert texts.texts == [
        "Edema.",
        "Pleural thickening.",
        "No acute cardiopulmonary abnormality.",
        "No edema.",
        "No pleural thickening.",
        "Abnormal chest radiograph.",
    ]
    state = torch.tensor([[1, 0, -2], [-2, -2, -1], [-1, -2, 1]], dtype=torch.int8)
    embedding, told = texts(state)
    assert told.tolist() == [True, False, True]
    torch.testing.assert_close(embedding[0], reader.constant(["Edema.", "No pleural thickening."]).mean(0))
    assert not embedding[1].any()
    torch.testing.assert_close(embedding[2], reader.constant(["No acute cardiopulmonary abnormality."])[0])
    # A checkpoint keeps the embeddings, whatever the text encoder that it is loaded with.
    assert texts.state_dict().keys() == {"embedding"}
