from collections import Counter

import pytest
from sklearn.model_selection import train_test_split

from medvlp.errors import UserError
from medvlp.prepare.datasets.covidx import TEST_LIST, TRAIN_LIST, CovidX, covidx
from medvlp.prepared import Prepared

TRAIN = [
    "3 SARS-Fig8a-day0.jpeg pneumonia cohen",
    "COVID 1 COVID(1).png COVID-19 sirm",
    *(f"p{i} normal-{i}.png normal rsna" for i in range(8)),
]
TEST = ["419639-003251 MIDRC-46647-0.png COVID-19 ricord", "SITE2-000265 n.png normal rsna"]


def read(data):
    skips = []
    return list(data.studies(lambda what, reason: skips.append((what, reason)))), skips


def write_lists(root, train, test):
    (root / TRAIN_LIST).write_text("\n".join(train))
    (root / TEST_LIST).write_text("\n".join(test) + "\n")


@pytest.fixture
def raw(tmp_path, jpeg):
    root = tmp_path / "raw"
    for split, lines in (("train", TRAIN), ("test", TEST)):
        (root / split).mkdir(parents=True)
        for number, line in enumerate(lines):
            (root / split / line.split(" ")[-3]).write_bytes(jpeg(seed=number))
    write_lists(root, TRAIN, TEST)
    return root


def test_end_to_end(raw, tmp_path, skipped):
    covidx(raw, tmp_path / "out", size=32, workers=1)
    prepared = Prepared.open(tmp_path / "out")
    assert prepared.labels == ["Normal", "Pneumonia", "COVID-19"]
    rows = {row["image_id"]: row for row in prepared.index.to_pylist()}
    assert len(rows) == 12
    labels = {name: [row[f"label/{label}"] for label in prepared.labels] for name, row in rows.items()}
    assert labels["SARS-Fig8a-day0.jpeg"] == [0, 1, 0]
    assert labels["COVID(1).png"] == labels["MIDRC-46647-0.png"] == [0, 0, 1]
    assert labels["n.png"] == [1, 0, 0]
    assert rows["COVID(1).png"]["subject_id"] == "COVID 1"
    assert rows["COVID(1).png"]["path"] == "train/COVID(1).png"
    assert {row["view"] for row in rows.values()} == {"FRONTAL"}
    assert Counter(row["split/mgca"] for row in rows.values()) == {"train": 8, "validate": 2, "test": 2}
    assert Counter(row["split/asg"] for row in rows.values()) == {"train": 9, "validate": 1, "test": 2}
    assert rows["n.png"]["split"] == "test"
    assert skipped(tmp_path / "out") == []


@pytest.mark.slow
@pytest.mark.parametrize(("count", "mgca", "asg"), [(29_986, (23_988, 5_998), 2_999), (30_130, (24_104, 6_026), 3_013)])
def test_sizes(tmp_path, count, mgca, asg):
    """29,986 images give the published sizes; the list itself has more lines."""
    (tmp_path / "train").mkdir()
    words = ("normal", "pneumonia", "COVID-19")
    names = [f"{i}.png" for i in range(count)]
    train = [f"patient{i // 3} {name} {words[i % 3]} rsna" for i, name in enumerate(names)]
    write_lists(tmp_path, train, [f"t{i} t{i}.png normal rsna" for i in range(400)])
    data = CovidX(tmp_path, TRAIN_LIST, TEST_LIST)
    studies, skips = read(data)
    assert skips == []
    assert data.rows == len(studies) == count + 400
    assert data.documented == 30_530
    expected = {"train": mgca[0], "validate": mgca[1], "test": 400}
    assert Counter(study.split for study in studies) == expected
    assert (data.splits["mgca"].documented == expected) == (count == 29_986)
    assert Counter(study.other_splits["asg"] for study in studies)["validate"] == asg
    # The very images that MGCA draws.
    _, validate = train_test_split(names, test_size=0.2, random_state=0)
    assert {study.study_id for study in studies if study.split == "validate"} == set(validate)


def test_other_lists(raw):
    (raw / TRAIN_LIST).rename(raw / "train_COVIDx8A.txt")
    data = CovidX(raw, "train_COVIDx8A.txt", TEST_LIST)
    assert data.documented is None
    assert not data.splits["mgca"].documented
    assert data.options["lists"] == ["train_COVIDx8A.txt", TEST_LIST]
    assert len(read(data)[0]) == 12


def test_wrong_format(raw, tmp_path):
    write_lists(raw, ["patient,filename,class,source"], ["1 a.png positive rsna"])
    with pytest.raises(UserError, match=r"No image is left.*unreadable row \(2\)"):
        covidx(raw, tmp_path / "out", size=32, workers=1)


def test_damaged_lines_and_images(raw, tmp_path, jpeg, skipped):
    train = [
        *TRAIN,
        TRAIN[0],
        TEST[1],
        "9 unknown.png normal rsna",
        "9 a.png positive rsna",
        "9 a.png normal",
        "",
        "9 ../../secret.png normal rsna",
    ]
    write_lists(raw, train, TEST)
    path = raw / "train/normal-3.png"
    path.write_bytes(path.read_bytes()[:-300])
    (tmp_path / "secret.png").write_bytes(jpeg())
    covidx(raw, tmp_path / "out", size=32, workers=1)
    prepared = Prepared.open(tmp_path / "out")
    found = dict(skipped(tmp_path / "out"))
    assert found == {
        "normal-3.png": "truncated image",
        "unknown.png": "missing file",
        f"{TRAIN_LIST}:11": "duplicate id",
        f"{TRAIN_LIST}:12": "duplicate id",
        f"{TRAIN_LIST}:14": "unreadable row: class 'positive'",
        f"{TRAIN_LIST}:15": "unreadable row: 3 fields, not 4",
        "../../secret.png": "escapes root",
    }
    rows = {row["image_id"]: row["split"] for row in prepared.index.to_pylist()}
    assert rows["n.png"] == "test"
    counts = prepared.manifest["counts"]
    assert counts["table"] == 18 == counts["decoded"] + len(found)
