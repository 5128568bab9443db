"""CXR-CLIP's objective against its formula, one pair of images and texts at a time."""

import pytest
import torch
from torch.nn import functional as F

from medvlp.objectives.study_alignment import StudyAlignment
from medvlp.types import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN
from tests.support.joint import LABELS, STUDIES, Reader, Studies, make
from tests.support.slow import slow_loss

everyone = range(STUDIES)


def contrast(x, y, mask):
    return slow_loss(x, y, 0.07, mask, y, None) / 2


def slow(objective, image, text, batch, prompts=None):
    """Return the three terms, with the texts of labels of studies that have no report."""
    findings, impression = text.sections["findings"], text.sections["impression"]
    first, second, there, both = [], [], [], []
    for b in range(STUDIES):
        has = [bool(batch["findings_mask"][b]), bool(batch["impression_mask"][b])]
        told = prompts[b] if prompts and not any(has) else None
        there.append(any(has) or told is not None)
        both.append(all(has) or told is not None)
        texts = told or (findings[b] if has[0] else impression[b], impression[b] if has[1] else findings[b])
        first.append(texts[0])
        second.append(texts[1])
    texts = [objective.text_head(torch.stack(rows)) for rows in (first, second)]
    x = objective.image_head(image.pooled).unflatten(0, (STUDIES, -1))
    return {
        "image_text": sum(contrast(x[:, v], t, there) for v in range(2) for t in texts) / 4,
        "image_image": contrast(x[:, 0], x[:, 1], [True] * STUDIES),
        "text_text": 0.5 * contrast(*texts, both),
    }


def test_equals_the_formula():
    objective = make(StudyAlignment)
    image, text, batch = Studies(views=2).inputs(everyone)
    with torch.no_grad():
        got, expected = objective(image, text, batch), slow(objective, image, text, batch)
    assert {name: value.item() for name, value in got.items()} == pytest.approx(expected, rel=1e-5)


def test_studies_without_a_report_have_the_texts_of_their_labels():
    objective = make(StudyAlignment, labels=LABELS)
    studies = Studies(views=2)
    studies.label[2] = torch.tensor([PRESENT, UNCERTAIN, ABSENT], dtype=torch.int8)
    words = [
        ("There is cardiomegaly.", "Possible pleural effusion.", "No support devices.", "Abnormal chest radiograph."),
        (
            "Findings consistent with cardiomegaly.",
            "Pleural effusion cannot be excluded.",
            "No evidence of support devices.",
            "Abnormal chest radiograph.",
        ),
    ]
    prompts = [None] * STUDIES
    prompts[2] = tuple(Reader().constant(texts).mean(0) for texts in words)
    image, text, batch = studies.inputs(everyone)
    with torch.no_grad():
        got, expected = objective(image, text, batch), slow(objective, image, text, batch, prompts)
    assert {name: value.item() for name, value in got.items()} == pytest.approx(expected, rel=1e-5)
    # Without labels there is no text, and the study is left out.
    studies.label[2] = NOT_MENTIONED
    plain = make(StudyAlignment)
    for name, value in plain(*studies.inputs(everyone)).items():
        torch.testing.assert_close(objective(*studies.inputs(everyone))[name], value)


def test_one_view_and_terms_that_are_off_leave_a_term_out():
    inputs = Studies().inputs(everyone)
    assert make(StudyAlignment)(*inputs).keys() == {"image_text", "text_text"}
    assert make(StudyAlignment, text_weight=0.0)(*inputs).keys() == {"image_text"}
    assert make(StudyAlignment, image_weight=0.0)(*Studies(2).inputs(everyone)).keys() == {"image_text", "text_text"}


def test_both_sections_are_compared_with_the_same_embedding():
    image, text, batch = Studies().inputs(everyone)
    objective = make(StudyAlignment)
    images = objective.embed_image(image)
    assert list(images) == ["findings", "impression"]
    assert (images["findings"] == images["impression"]).all()
    torch.testing.assert_close(images["findings"], F.normalize(objective.image_head(image.pooled), dim=1))
    assert objective.embed_sections(text, batch).keys() == images.keys()
