"""Heat maps of texts: the cosine of each place by a loop, the attention of the tags that a text names."""

import pytest
import torch
from torch.nn import functional as F

from medvlp.errors import UserError
from medvlp.objectives import GlobalAlignment, Objective, RegionAlignment, TagDecoding
from medvlp.objectives.tags import Tags
from medvlp.parse import LABEL_SETS
from medvlp.types import ImageFeatures, PhraseFeatures
from tests.support.asg import GRID, STUDIES, WORD, Studies, make
from tests.support.hierarchical import make as make_hierarchical

TEXTS = ["left pleural effusion", "cardiomegaly", "edema"]


def phrases(texts=TEXTS):
    """The first and the last text have a word, those between them two."""
    noise = torch.Generator().manual_seed(3)
    pooled, word = (torch.randn(count, WORD, generator=noise) for count in (len(texts), max(2 * len(texts) - 2, 0)))
    return PhraseFeatures(texts, pooled, word, torch.tensor([m for m in range(len(texts)) for _ in range(2)])[1:-1])


@pytest.mark.parametrize("objective", [make(GlobalAlignment), make_hierarchical(), make_hierarchical(alignment="flat")])
def test_a_global_map_is_what_retrieval_would_score_each_place(objective):
    objective.eval()
    places = torch.randn(3, 24, 2, 5)
    with torch.no_grad():
        image = ImageFeatures(torch.zeros(3, 24), [torch.zeros(1)])
        heat = objective.text_heat(image, places, phrases())
        assert heat.shape == (3, len(TEXTS), 2, 5)
        head = objective.image_head if isinstance(objective, GlobalAlignment) else objective.image_heads["high"]
        for n in range(3):
            for y in range(2):
                for x in range(5):
                    place = F.normalize(head(places[n : n + 1, :, y, x]), dim=1)
                    score = (place @ objective.embed_text(phrases().pooled).T)[0]
                    torch.testing.assert_close(heat[n, :, y, x], score, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", [make(GlobalAlignment), make_hierarchical(alignment="flat")])
def test_an_image_that_is_everywhere_alike_scores_everywhere_as_a_whole(objective):
    objective.eval()
    pooled = torch.randn(2, 24)
    image = ImageFeatures(pooled, [])
    with torch.no_grad():
        heat = objective.text_heat(image, pooled[..., None, None].expand(-1, -1, 2, 5), phrases())
        whole = objective.embed_image(image)["report"] @ objective.embed_text(phrases().pooled).T
    torch.testing.assert_close(heat, whole[..., None, None].expand_as(heat), rtol=1e-4, atol=1e-5)


def test_a_region_map_is_the_cosine_of_patches_with_the_mean_word():
    image, _, _ = Studies().inputs(range(STUDIES))
    objective, text = make(RegionAlignment).eval(), phrases()
    with torch.no_grad():
        heat = objective.text_heat(image, torch.zeros(STUDIES, 1, 1, 1), text)
        for n in range(STUDIES):
            patches = F.normalize(objective.patch_head(image.patches[n].flatten(1).T), dim=1)
            for m in range(len(TEXTS)):
                words = F.normalize(objective.word_head(text.word[text.word_phrase == m]), dim=1)
                expected = patches @ F.normalize(words.mean(0), dim=0)
                torch.testing.assert_close(heat[n, m].flatten(), expected, rtol=1e-4, atol=1e-5)


def test_a_tag_map_is_the_attention_of_the_tags_that_a_text_names():
    image, _, _ = Studies().inputs(range(STUDIES))
    objective = make(TagDecoding).eval()
    words = ["Cardiomegaly", "small left effusion and edema", "no pneumothorax"]
    heat = objective.text_heat(image, torch.zeros(1), phrases(words))
    assert heat.shape == (STUDIES, 3, GRID, GRID)
    attention = objective.attention(image)
    tag = objective.tags.names.index
    torch.testing.assert_close(heat[:, 0], attention[:, tag("cardiomegaly")])
    both = (attention[:, tag("pleural effusion")] + attention[:, tag("edema")]) / 2
    torch.testing.assert_close(heat[:, 1], both)
    torch.testing.assert_close(heat[:, 2], attention[:, tag("pneumothorax")])
    assert objective.text_heat(image, torch.zeros(1), phrases([])).shape == (STUDIES, 0, GRID, GRID)


@pytest.mark.parametrize("words", ["", "the right lung", "bananas"])
def test_a_text_that_names_no_tag_is_explained(words):
    image, _, _ = Studies().inputs(range(STUDIES))
    objective = make(TagDecoding).eval()
    assert not objective.can_show(words)
    assert objective.can_show("edema")
    with pytest.raises(UserError, match=r"names no tag.*pleural effusion.*aspiration"):
        objective.text_heat(image, torch.zeros(1), phrases([words]))


@pytest.mark.parametrize("label_set", ["asg", "chexpert", "nih"])
def test_each_tag_is_named_by_its_name(label_set):
    tags = Tags(label_set)
    for position, name in enumerate(LABEL_SETS[label_set]):
        assert tags.named(name) == tags.named(f" {name.upper()} ") == [position]


def test_what_a_text_denies_counts_where_it_states_nothing():
    tags = Tags("asg")

    def named(words):
        return [tags.names[i] for i in tags.named(words)]

    assert named("no pleural effusion or pneumothorax") == ["pleural effusion", "pneumothorax"]
    assert named("consolidation without pleural effusion") == ["consolidation"]
    assert named("possible pneumonia") == ["pneumonia"]


def test_an_objective_without_a_source_says_so():
    class Silent(Objective):
        def forward(self, image, text, batch):
            return {}

    assert not Silent().can_show("edema")
    with pytest.raises(TypeError, match="Silent has no heat maps"):
        Silent().text_heat(ImageFeatures(torch.zeros(1, 1), []), torch.zeros(1), phrases())
