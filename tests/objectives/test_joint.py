"""What all objectives of whole images share: the order of the batch, empty studies, gradients, half precision."""

import pytest
import torch

from medvlp.objectives import GlobalAlignment
from medvlp.objectives.label_alignment import LabelAlignment
from medvlp.objectives.label_classification import LabelClassification
from medvlp.objectives.study_alignment import StudyAlignment
from medvlp.types import NOT_MENTIONED, PhraseFeatures
from tests.support.joint import KINDS, LABELS, STUDIES, TEXT, WIDTH, Studies, Trained, make

everyone = range(STUDIES)
NAMES = [f"{kind.__name__}-{i}" for i, (kind, _) in enumerate(KINDS)]
kinds = pytest.mark.parametrize(("kind", "options"), KINDS, ids=NAMES)


@kinds
@pytest.mark.parametrize("views", [1, 2])
def test_order_of_the_batch_does_not_matter(kind, options, views):
    studies = Studies(views)
    objective = make(kind, **options).eval()
    expected = objective(*studies.inputs(everyone))
    got = objective(*studies.inputs([3, 7, 2, 0, 6, 1, 5, 4]))
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert value.item() > 0
        torch.testing.assert_close(got[name], value)


@kinds
def test_studies_without_text_or_labels_change_nothing(kind, options):
    """But for the contrast of images with images, in which they take part."""
    studies = Studies()
    studies.label[2] = NOT_MENTIONED
    objective = make(kind, **options).eval()
    got = objective(*studies.inputs(everyone))
    expected = objective(*studies.inputs([i for i in everyone if i != 2]))
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value)


@kinds
@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("sentences", [[0] * 4, [3, 0, 0, 0], [2, 2, 2, 2], [1, 2]])
def test_gradients_reach_every_parameter_and_are_finite(kind, options, views, sentences):
    studies = Studies(views, sentences)
    if not sum(sentences):
        studies.label[:] = NOT_MENTIONED
    for leaf in studies.leaves():
        leaf.requires_grad_()
    objective = make(kind, **options)
    terms = objective(*studies.inputs(range(len(sentences))))
    sum(terms.values()).backward()
    if not sum(sentences):
        assert not any(value.item() for name, value in terms.items() if name != "image_image")
    for name, parameter in objective.named_parameters():
        # DistributedDataParallel would wait for it.
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    for leaf in studies.leaves():
        assert leaf.grad is None or torch.isfinite(leaf.grad).all()


@kinds
def test_half_precision_is_close(kind, options):
    studies = Studies(2)
    objective = make(kind, **options).eval()
    expected = objective(*studies.inputs(everyone))
    with torch.autocast("cpu", torch.bfloat16):
        image, text, batch = studies.inputs(everyone)
        terms = objective(image, text, batch)
        scores = objective.similarity(
            next(iter(objective.embed_image(image).values())), objective.embed_text(text.sections["report"]).float()
        )
    assert torch.isfinite(scores).all()
    for name, value in terms.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0.05, atol=0.05)


@kinds
def test_several_views_count_as_their_mean(kind, options):
    if kind is StudyAlignment:
        options = {**options, "image_weight": 0.0}
    studies = Studies(2)
    objective = make(kind, **options).eval()
    expected = objective(*studies.inputs(everyone))
    views = []
    for v in range(2):
        one = Studies(2)
        one.pooled, one.views = studies.pooled[:, v : v + 1], 1
        views.append(objective(*one.inputs(everyone)))
    for name, value in expected.items():
        torch.testing.assert_close(value, sum(view[name] for view in views) / 2)


@kinds
def test_a_map_of_places_scores_them_as_whole_images(kind, options):
    objective = make(kind, **options).eval()
    places, pooled = torch.randn(2, WIDTH, 3, 4), torch.randn(5, TEXT)
    phrases = PhraseFeatures([""] * 5, pooled, pooled, torch.arange(5))
    image, _, _ = Studies().inputs(everyone)
    with torch.no_grad():
        heat = objective.text_heat(image, places, phrases)
        image.pooled = places.permute(0, 2, 3, 1).flatten(0, 2)
        whole = objective.similarity(next(iter(objective.embed_image(image).values())), objective.embed_text(pooled))
    torch.testing.assert_close(heat.permute(0, 2, 3, 1).flatten(0, 2), whole, rtol=1e-4, atol=1e-5)


@kinds
def test_embeddings_have_a_section_each(kind, options):
    objective = make(kind, **options).eval()
    image, text, batch = Studies().inputs(everyone)
    assert objective.embed_image(image).keys() == set(objective.sections)
    texts = objective.embed_sections(text, batch)
    for section, rows in objective.embed_image(image).items():
        similarity = objective.similarity(rows, texts[section])
        assert similarity.shape == (STUDIES, STUDIES)
        assert similarity.abs().max() <= 1 + 1e-5 or kind is LabelClassification


def test_only_learned_temperatures_have_a_state():
    fixed, learned = (make(GlobalAlignment, learned_temperature=learned) for learned in (False, True))
    assert set(learned.state_dict()) - set(fixed.state_dict()) == {"temperature.log_scale"}


@pytest.mark.parametrize("kind", [LabelAlignment, StudyAlignment])
def test_a_trained_text_encoder_learns_from_the_names(kind):
    reader = Trained()
    objective = make(kind, reader, labels=LABELS)
    assert not any("weight" in name and "encoder" in name for name in objective.state_dict())
    studies = Studies()
    studies.findings_mask[:] = studies.impression_mask[:] = False
    sum(objective(*studies.inputs(everyone)).values()).backward()
    assert reader.weight.grad.abs().sum() > 0
