"""Settings that are written are read back as they are."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from medvlp.config.parser import Parser, dump_settings, load_value

pytestmark = pytest.mark.slow

NUMBERS = st.from_regex(
    r"[-+.]?[0-9_]{1,7}[e_.:x]{0,2}[-+]?[0-9]{0,7}|[+-]?\.?(inf|nan|[0-9]+e[+-]?[0-9]+)", fullmatch=True
)
VALUES = st.one_of(NUMBERS, st.text("0123456789ef+-._:#~ ", max_size=10), st.integers(), st.floats(allow_nan=False))


@given(st.dictionaries(NUMBERS | st.text("ab", min_size=1), st.lists(VALUES) | VALUES | st.none() | st.booleans()))
@example({"id": "12e45678"})
@example({"id": "0_e0", "part": "._1e5", "0": ["._0", "._", "+._"]})
@example({"id": "1e5", "lr": 1e-5, "on": "yes", "none": "null", "time": "12:30:45", "day": "2024-01-01"})
def test_settings_are_read_back(settings):
    assert load_value(dump_settings(settings)) == settings


@pytest.mark.parametrize("name", ["12e45678", "1e5", "inf", "123", "1_000", "0x1f", "yes"])
def test_a_name_like_a_number_stays_a_name(name, tmp_path):
    parser = ArgumentParser()
    parser.add_argument("--id", type=str)
    parser.add_argument("--config", action="config")
    config = tmp_path / "config.yaml"
    config.write_text(parser.dump(parser.parse_args([f"--id={name}"])))
    assert parser.parse_args([f"--config={config}"]).id == name


@pytest.mark.parametrize(
    ("words", "expected"),
    [([], False), (["--dry_run"], True), (["--dry_run", "false"], False), (["--dry_run=true"], True)],
)
def test_an_option_of_yes_or_no_may_stand_alone(words, expected):
    parser = Parser()
    parser.add_argument("--dry_run", type=bool, default=False)
    parser.add_argument("--out", type=str)
    settings = parser.parse_args([*words, "--out=x"])
    assert (settings.dry_run, settings.out) == (expected, "x")
