"""Reports of many studies, without images."""

import re
from collections import Counter

import pytest

from medvlp.parse.sections import find_sections
from medvlp.phantom import study
from medvlp.phantom.page import MIMIC, OTHERS, style_of
from medvlp.phantom.reports import Report, report
from medvlp.phantom.world import DEVICES, Study


@pytest.fixture(scope="module")
def many() -> list[tuple[Study, Report]]:
    found = [s for p in study.patients(1, 1500) for s in study.sample(1, *p)]
    return [(s, report(s)) for s in found]


@pytest.mark.slow
def test_rates_of_missing_sections(many: list[tuple[Study, Report]]) -> None:
    sections = [{s.section for s in r.sentences} for _, r in many]
    n = len(many)
    assert 0.11 < sum("findings" not in s for s in sections) / n < 0.19
    assert 0.03 < sum("impression" not in s for s in sections) / n < 0.08
    assert 0 < sum(s == {"other"} for s in sections) / n < 0.015


def test_headers_follow_the_official_rule(many: list[tuple[Study, Report]]) -> None:
    rule = re.compile(r"\n ([A-Z ()/,-]+):\s")
    names = Counter(name for _, r in many for name in rule.findall(r.text))
    assert names["FINDINGS"] > 1000
    assert names["IMPRESSION"] > 1000
    assert {"CONCLUSION", "FINDINGS AND IMPRESSION", "INDICATION", "COMPARISON", "TECHNIQUE"} <= set(names)
    assert all(line == "" or line.startswith(" ") for _, r in many for line in r.text.split("\n"))
    assert any("___" in r.text for _, r in many)


def test_variety(many: list[tuple[Study, Report]]) -> None:
    sentences = Counter(s.text for _, r in many for s in r.sentences)
    assert len(sentences) > 2000
    assert sentences.most_common(1)[0][1] < 0.1 * len(many)
    existence = Counter(t.existence for _, r in many for s in r.sentences for t in s.triplets)
    assert min(existence.values()) > 200
    assert len(existence) == 3
    changes = Counter(t.change for _, r in many for s in r.sentences for t in s.triplets)
    assert {"stable", "increased", "decreased", "new", "resolved", None} == set(changes)


def test_grammar(many: list[tuple[Study, Report]]) -> None:
    for _, r in many:
        for s in r.sentences:
            assert s.text[0].isupper() or s.text[0].isdigit(), s.text
            assert not re.search(
                r"\b(\w+) \1\b|\b[Aa] [aeio8]|\b[Aa]n [bcdfglmnpst]|[ ,.][,.]| is (new|stable)?\.$", s.text
            ), s.text


def test_findings_and_impression_do_not_contradict_each_other(many: list[tuple[Study, Report]]) -> None:
    for _, r in many:
        said: dict[str, set[str]] = {}
        for s in r.sentences:
            for t in s.triplets:
                if t.finding != "pneumonia":
                    said.setdefault(t.finding, set()).add(t.existence)
        assert all(len(x) == 1 for x in said.values()), said


def test_comparison_needs_a_previous_study_and_agrees_with_it(many: list[tuple[Study, Report]]) -> None:
    rank = ("mild", "moderate", "severe")
    for one, r in many:
        for t in (t for s in r.sentences for t in s.triplets if t.change):
            assert one.previous is not None
            name = {"mass": "nodule", "nodular opacity": "nodule", "opacity": "consolidation"}.get(t.finding, t.finding)
            before = next((f for f in one.previous if f.name == name), None)
            now = next((f for f in one.findings if f.name == name), None)
            assert (before is None) == (t.change == "new")
            assert (now is None) == (t.change == "resolved")
            if before and now:
                step = 0 if name in DEVICES else rank.index(now.severity) - rank.index(before.severity)
                assert t.change == ("stable", "increased", "decreased")[(step > 0) - (step < 0)]


def test_splits() -> None:
    counts = Counter(study.split_of(10_000_000 + i) for i in range(5000))
    assert 0.67 < counts["train"] / 5000 < 0.73
    assert 0.08 < counts["validate"] / 5000 < 0.12


def test_ids_are_unique(many: list[tuple[Study, Report]]) -> None:
    assert len({s.study_id for s, _ in many}) == len(many)
    shots = [shot.dicom_id for s, _ in many for shot in s.shots]
    assert len(set(shots)) == len(shots)


def test_every_style_is_written(many: list[tuple[Study, Report]]) -> None:
    styles = Counter(style_of(one).name for one, _ in many)
    assert {*styles} == {MIMIC.name, *(style.name for style in OTHERS)}
    assert 0.82 < styles[MIMIC.name] / len(many) < 0.88
    texts = {style_of(one).name: r.text for one, r in many if {s.section for s in r.sentences} >= {"impression"}}
    assert "**Impression:**" in texts["bold"]
    assert "\r\n" in texts["windows"]
    assert "\uff1a" in texts["wide"]
    assert re.search(r"\S IMPRESSIONS?: |\S CONCLUSION: ", texts["one paragraph"])


def test_sections_of_every_style_are_those_of_the_truth(many: list[tuple[Study, Report]]) -> None:
    for one, r in many:
        style = style_of(one)
        for section, text in zip(("findings", "impression"), find_sections(r.text), strict=True):
            sentences = [s for s in r.sentences if s.section == section]
            assert all(r.text[s.start : s.end].split() == s.text.split() for s in sentences)
            assert (text is None) == (not sentences), (style.name, r.text)
            if sentences and not style.parts:
                # But for the numbers of a list, it is the sentences.
                words = [word for s in sentences for word in s.text.split()]
                start = r.text.index(text) if section == "findings" else r.text.rindex(text)
                assert start <= sentences[0].start <= sentences[-1].end == start + len(text), (style.name, r.text)
                assert len(text.split()) - len(words) in (0, len(sentences))


def test_parts_have_headers(many: list[tuple[Study, Report]]) -> None:
    texts = [find_sections(r.text)[0] for one, r in many if style_of(one).name == "parts"]
    parts = [re.findall(r"^ ?([A-Z ]+):", text, re.MULTILINE) for text in texts if text]
    assert all(parts)
    assert {name for names in parts for name in names} > {"LINES AND TUBES", "LUNGS AND PLEURA", "OTHER"}


def test_the_style_changes_no_sentence(many: list[tuple[Study, Report]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medvlp.phantom.reports.style_of", lambda _: MIMIC)
    for one, r in many[:300]:
        plain = report(one)
        assert [(s.text, s.section, s.triplets) for s in plain.sentences] == [
            (s.text, s.section, s.triplets) for s in r.sentences
        ]
