"""ASG's objectives: terms from the formulas, the order of the batch, edge cases, heat maps."""

import pytest
import torch
from torch.nn import functional as F

from medvlp.losses import SoftLabels, tag_loss
from medvlp.objectives import GlobalAlignment, RegionAlignment, TagDecoding
from medvlp.objectives.parts import patches_around
from medvlp.objectives.tags import Tags
from medvlp.parse import FINDINGS, LABEL_SETS
from medvlp.types import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN, PhraseFeatures
from tests.support.asg import GRID, KINDS, PATCH, SENTENCES, SIDE, STUDIES, WORD, Studies, make
from tests.support.slow import slow_loss, slow_region_loss, slow_soft_label_loss

everyone = range(STUDIES)


def test_global_terms_equal_the_formulas():
    studies = Studies(views=2)
    image, text, batch = studies.inputs(everyone)
    terms = make(GlobalAlignment)(image, text, batch)
    twin, mask = make(GlobalAlignment), batch["findings_mask"]
    x = twin.image_head(image.pooled).detach().view(STUDIES, 2, -1)
    y = torch.zeros(STUDIES, 8)
    y[mask] = twin.text_head(text.sections["report"][mask]).detach()
    tags = twin.tags(batch["existence"]) == PRESENT
    hard = [slow_loss(x[:, v], y, 0.07, mask, y, None) for v in range(2)]
    soft = [slow_soft_label_loss(x[:, v], y, tags, 0.07, SoftLabels(), mask) for v in range(2)]
    assert terms["contrastive"].item() == pytest.approx(sum(hard) / 2, rel=1e-4)
    assert terms["soft_label"].item() == pytest.approx(sum(soft) / 2, rel=1e-4)


def slow_regions(objective, image, text, batch, v, views, background=False):
    """Return features of the visible regions and read sentences, one at a time, and who belongs to whom."""
    region, said = batch["region"], batch["sentence"]
    cell = SIDE // GRID
    patches = [[F.normalize(p, dim=0) for p in objective.patch_head(i.flatten(1).T)] for i in image.patches]
    # Sentences that mention no region of their image take no part, nor do their words in the statistics of the head.
    own_words = [k for k, s in enumerate(text.word_sentence.tolist()) if region.aligned[:, s].any()]
    words = dict(zip(own_words, F.normalize(objective.word_head(text.word[own_words]), dim=1), strict=True))
    regions, sentences = [], []
    for r in range(len(region.region_id)):
        if region.visible[v, r]:
            x1, y1, x2, y2 = (region.box[v, r] / cell).int().tolist()
            own = patches[int(region.study[r]) * views + v]
            seen = [own[y * GRID + x] for y in range(y1, y2) for x in range(x1, x2)]
            regions.append((r, sum(seen) / len(seen)))
    for s in range(len(said.text)):
        own = [word for k, word in words.items() if text.word_sentence[k] == s]
        if own:
            sentences.append((s, sum(own) / len(own)))
    pairs = [[bool(region.aligned[r, s]) for s, _ in sentences] for r, _ in regions]
    same = [[bool(region.study[r] == said.study[s]) for s, _ in sentences] for r, _ in regions]
    for study in range(len(batch["image"]) if background else 0):
        boxes = region.box[v][region.visible[v] & (region.study == study)].tolist()
        for place, patch in enumerate(patches[study * views + v] if boxes else []):
            x, y = (place % GRID + 0.5) * cell, (place // GRID + 0.5) * cell
            rows, columns = ((min(b[i] for b in boxes), max(b[i + 2] for b in boxes)) for i in (1, 0))
            if not (rows[0] <= y < rows[1] and columns[0] <= x < columns[1]):
                regions.append((None, patch))
                pairs.append([False] * len(sentences))
                same.append([study == said.study[s] for s, _ in sentences])
    pairs, same = torch.tensor(pairs), torch.tensor(same)
    return [f for _, f in regions], [f for _, f in sentences], pairs, same, [said.text[s] for s, _ in sentences]


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("views", [1, 2])
def test_region_term_equals_the_formula(views, background):
    image, text, batch = Studies(views).inputs(everyone)
    # In evaluation mode the head of one image at a time is that of the batch.
    objective = make(RegionAlignment, background=background).eval()
    expected = 0.0
    with torch.no_grad():
        for v in range(views):
            regions, sentences, pairs, same, _ = slow_regions(objective, image, text, batch, v, views, background)
            assert (len(regions) > batch["region"].visible[v].sum()) == background
            expected += slow_region_loss(regions, sentences, pairs, same, 0.07) / views
        assert objective(image, text, batch)["contrastive"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("background", [False, True])
def test_region_term_with_negatives_of_the_batch(background):
    image, text, batch = Studies().inputs(everyone)
    objective = make(RegionAlignment, negatives="batch", background=background).eval()
    with torch.no_grad():
        regions, sentences, pairs, same, words = slow_regions(objective, image, text, batch, 0, 1, background)
        # A sentence with the words of an own one is an own one, whoever said it.
        own = [
            [any(row[k] and words[k] == word for k in range(len(words))) for word in words] for row in pairs.tolist()
        ]
        # Patches around the regions are negatives of their own study's sentences alone.
        everything = same
        everything[: batch["region"].visible[0].sum()] = True
        expected = slow_region_loss(regions, sentences, torch.tensor(own), everything, 0.07)
        assert objective(image, text, batch)["contrastive"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("negatives", ["image", "batch"])
def test_patches_around_the_regions_learn(negatives):
    image, text, batch = Studies().inputs(everyone)
    region, patches = batch["region"], image.pyramid[1].detach().requires_grad_()
    image.pyramid[1] = patches
    seen = region.visible[0]
    around = patches_around(region.box[0][seen], region.study[seen], STUDIES, (GRID, GRID), SIDE)
    for background in (False, True):
        patches.grad = None
        # In evaluation mode the head sees one patch at a time.
        objective = make(RegionAlignment, negatives=negatives, background=background).eval()
        objective(image, text, batch)["contrastive"].backward()
        gradient = patches.grad.abs().sum(1).flatten(1)[around]
        assert bool(gradient.max() > 0) == background


def test_tag_term_equals_the_formula():
    image, text, batch = Studies(views=2).inputs(everyone)
    objective = make(TagDecoding, weight=3.0)
    tag = objective.tags(batch["existence"])
    target = (tag == PRESENT).repeat_interleave(2, 0)
    expected = tag_loss(objective.logits(image), target, torch.ones_like(target))
    torch.testing.assert_close(objective(image, text, batch)["bce"], 3 * expected)


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("views", [1, 2])
def test_order_of_the_batch_does_not_matter(kind, options, views):
    studies = Studies(views)
    expected = make(kind, **options)(*studies.inputs(everyone))
    torch.manual_seed(7)
    got = make(kind, **options)(*studies.inputs(torch.randperm(STUDIES).tolist()))
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-5)


def test_regions_are_pooled_from_their_own_image():
    """What the official loader fails: another patient's image must not change a region."""
    studies = Studies()
    objective = make(RegionAlignment).eval()
    for order in (everyone, [5, 3, 0, 7, 1, 2, 4, 6]):
        image, _, batch = studies.inputs(order)
        region = batch["region"]
        seen = objective.embed_regions(objective.embed_patches(image), region.box[0], region.study, SIDE)
        changed = studies.inputs(order)[0]
        changed.pyramid[1] = changed.pyramid[1].clone()
        changed.pyramid[1][2] += 1
        again = objective.embed_regions(objective.embed_patches(changed), region.box[0], region.study, SIDE)
        moved = (seen - again).abs().amax(1) > 1e-6
        assert (moved == (region.study == 2)).all()


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize(
    ("regions", "sentences"),
    [([0] * 4, [0] * 4), ([1, 0, 0, 0], [1, 0, 0, 0]), ([1] * 4, [1] * 4), ([3, 3], [1, 1]), ([2, 2], [3, 3])],
)
def test_edge_cases_are_finite(kind, options, regions, sentences):
    studies = Studies(1, regions, sentences)
    leaves = [leaf.requires_grad_() for leaf in studies.leaves()]
    objective = make(kind, **options)
    terms = objective(*studies.inputs(range(len(regions))))
    loss = sum(terms.values())
    loss.backward()
    assert torch.isfinite(loss)
    for leaf in leaves:
        assert leaf.grad is None or torch.isfinite(leaf.grad).all()
    for name, parameter in objective.named_parameters():
        # DistributedDataParallel would wait for it.
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    if kind is RegionAlignment and not sum(regions):
        assert loss.item() == 0


def test_a_study_without_any_report_is_left_out():
    studies = Studies()
    studies.has_report[:] = False
    terms = make(GlobalAlignment)(*studies.inputs(everyone))
    assert [value.item() for value in terms.values()] == [0, 0]


def test_a_batch_without_regions_is_explained():
    image, text, batch = Studies().inputs(everyone)
    batch["region"] = None
    with pytest.raises(ValueError, match=r"--data\.regions true"):
        make(RegionAlignment)(image, text, batch)


def test_tags_are_those_of_their_findings():
    tags = Tags("asg")
    assert len(tags.names) == 40
    assert (tags.names[0], tags.names[-1]) == ("pleural effusion", "aspiration")
    finding = torch.full((4, len(FINDINGS)), NOT_MENTIONED, dtype=torch.int8)
    for row, value in enumerate((PRESENT, ABSENT, UNCERTAIN)):
        finding[row, FINDINGS.index("pneumothorax")] = value
    got = tags(finding)
    assert got[:, tags.names.index("pneumothorax")].tolist() == [PRESENT, ABSENT, UNCERTAIN, NOT_MENTIONED]
    assert (got[3] == NOT_MENTIONED).all()


def test_the_likeliest_finding_of_a_tag_counts():
    several = next(name for name, findings in LABEL_SETS["chexpert"].items() if len(findings) > 1)
    tags, members = Tags("chexpert"), LABEL_SETS["chexpert"][several]
    finding = torch.full((1, len(FINDINGS)), NOT_MENTIONED, dtype=torch.int8)
    finding[0, FINDINGS.index(members[0])] = ABSENT
    assert tags(finding)[0, tags.names.index(several)] == ABSENT
    finding[0, FINDINGS.index(members[1])] = UNCERTAIN
    assert tags(finding)[0, tags.names.index(several)] == UNCERTAIN


@pytest.mark.parametrize(
    ("options", "target", "mask"),
    [
        ({}, [1, 0, 0, 0], [1, 1, 1, 1]),
        ({"uncertain": "present"}, [1, 0, 1, 0], [1, 1, 1, 1]),
        ({"uncertain": "masked"}, [1, 0, 0, 0], [1, 1, 0, 1]),
        ({"unmentioned": "masked"}, [1, 0, 0, 0], [1, 1, 1, 0]),
    ],
)
def test_rules_for_uncertain_and_unmentioned_tags(options, target, mask):
    objective = make(TagDecoding, **options)
    finding = torch.full((4, len(FINDINGS)), NOT_MENTIONED, dtype=torch.int8)
    finding[:3, FINDINGS.index("edema")] = torch.tensor([PRESENT, ABSENT, UNCERTAIN], dtype=torch.int8)
    got_target, got_mask = objective.targets(finding)
    column = objective.tags.names.index("edema")
    assert got_target[:, column].int().tolist() == target
    assert got_mask[:, column].int().tolist() == mask


@pytest.mark.parametrize("options", [{"weight": 0.0}, {"soft_label_weight": 0.0}])
def test_either_global_term_can_be_left_out(options):
    assert len(make(GlobalAlignment, **options)(*Studies().inputs(everyone))) == 1


def test_attention_sums_to_one_and_is_the_layers_own():
    image, _, _ = Studies().inputs(everyone)
    objective = make(TagDecoding).eval()
    heat = objective.attention(image)
    assert heat.shape == (STUDIES, 40, GRID, GRID)
    torch.testing.assert_close(heat.sum((2, 3)), torch.ones(STUDIES, 40))
    # A patch that alone is unlike the others draws attention elsewhere when it moves.
    image.pyramid[1] = torch.zeros(1, PATCH, GRID, GRID)
    image.pyramid[1][0, :, 1, 2] = 50 * torch.randn(PATCH)
    heat = objective.attention(image)[0]
    flat = heat.flatten(1)
    odd = flat[:, 1 * GRID + 2]
    rest = flat[:, 0]
    assert not torch.allclose(odd, rest)
    torch.testing.assert_close(flat[:, 3], rest)


def similarity(objective, image, word):
    """Return the heat maps of texts of one word each."""
    texts = PhraseFeatures([""] * len(word), word, word, torch.arange(len(word)))
    return objective.text_heat(image, torch.zeros(1), texts)


def test_retrieval_and_pointing_count_by_hand():
    objective = make(RegionAlignment).eval()
    image, text, batch = Studies().inputs(everyone)
    rows = objective.evaluate(image, text, batch)
    metrics = objective.summarise(rows)
    with torch.no_grad():
        regions, sentences, pairs, same, _ = slow_regions(objective, image, text, batch, 0, 1)
    counts = {}
    for name, a, b, own, compared in (
        ("r2s_R@1", regions, sentences, pairs, same),
        ("s2r_R@1", sentences, regions, pairs.T, same.T),
    ):
        hits, chance = [], []
        for i in range(len(a)):
            rivals = [j for j in range(len(b)) if compared[i, j] and not own[i, j]]
            mine = [j for j in range(len(b)) if own[i, j]]
            if rivals and mine:
                score = [F.cosine_similarity(a[i], b[j], dim=0).item() for j in range(len(b))]
                hits.append(max(score[j] for j in mine) > max(score[j] for j in rivals))
                chance.append(len(mine) / (len(mine) + len(rivals)))
        counts[name] = sum(hits) / len(hits)
        counts[f"{name[:3]}_chance"] = sum(chance) / len(chance)
    assert {k: metrics[k] for k in counts} == pytest.approx(counts, rel=1e-5)
    assert rows["pointing/queries"].sum() > 0
    assert (rows["pointing/hits"] <= rows["pointing/queries"]).all()


def test_a_sentence_points_into_its_box():
    objective = make(RegionAlignment).eval()
    image, text, batch = Studies(1, [1], [1]).inputs([0])
    batch["region"].visible[:] = True
    text.word, text.word_sentence = torch.randn(1, WORD), torch.zeros(1, dtype=torch.long)
    y, x = divmod(int(similarity(objective, image, text.word).flatten().argmax()), GRID)
    cell = SIDE / GRID
    for dx, hit in ((0, 1.0), (1, 0.0)):
        left = ((x + dx) % GRID) * cell
        batch["region"].box = torch.tensor([[[left, y * cell, left + cell, (y + 1) * cell]]])
        metrics = objective.summarise(objective.evaluate(image, text, batch))
        assert metrics["pointing"] == hit
        assert metrics["pointing_chance"] == pytest.approx(1 / GRID**2)


def test_heat_maps_show_their_own_text_and_boxes():
    image, text, batch = Studies().inputs(everyone)
    region, said = batch["region"], batch["sentence"]
    objective = make(RegionAlignment).eval()
    # One word a sentence, so that the sentence is that word.
    text.word, text.word_sentence = torch.randn(sum(SENTENCES), WORD), torch.arange(sum(SENTENCES))
    maps = objective.heat_maps(image, text, batch)
    spoken = [s for s in range(sum(SENTENCES)) if region.aligned[:, s].any()]
    assert [heat_map.text for heat_map in maps] == [said.text[s] for s in spoken]
    assert len(spoken) < sum(SENTENCES)
    for s, heat_map in zip(spoken, maps, strict=True):
        study = int(said.study[s])
        assert heat_map.study == study
        torch.testing.assert_close(heat_map.heat, similarity(objective, image, text.word)[study, s])
        torch.testing.assert_close(heat_map.box, region.box[0][region.aligned[:, s]])

    objective = make(TagDecoding).eval()
    tags, attention = objective.tags(batch["existence"]), objective.attention(image)
    maps = objective.heat_maps(image, text, batch)
    assert [(h.study, h.text) for h in maps] == [
        (b, objective.tags.names[t]) for b, t in (tags == PRESENT).nonzero().tolist()
    ]
    for heat_map in maps:
        expected = attention[heat_map.study, objective.tags.names.index(heat_map.text)]
        torch.testing.assert_close(heat_map.heat, expected)


def test_sentences_that_were_cut_off_have_no_heat_map():
    image, text, batch = Studies().inputs(everyone)
    maps = make(RegionAlignment).eval().heat_maps(image, text, batch)
    spoken = set(batch["region"].sentence.tolist())
    assert len(maps) == len(spoken & set(text.word_sentence.tolist())) < len(spoken)


def test_layers_of_the_decoder_start_apart():
    layers = make(TagDecoding, dim=64, hidden=64).decoder.decoder.layers
    first, second = (layer.linear1.weight for layer in layers)
    assert not torch.equal(first, second)
    for weight in (first, layers[0].multihead_attn.in_proj_weight, layers[0].multihead_attn.out_proj.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
