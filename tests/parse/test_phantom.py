"""The parser against the truth of the phantom, over seeds that were never looked at."""

import pytest

from medvlp.parse import parse_report
from medvlp.parse.sections import find_sections
from medvlp.phantom import reports, study

pytestmark = pytest.mark.slow


def sentences(seed, count):
    for patient in study.patients(seed, count):
        for one in study.sample(seed, *patient):
            yield from reports.report(one).sentences


def of_truth(t):
    return t.finding, t.existence, frozenset(t.regions), t.side, t.severity


@pytest.mark.parametrize("seed", [90210, 31337])
def test_f1(seed):
    right = wrong = 0
    for sentence in sentences(seed, 400):
        want = {of_truth(t) for t in sentence.triplets}
        have = {of_truth(t) for t in parse_report({"findings": sentence.text})}
        right += len(want & have)
        wrong += len(want ^ have)
    assert right > 2000
    assert 2 * right / (2 * right + wrong) >= 0.99


def test_whole_reports():
    """Wrapped lines, numbered lists, holes and ways to write headers do not change what is read."""
    right = wrong = 0
    for patient in study.patients(4711, 300):
        for one in study.sample(4711, *patient):
            report = reports.report(one)
            for section, text in zip(("findings", "impression"), find_sections(report.text), strict=True):
                here = [s for s in report.sentences if s.section == section]
                assert bool(here) == (text is not None)
                have = {of_truth(t) for t in parse_report({section: text or ""})}
                want = {of_truth(t) for s in here for t in s.triplets}
                right += len(want & have)
                wrong += len(want ^ have)
    assert right > 2000
    assert 2 * right / (2 * right + wrong) >= 0.999
