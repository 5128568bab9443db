import json

import pytest

from medvlp.errors import NotFoundError, UserError
from medvlp.parse.radgraph import read_radgraph, triplets

TEXT = "Small left pleural effusion . No pneumothorax . Possible opacity at the right base . The heart is normal ."


def entity(tokens, label, *relations):
    words = TEXT.split()
    first = next(i for i in range(len(words)) if words[i : i + len(tokens.split())] == tokens.split())
    last = first + len(tokens.split()) - 1
    return {
        "tokens": tokens,
        "label": label,
        "start_ix": first,
        "end_ix": last,
        "relations": [list(r) for r in relations],
    }


ENTITIES = {
    "1": entity("Small", "OBS-DP", ("modify", "4")),
    "2": entity("left", "ANAT-DP", ("modify", "3")),
    "3": entity("pleural", "ANAT-DP"),
    "4": entity("effusion", "OBS-DP", ("located_at", "3")),
    "5": entity("pneumothorax", "OBS-DA"),
    "6": entity("opacity", "OBS-U", ("located_at", "8")),
    "7": entity("right", "ANAT-DP", ("modify", "8")),
    "8": entity("base", "ANAT-DP"),
    "9": entity("heart", "ANAT-DP"),
    "10": entity("normal", "OBS-DP", ("located_at", "9")),
}


def test_triplets():
    found = triplets(TEXT, ENTITIES)
    assert [(t.sentence, t.finding, t.existence, t.side, t.severity, t.regions) for t in found] == [
        (0, "pleural effusion", "present", "left", "mild", ("left costophrenic angle",)),
        (1, "pneumothorax", "absent", None, None, ("right apical zone", "left apical zone")),
        (2, "opacity", "uncertain", "right", None, ("right lower lung zone",)),
        (3, "cardiomegaly", "absent", None, None, ("cardiac silhouette",)),
    ]
    assert found[0].text == "Small left pleural effusion ."
    assert TEXT[found[2].start : found[2].end] == "opacity"


def test_what_the_vocabulary_does_not_know_is_left_out():
    assert (
        triplets("Zebra .", {"1": {"tokens": "Zebra", "label": "OBS-DP", "start_ix": 0, "end_ix": 0, "relations": []}})
        == []
    )


def test_radgraph_xl_writes_its_labels_out():
    entity = {"tokens": "effusion", "start_ix": 0, "end_ix": 0, "relations": []}
    for label, existence in (
        ("definitely present", "present"),
        ("uncertain", "uncertain"),
        ("definitely absent", "absent"),
    ):
        (triplet,) = triplets("effusion", {"1": {**entity, "label": f"Observation::{label}"}})
        assert triplet.existence == existence


def test_reports_are_called_by_their_files(tmp_path):
    path = tmp_path / "graphs.json"
    path.write_text(json.dumps({"p10/p10000032/s50414267.txt": {"text": TEXT, "entities": ENTITIES}}))
    ((name, found),) = read_radgraph(path)
    assert name == "50414267"
    assert len(found) == 4


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[]",
        '{"a": {}}',
        '{"a": {"text": "x", "entities": {"1": {"label": "OBS-DP"}}}}',
        '{"a": 3}',
        '{"a": {"text": "x", "entities": [1]}}',
    ],
)
def test_broken_files(tmp_path, content):
    path = tmp_path / "graphs.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"graphs\.json"):
        list(read_radgraph(path))


def test_no_file(tmp_path):
    with pytest.raises(NotFoundError):
        list(read_radgraph(tmp_path / "none.json"))
