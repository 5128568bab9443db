"""Protocol files: what they ask, how they are told apart, and what is refused."""

import itertools
import random

import pytest
import torch
import yaml

from medvlp.errors import NotFoundError, UserError
from medvlp.parse import LABEL_SETS
from medvlp.protocols import Protocol, tag_columns

LABELS = [*LABEL_SETS["chexpert"], "Infiltration", "Mass", "Hernia", "Normal", "COVID-19", "Pleural Thickening"]
FIVE = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"]


def protocol(**changes):
    """A small protocol, with changes."""
    content = {
        "name": "own",
        "version": 1,
        "source": "a test",
        "prompts": {"pairs": {"positive": ["{} is seen"], "negative": ["no {}"]}},
    }
    return {name: value for name, value in {**content, **changes}.items() if value != "left out"}


def test_the_protocols_of_medvlp():
    assert Protocol.names() == [
        "biovil-rsna",
        "chexzero",
        "cxrclip-5x200",
        "cxrclip-binary",
        "gloria-5x200",
        "gloria-5x200-transductive",
        "medklip-oracle",
        "medvlp",
        "tags",
    ]
    protocols = [Protocol.read(name) for name in Protocol.names()]
    assert [p.name for p in protocols] == Protocol.names()
    assert len({p.sha256 for p in protocols}) == len(protocols)
    for p in protocols:
        assert p.caveats == {
            "gloria-5x200-transductive": ["transductive: each score depends on all images of the test set"],
            "medklip-oracle": ["oracle: thresholds are tuned on the test set"],
        }.get(p.name, [])


def test_combinations_are_as_many_as_published():
    every = Protocol.read("cxrclip-5x200")
    assert every.prompts.labels == FIVE
    assert [len(every.of_label(label)[0].positive) for label in FIVE] == [210, 15, 192, 18, 54]
    # One subtype stands twice in the original.
    assert len(every.texts(["Pleural Effusion"])) == 36
    assert "decreased tiny subpulmonic pleural effusion" in every.texts(FIVE)
    assert "linear atelectasis at the left lower lobe" in every.texts(FIVE)
    for text in every.texts(FIVE):
        assert text == text.strip()
        assert "  " not in text


def test_gloria_draws_five_of_each_as_its_code_does():
    """All combinations in the order of nested loops, and one seed before the first class."""
    drawn = Protocol.read("gloria-5x200")
    grid = drawn.content["prompts"]["grid"]
    random.seed(6)
    for label in FIVE:
        parts = [words for name, words in grid[label].items() if name != "text"]
        names = [name for name in grid[label] if name != "text"]
        texts = []
        for words in itertools.product(*parts):
            text = grid[label]["text"]
            for name, word in zip(names, words, strict=True):
                text = text.replace("{" + name + "}", word)
            texts.append(" ".join(text.split()))
        assert drawn.of_label(label) == [(random.sample(texts, 5), [])]


def test_the_draw_does_not_depend_on_what_is_asked():
    alone, together = Protocol.read("gloria-5x200"), Protocol.read("gloria-5x200")
    together.texts(FIVE)
    assert alone.texts(["Edema"]) == together.texts(["Edema"])
    assert set(alone.texts(["Edema"])) <= set(together.texts(FIVE))


def test_wording():
    def asked(name, label):
        return Protocol.read(name).of_label(label)

    assert asked("chexzero", "Pleural Effusion") == [(["pleural effusion"], ["no pleural effusion"])]
    assert asked("cxrclip-binary", "Pneumothorax") == [(["Pneumothorax"], ["No Pneumothorax"])]
    assert asked("cxrclip-binary", "Pneumonia")[0].positive == ["Findings suggesting pneumonia."]
    assert asked("medklip-oracle", "Infiltration") == [(["infiltrate"], [])]
    ((positive, negative),) = asked("biovil-rsna", "Pneumonia")
    assert len(positive) == len(negative) == 4
    assert asked("gloria-5x200-transductive", "Edema") == asked("gloria-5x200", "Edema")
    assert asked("gloria-5x200", "Edema") != asked("cxrclip-5x200", "Edema")
    for label in ("Pleural Effusion", "No Finding"):
        assert asked("medvlp", label.lower()) == asked("medvlp", label)


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(protocol()))
    own = Protocol.read(path)
    assert own.of_label("Edema") == [(["edema is seen"], ["no edema"])]
    assert own.texts(["Edema", "Mass", "Edema"]) == ["edema is seen", "no edema", "mass is seen", "no mass"]
    assert own.decision == 0.5
    assert Protocol.of(own.content) == own


def test_a_file_that_changes_a_protocol_of_medvlp(tmp_path):
    path = tmp_path / "own.yaml"
    changes = "base: medvlp\nname: own\nversion: 3\nsource: me\nprompts: {pairs: {phrases: {Edema: [CHF]}}}\n"
    path.write_text(changes)
    own, base = Protocol.read(path), Protocol.read("medvlp")
    assert own.identity == {"name": "own", "version": 3, "sha256": own.sha256}
    assert own.of_label("Edema")[0].positive[0] == "CHF."
    assert own.of_label("Support Devices") == base.of_label("Support Devices")
    assert own.of_label("No Finding") == base.of_label("No Finding")


def test_null_takes_an_entry_away():
    content = {"base": "medvlp", "name": "own", "version": 1, "score": "similarity", "temperature": None}
    own = Protocol.of({**content, "prompts": {"texts": None, "pairs": {"negative": None}}})
    assert own.of_label("Edema") == [(["Edema.", "There is edema.", "Findings consistent with edema."], [])]
    assert own.temperature == 1


def test_the_hash_is_of_what_is_said(tmp_path):
    path = tmp_path / "own.yaml"
    hashes = []
    for text in (yaml.safe_dump(protocol()), "# The same.\n" + yaml.safe_dump(protocol(), default_flow_style=True)):
        path.write_text(text)
        hashes.append(Protocol.read(path).sha256)
    assert hashes[0] == hashes[1] == Protocol.of(protocol()).sha256
    assert Protocol.of(protocol(temperature=0.5)).sha256 != hashes[0]


def test_the_hash_knows_another_draw():
    content = Protocol.read("gloria-5x200").content
    grid = content["prompts"]["grid"]
    turned = Protocol.of({**content, "prompts": {**content["prompts"], "grid": dict(reversed(grid.items()))}})
    assert turned.texts(FIVE) != Protocol.of(content).texts(FIVE)
    assert turned.sha256 != Protocol.of(content).sha256


def test_labels_that_a_protocol_does_not_know():
    gloria = Protocol.read("gloria-5x200")
    assert gloria.knows("Edema")
    assert not gloria.knows("Hernia")
    with pytest.raises(UserError, match=r"'gloria-5x200' has no prompts for the label 'Oedema'. Did you mean 'Edema'"):
        gloria.texts(["Edema", "Oedema"])
    assert Protocol.read("medvlp").knows("anything")


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_labels_are_known_whatever_their_capitals(change):
    for name in Protocol.names():
        read = Protocol.read(name)
        for label in read.prompts.labels or LABEL_SETS["chexpert"]:
            assert read.knows(change(label)), (name, label)
            if read.score == "tags":
                tags = list(LABEL_SETS["asg"])
                assert tag_columns(read, change(label), tags) == tag_columns(read, label, tags) != []
            elif read.prompts.labels:
                assert read.of_label(change(label)) == read.of_label(label)


def test_an_entry_takes_the_place_of_that_of_the_base_whatever_its_capitals():
    own = {"base": "biovil-rsna", "name": "own", "prompts": {"texts": {"pneumonia": {"positive": ["x"]}}}}
    (sides,) = Protocol.of(own).of_label("Pneumonia")
    assert sides.positive == ["x"]
    assert sides.negative[0] == "There is no pneumonia"


@pytest.mark.parametrize(
    "prompts",
    [
        {"texts": {"Edema": {"positive": ["a"], "negative": ["b"]}, "edema": {"positive": ["c"], "negative": ["d"]}}},
        {"pairs": {"positive": ["{}"], "negative": ["no {}"], "phrases": {"Edema": ["a"], "edema": ["b"]}}},
        {"grid": {"Edema": {"text": "{a}", "a": ["x"]}, "edema": {"text": "{a}", "a": ["y"]}}},
    ],
)
def test_one_label_has_one_entry(prompts):
    with pytest.raises(UserError, match="'Edema' and 'edema' are the same label"):
        Protocol.of({"name": "own", "version": 1, "source": "test", "prompts": prompts})


def test_the_tags_are_those_of_the_decoder():
    tags = Protocol.read("tags").prompts.tags
    assert {tag for chosen in tags.values() for tag in chosen} <= set(LABEL_SETS["asg"])
    assert set(LABEL_SETS["chexpert"]) - {"No Finding"} <= set(tags)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": "mean"}, r"unknown entry 'pool'. Did you mean 'pooling'\? It has base, name, "),
        ({"name": "left out"}, "own, name: None is not a text"),
        ({"version": 1.5}, "own, version must be a whole number, not 1.5"),
        ({"version": True}, "own, version must be a whole number, not True"),
        ({"source": 3}, "own, source: 3 is not a text"),
        ({"pooling": "avg"}, "own, pooling is 'avg'; it must be one of embedding, mean, max"),
        ({"pooling": ["mean"]}, "own, pooling is .'mean'.; it must be one of"),
        ({"score": "softmax"}, "own, score is 'softmax'; it must be one of pair, similarity, tags"),
        ({"normalise": "batch"}, "own, normalise is 'batch'; it must be one of images, None"),
        ({"threshold": "oracle"}, "own, threshold is 'oracle'; it must be one of none, validation, oracle-f1"),
        ({"temperature": 0}, "own, temperature must be a number above 0, not 0"),
        ({"temperature": float("nan")}, "own, temperature must be a number above 0"),
        ({"base": "own"}, "own, base is 'own'; it must be one of biovil-rsna, "),
        ({"base": ["medvlp"]}, "own, base is .'medvlp'.; it must be one of"),
        ({"prompts": "left out"}, "own, prompts must be a mapping"),
        ({"prompts": {}}, "own, prompts must be a mapping"),
        ({"prompts": {"text": {}}}, "own, prompts: unknown entry 'text'. Did you mean 'texts'"),
        ({"prompts": {"pairs": None}}, "own, prompts: needs 'pairs', 'texts' or 'grid'"),
        ({"prompts": {"pairs": {"positive": ["{}"]}}}, "score='pair' needs negative prompts beside 'label'"),
        ({"prompts": {"pairs": {"positive": ["there"], "negative": ["no {}"]}}}, "'there' must have one {}"),
        ({"prompts": {"pairs": {"positive": ["{x}"], "negative": ["no {}"]}}}, "'{x}' must have one {}"),
        ({"prompts": {"pairs": {"positive": ["{}"], "negative": ["no {} {}"]}}}, "'no {} {}' must have one {}"),
        ({"prompts": {"pairs": {"positive": "{}", "negative": ["no {}"]}}}, "positive must be a list of texts"),
        ({"prompts": {"pairs": {"positive": ["{}"], "negative": [False]}}}, "negative: False is not a text"),
        ({"prompts": {"texts": {"Edema": ["edema"]}}}, "own, prompts, texts, Edema must be a mapping"),
        (
            {"prompts": {"texts": {True: {"positive": ["a"]}}}},
            "own, prompts, texts: True is not a name; put it in quotes",
        ),
        ({"prompts": {"tags": {"Edema": ["edema"]}}}, "'tags' in 'prompts' and score='tags' belong together"),
        ({"score": "tags"}, "'tags' in 'prompts' and score='tags' belong together"),
        ({"score": "similarity"}, "score='similarity' reads no negative prompts, such as 'no label'"),
        ({"score": "tags", "pooling": "max", "prompts": {"tags": {"Edema": ["edema"]}}}, "score='tags' pools no prom"),
        ({"score": "tags", "temperature": 1, "prompts": {"tags": {"Edema": ["edema"]}}}, "only score='pair' has a tem"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(UserError, match=message) as error:
        Protocol.of(protocol(**changes), "own")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"grid": {"Edema": {"text": "{degree} edema", "degree": ["mild"], "place": ["here"]}}}, "name each part once"),
        ({"grid": {"Edema": {"text": "{degree} {degree}", "degree": ["mild"]}}}, "name each part once"),
        ({"grid": {"Edema": {"text": "{degree.real} edema", "degree": ["mild"]}}}, "name each part once"),
        ({"grid": {"Edema": {"degree": ["mild"]}}}, "grid, Edema, text: None is not a text"),
        ({"grid": {"Edema": {"text": "{degree}", "degree": ["mild", ""]}}}, "leaves no text"),
        ({"grid": {"Edema": {"text": "{a}{b}", "a": ["x"] * 101, "b": ["x"] * 100}}}, "more than 10000 combinations"),
        ({"grid": {"Edema": {"text": "{a}", "a": ["x"]}}, "sample": 2}, "sample=2: 'Edema' has 1 combinations"),
        ({"grid": {"Edema": {"text": "{a}", "a": ["x"]}}, "sample": 0}, "sample=0: 'Edema' has 1 combinations"),
        ({"sample": 5, "texts": {"Edema": {"positive": ["a"]}}}, "draw from a grid, and there is none"),
    ],
)
def test_grids_that_are_refused(grid, message):
    with pytest.raises(UserError, match=message):
        Protocol.of(protocol(score="similarity", prompts=grid), "own")


def test_a_word_with_braces_is_taken_as_it_is():
    grid = {"Edema": {"text": "{a} {b}", "a": ["{b}", "x"], "b": ["y"]}}
    made = Protocol.of(protocol(score="similarity", prompts={"grid": grid}))
    assert made.texts(["Edema"]) == ["{b} y", "x y"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: [", "is not YAML: while parsing"),
        (b"\xff\xfe\xff", "is not YAML"),
        (b"", "must be a mapping"),
        (b"- a", "must be a mapping"),
        (b"!!python/object/apply:os.getcwd []", "is not YAML: could not determine a constructor"),
    ],
)
def test_files_that_are_refused(tmp_path, content, message):
    path = tmp_path / "own.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        Protocol.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_that_is_not_there():
    with pytest.raises(NotFoundError, match=r"'gloria_5x200': no such protocol or file\..* 'gloria-5x200'"):
        Protocol.read("gloria_5x200")


def test_a_protocol_travels_in_a_checkpoint(tmp_path):
    torch.save(Protocol.read("medvlp").content, tmp_path / "protocol.pt")
    content = torch.load(tmp_path / "protocol.pt", weights_only=True)
    assert Protocol.of(content) == Protocol.read("medvlp")
