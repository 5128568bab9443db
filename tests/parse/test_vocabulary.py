from collections import defaultdict

import pytest

from medvlp.parse import DESCRIPTIONS, FINDINGS, LABEL_SETS, REGIONS
from medvlp.parse.lexicon import ANCESTORS, GRAMMAR, IMPLIED
from medvlp.parse.patterns import expand, read
from medvlp.parse.spelling import texts
from medvlp.parse.words import words
from medvlp.phantom.world import FINDINGS as DRAWN
from medvlp.phantom.world import REGIONS as DRAWN_REGIONS
from medvlp.prepared import CHEXPERT_LABELS

TAGS = (
    "pleural effusion, opacity, pneumothorax, edema, atelectasis, tube, consolidation, enlarged cardiomediastinum, "
    "tip, pneumonia, line, cardiomegaly, fracture, calcification, device, engorgement, nodule, wire, pacemaker, "
    "pleural thicken, marking, scar, hyperinflate, blunt, collapse, emphysema, aerate, mass, infiltration, obscure, "
    "deformity, hernia, drainage, distention, shift, stent, lesion, hardware, dilation, aspiration"
)
NIH = (
    "Atelectasis, Cardiomegaly, Effusion, Infiltration, Mass, Nodule, Pneumonia, Pneumothorax, Consolidation, Edema, "
    "Emphysema, Fibrosis, Pleural_Thickening, Hernia"
)


def phrases(patterns):
    return {" ".join(w.text for w in words(phrase)) for pattern in patterns for phrase in expand(pattern)}


def by_phrase(named):
    found = defaultdict(set)
    for name, patterns in named:
        for phrase in phrases(patterns):
            found[phrase].add(name)
    return found


def test_label_sets_are_official_and_name_findings():
    assert list(LABEL_SETS["asg"]) == TAGS.split(", ")
    assert tuple(LABEL_SETS["chexpert"]) == CHEXPERT_LABELS
    assert list(LABEL_SETS["nih"]) == NIH.split(", ")
    for name, labels in LABEL_SETS.items():
        for label, findings in labels.items():
            assert set(findings) <= set(FINDINGS), label
            assert findings or (name, label) == ("chexpert", "No Finding")


def test_regions_are_the_29_of_the_phantom():
    assert REGIONS == DRAWN_REGIONS
    assert set(ANCESTORS) == set(REGIONS)
    assert ANCESTORS["left costophrenic angle"] == {"left lower lung zone", "left lung"}


def test_findings():
    assert set(DRAWN) <= set(FINDINGS)
    assert set(IMPLIED) == set(FINDINGS)
    assert {f"right {r}" if f"right {r}" in REGIONS else r for rs in IMPLIED.values() for r in rs} <= set(REGIONS)


def test_no_phrase_has_two_meanings():
    findings, statements, regions = read("findings"), read("statements"), read("regions")
    named = [(n, e["words"] + e.get("deniable", []) + e.get("denied", [])) for n, e in findings["findings"].items()]
    named += [("nothing", findings["nothing"])]
    named += [(f"organ {n}", e["words"]) for n, e in statements["organs"].items()]
    named += [(f"quality {n}", patterns) for n, patterns in statements["qualities"].items()]
    places = [
        (f"{n}, {k}", e.get(k, []))
        for n, e in regions["regions"].items()
        for k in ("words", "short", "both", "right", "left")
    ]
    places += [(f"side {n}", patterns) for n, patterns in regions["sides"].items()]
    places += [("elsewhere", regions["elsewhere"])]
    places += [(f"severity {n}", patterns) for n, patterns in findings["severities"].items()]
    allowed = {"reticular marking", "reticular markings", "reticular pattern"}
    for found in (by_phrase(named), by_phrase(places)):
        assert "" not in found
        assert {p: names for p, names in found.items() if len(names) > 1 and p not in allowed} == {}


def test_groups_of_patterns_do_not_nest():
    files = [read(name) for name in ("findings", "statements", "regions")]

    for text in texts(files):
        assert not any(sign in phrase for phrase in expand(text) for sign in "()|"), text


def test_statements_say_findings():
    statements = read("statements")
    for organ, entry in statements["organs"].items():
        assert set(entry["says"]) <= set(statements["qualities"]), organ
        for said in entry["says"].values():
            for name in [said] if isinstance(said, str) else said:
                assert name.removeprefix("no ") in FINDINGS


@pytest.mark.parametrize("name", ["findings", "statements", "regions", "labels", "descriptions", "grammar", "cues"])
def test_files_say_how_to_edit_them(name):
    from importlib.resources import files

    assert (files("medvlp.parse") / "vocabulary" / f"{name}.yaml").read_text().startswith("# ")


def test_every_label_of_a_model_has_a_description():
    asked = {
        findings[0] if findings else "no finding"
        for name in ("asg", "chexpert", "nih")
        for findings in LABEL_SETS[name].values()
    }
    assert set(DESCRIPTIONS) == asked
    assert len(set(DESCRIPTIONS.values())) == len(DESCRIPTIONS)


def test_grammar_is_made_of_words():
    assert all(isinstance(word, str) and len(words(word)) == 1 for listed in GRAMMAR.values() for word in listed)
