from collections import Counter

import pytest
from sklearn.model_selection import train_test_split

from medvlp.errors import NotFoundError, UserError
from medvlp.prepare.datasets.covidx import CovidX, covidx
from medvlp.prepare.layouts.covidx_lists import VERSIONS
from medvlp.prepared import Prepared

TRAIN_LIST, TEST_LIST = "train_COVIDx9A.txt", "test_COVIDx9A.txt"
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
    assert Counter(row["split/patients"] for row in rows.values()) == {"train": 8, "validate": 2, "test": 2}
    assert rows["n.png"]["split"] == "test"
    assert skipped(tmp_path / "out") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "count", "mgca", "asg"),
    [
        ("cxr3b", 29_986, (23_988, 5_998), 2_999),
        ("cxr3a", 29_634, (23_707, 5_927), 2_964),
        ("v9a", 30_130, (24_104, 6_026), 3_013),
    ],
)
def test_sizes(tmp_path, version, count, mgca, asg):
    """The complete lists of each version; those of two classes alone give the published sizes."""
    (tmp_path / "train").mkdir()
    words = ("negative", "positive") if version == "cxr3b" else ("normal", "pneumonia", "COVID-19")
    names = [f"{i}.png" for i in range(count)]
    train = [f"patient{i // 3} {name} {words[i % len(words)]} rsna" for i, name in enumerate(names)]
    lists = VERSIONS[version].names[0]
    (tmp_path / lists["train"]).write_text("\n".join(train))
    (tmp_path / lists["test"]).write_text("\n".join(f"t{i} t{i}.png {words[0]} rsna" for i in range(400)))
    data = CovidX(tmp_path)
    studies, skips = read(data)
    assert skips == []
    assert data.rows == len(studies) == data.documented == count + 400
    expected = {"train": mgca[0], "validate": mgca[1], "test": 400}
    assert Counter(study.split for study in studies) == expected
    assert data.splits["mgca"].documented == (expected if version == "cxr3b" else {})
    assert Counter(study.other_splits["asg"] for study in studies)["validate"] == asg
    # The very images that MGCA draws.
    _, validate = train_test_split(names, test_size=0.2, random_state=0)
    assert {study.study_id for study in studies if study.split == "validate"} == set(validate)
    of_patients = {(study.subject_id, study.other_splits["patients"]) for study in studies}
    assert len(of_patients) == len({study.subject_id for study in studies})


def test_images_of_patients_of_test_are_not_trained_on_by_patient(raw):
    write_lists(raw, [*TRAIN, "SITE2-000265 more.png normal rsna"], TEST)
    studies, _ = read(CovidX(raw))
    (more,) = (study for study in studies if study.study_id == "more.png")
    assert more.other_splits["patients"] == ""
    assert more.split in ("train", "validate")


def test_lists_of_no_version(raw):
    (raw / TRAIN_LIST).rename(raw / "train_COVIDx8A.txt")
    data = CovidX(raw, "", "train_COVIDx8A.txt", TEST_LIST)
    assert data.documented is None
    assert not data.splits["mgca"].documented
    assert data.options["lists"] == ["train_COVIDx8A.txt", TEST_LIST]
    assert len(read(data)[0]) == 12
    for arguments in (("", "train_COVIDx8A.txt", ""), ("v9a", "train_COVIDx8A.txt", TEST_LIST)):
        with pytest.raises(UserError, match="--train_list and --test_list go together, and not with --version"):
            CovidX(raw, *arguments)


# Two classes, and the other versions.


def binary(lines):
    words = {"normal": "negative", "pneumonia": "negative", "COVID-19": "positive"}
    return [" ".join(words.get(word, word) for word in line.split(" ")) for line in lines]


def write_version(root, train, test, names=("train.txt", "test.txt"), **more):
    for path in root.glob("*.txt"):
        path.unlink()
    for name, lines in (*zip(names, (train, test), strict=True), *((f"{key}.txt", v) for key, v in more.items())):
        (root / name).write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(
    "names",
    [
        ("train.txt", "test.txt"),
        ("train_CXR-3B.txt", "test_CXR-3B.txt"),
        ("train_COVIDx_CXR-3B.txt", "test_COVIDx_CXR-3B.txt"),
    ],
)
def test_two_classes(raw, tmp_path, skipped, names):
    write_version(raw, binary(TRAIN), binary(TEST), names)
    covidx(raw, tmp_path / "out", size=32, workers=1)
    prepared = Prepared.open(tmp_path / "out")
    assert prepared.labels == ["Not COVID-19", "COVID-19"]
    rows = {row["image_id"]: row for row in prepared.index.to_pylist()}
    assert rows["COVID(1).png"]["label/COVID-19"] == 1 - rows["COVID(1).png"]["label/Not COVID-19"] == 1
    assert sum(row["label/COVID-19"] for row in rows.values()) == 2
    assert prepared.split_variants["mgca"]["documented"] == {"train": 23_988, "validate": 5_998, "test": 400}
    assert prepared.manifest["documented"] == 30_386
    assert skipped(tmp_path / "out") == []


def test_the_official_validation_of_cxr4(raw, tmp_path, skipped):
    (raw / "val").mkdir()
    moved = [line.split(" ")[-3] for line in TRAIN[:3]]
    for name in moved:
        (raw / "train" / name).rename(raw / "val" / name)
    write_version(raw, binary(TRAIN[3:]), binary(TEST), val=binary(TRAIN[:3]))
    covidx(raw, tmp_path / "out", size=32, workers=1)
    prepared = Prepared.open(tmp_path / "out")
    rows = {row["image_id"]: row for row in prepared.index.to_pylist()}
    assert {name for name, row in rows.items() if row["split"] == "validate"} == set(moved)
    assert Counter(row["split"] for row in rows.values()) == {"train": 7, "validate": 3, "test": 2}
    assert rows[moved[0]]["path"] == f"val/{moved[0]}"
    documented = {"train": 67_863, "validate": 8_473, "test": 8_482}
    assert prepared.split_variants["official"]["documented"] == documented
    assert prepared.manifest["documented"] == sum(documented.values()) == 84_818
    assert list(prepared.split_variants) == ["official"]
    assert skipped(tmp_path / "out") == []


def test_images_lie_in_any_of_the_folders(raw, tmp_path, skipped):
    """Later versions of the data have moved images from one folder to another."""
    covidx(raw, tmp_path / "first", size=32, workers=1)
    (raw / "val").mkdir()
    (raw / "train/normal-1.png").rename(raw / "val/normal-1.png")
    (raw / "train/normal-2.png").rename(raw / "test/normal-2.png")
    (raw / "test/n.png").rename(raw / "val/n.png")
    covidx(raw, tmp_path / "second", size=32, workers=1)
    first, second = (Prepared.open(tmp_path / name).index for name in ("first", "second"))
    assert first.drop(["path"]).equals(second.drop(["path"]))
    assert skipped(tmp_path / "second") == []
    # Where several folders have a file of one name, that of the list counts.
    (raw / "val/normal-3.png").write_bytes(b"another image")
    assert [s.pictures[0].path for s in read(CovidX(raw))[0] if s.study_id == "normal-3.png"] == ["train/normal-3.png"]


def test_which_version(raw):
    def write(*versions):
        for path in raw.glob("*.txt"):
            path.unlink()
        for version, number in versions:
            for name in VERSIONS[version].names[number].values():
                (raw / name).write_text("1 a.png positive rsna\n")

    for version, known in VERSIONS.items():
        for number in range(len(known.names)):
            write((version, number))
            assert CovidX(raw).documented == known.images, (version, number)
    write(("v9a", 0), ("cxr3b", -1))
    with pytest.raises(
        UserError, match=r"several versions \(v9a: test_COVIDx9A\.txt, .*; cxr3b: test\.txt, .*Add --version v9a"
    ):
        CovidX(raw)
    assert CovidX(raw, "cxr3b").options["lists"] == ["train.txt", "test.txt"]
    # CXR-4's lists include the names of an earlier version's.
    write(("cxr4", 0))
    assert CovidX(raw, "cxr3b").documented == 30_386
    with pytest.raises(NotFoundError, match=r"'train_COVIDx9A\.txt' is not in --root"):
        CovidX(raw, "v9a")
    with pytest.raises(UserError, match=r"no such version of COVIDx\. Did you mean 'cxr4'"):
        CovidX(raw, "cxr-4")
    (raw / "test.txt").unlink()
    with pytest.raises(NotFoundError, match=r"'test\.txt' is not in --root"):
        CovidX(raw)
    write()
    with pytest.raises(NotFoundError, match=r"'train_COVIDx9A\.txt' is not in --root"):
        CovidX(raw)


def test_the_words_of_another_version_are_said(raw):
    """The first known word decides, behind rows that cannot be read."""
    write_lists(raw, ["patient file class source", "x", *binary(TRAIN)[:4], TRAIN[1]], TEST)
    studies, skips = read(CovidX(raw))
    assert {study.split for study in studies} <= {"train", "validate"}
    assert Counter(reason for _, reason in skips) == {
        "unreadable row: class 'class'": 1,
        "unreadable row: 1 fields, not 4": 1,
        "unreadable row: class 'COVID-19'": 2,
        "unreadable row: class 'normal'": 1,
    }


def test_wrong_format(raw, tmp_path):
    write_lists(raw, ["patient,filename,class,source"], ["1 a.png other rsna"])
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
