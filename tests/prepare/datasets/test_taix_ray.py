"""TAIX-Ray: grades as labels, folds as splits, images of 16 bits; and damaged files."""

import csv
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medvlp.data import CXRDataModule
from medvlp.errors import LeftOutError, NotFoundError, UserError
from medvlp.phantom import phantom
from medvlp.prepare.datasets.taix_ray import GRADES, LABELS, TaixRay, taix_ray
from medvlp.prepare.layouts.taix_labels import label_of, read_grade
from medvlp.prepared import Prepared

pytestmark = pytest.mark.slow
SIZE = 32


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "p"
    phantom(out, studies=40, seed=1, size=64, workers=1, layouts="taix_ray")
    return out / "taix_ray"


@pytest.fixture
def raw(drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "raw")
    return tmp_path / "raw"


def prepare(raw, out, **options):
    taix_ray(raw, out, **{"size": SIZE, "workers": 1, **options})
    return Prepared.open(out)


def read(path):
    with open(path, newline="") as file:
        return [*csv.DictReader(file)]


def write(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_end_to_end(raw, tmp_path, skipped):
    prepared = prepare(raw, tmp_path / "out")
    rows, table = prepared.index.to_pylist(), read(raw / "metadata/annotation.csv")
    assert skipped(prepared.root) == []
    assert [row["image_id"] for row in rows] == [row["UID"] for row in table]
    words = {"train": "train", "val": "validate", "test": "test"}
    for split in read(raw / "metadata/split.csv"):
        (row,) = [row for row in rows if row["image_id"] == split["UID"]]
        assert row[f"split/fold_{split['Fold']}"] == words[split["Split"]]
    for row, of_table in zip(rows, table, strict=True):
        assert (row["subject_id"], row["view"], row["split"]) == (of_table["PatientID"], "AP", row["split/fold_0"])
        assert row["order"] == int(of_table["StudyDate"]) * 1_000_000
        for name, columns in LABELS.items():
            assert row[f"label/{name}"] == int(any(int(of_table[column]) >= 1 for column in columns))
    assert sum(row["label/Pleural Effusion"] for row in rows) > 1
    # 16 bits of a narrow range are scaled to the whole of 8.
    assert prepared.images[:].std() > 30


def test_a_batch(raw, tmp_path):
    prepare(raw, tmp_path / "out")
    module = CXRDataModule(tmp_path / "out", resize=SIZE, crop=SIZE, batch_size=4, num_workers=0, views=1)
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].shape == (4, 1, SIZE, SIZE)
    assert batch["label"].shape == (4, len(LABELS))


def test_the_grade_that_counts_as_present(raw, tmp_path):
    low, high = (prepare(raw, tmp_path / str(grade), present=grade) for grade in (1, 3))
    counts = [sum(prepared.index["label/Pleural Effusion"].to_pylist()) for prepared in (low, high)]
    assert counts[0] > counts[1] > 0
    assert high.manifest["options"]["present"] == 3
    for grade in (0, 4):
        with pytest.raises(UserError, match=f"--present={grade} must be a grade from 1 to 3"):
            TaixRay(raw, grade)


def test_grades():
    texts = {"0": 0, "2.0": 2, "4": 4, "": None, " ": None, "-1": None, "nan": None}
    assert {text: read_grade("a", text, 4) for text in texts} == texts
    for text in ("5", "1.5", "mild", "inf"):
        with pytest.raises(LeftOutError, match=f"unreadable row: a '{text}'"):
            read_grade("a", text, 4)
    assert [label_of(grades, 2) for grades in ([0, 1], [None, 2], [0, None], [1], [])] == [0, 1, None, 0, 0]


def test_damaged_rows(raw, tmp_path, skipped):
    clean = prepare(raw, tmp_path / "clean")
    path = raw / "metadata/annotation.csv"
    rows = read(path)
    first, second, third, *_ = rows
    first.update(dict.fromkeys(GRADES, "0"), PleuralEffusion_Left="-1", HeartSize="3.0")
    second["HeartSize"] = "4"
    third["UID"] = ""
    rows += [{**rows[4]}, {**rows[4], "UID": "f" * 64}, {**rows[4], "UID": "../secret"}]
    write(path, rows)
    split = raw / "metadata/split.csv"
    lines = read(split)
    extra = [{**lines[0], "UID": "../secret"}, {**lines[0], "Fold": "5"}, {**lines[0], "Split": "holdout"}, lines[0]]
    write(split, [*lines, *extra])
    prepared = prepare(raw, tmp_path / "out")
    count, places = len(rows) - 3, len(lines) + 2
    assert dict(skipped(prepared.root)) == {
        "annotation.csv:3": "unreadable row: HeartSize '4'",
        "annotation.csv:4": "unreadable row: UID or PatientID",
        f"annotation.csv:{count + 2}": "duplicate id",
        "f" * 64: "not in the split table",
        "../secret": "escapes root",
        f"split.csv:{places + 1}": "unreadable row: UID, Fold or Split",
        f"split.csv:{places + 2}": "unreadable row: UID, Fold or Split",
        f"split.csv:{places + 3}": "duplicate id",
    }
    row = prepared.index.to_pylist()[0]
    assert row["label/Pleural Effusion Left"] is row["label/Pleural Effusion"] is None
    assert (row["label/Pleural Effusion Right"], row["label/Cardiomegaly"]) == (0, 1)
    assert len(prepared.index) == len(clean.index) - 2
    assert prepared.manifest["counts"]["table"] == len(rows)


def test_the_names_that_the_code_reads(raw, tmp_path):
    expected = prepare(raw, tmp_path / "expected").index.drop_columns(["path"])
    (raw / "metadata/annotation.csv").rename(raw / "metadata/annotations.csv")
    (raw / "data").rename(raw / "data_png_resize_512")
    assert prepare(raw, tmp_path / "out").index.drop_columns(["path"]).equals(expected)
    (raw / "metadata/split.csv").unlink()
    with pytest.raises(NotFoundError, match=r"metadata' holds neither split\.csv nor split\.csv\.gz\. Accept"):
        TaixRay(raw, 1)


def shard(raw, count=3, struct=True):
    """Turn the unpacked data into parquet files, as the hub holds them, in another order than the table's."""
    rows = read(raw / "metadata/annotation.csv")
    fold = {line["UID"]: line["Split"] for line in read(raw / "metadata/split.csv") if line["Fold"] == "0"}
    for row in rows:
        image = (raw / "data" / f"{row['UID']}.png").read_bytes()
        row["Image"] = {"bytes": image, "path": f"{row['UID']}.png"} if struct else image
        row |= {name: int(row[name]) for name in GRADES} | {"Fold": 0, "Split": fold[row["UID"]]}
    (raw / "metadata/split.csv").rename(raw / "split.csv")
    shutil.rmtree(raw / "metadata")
    shutil.rmtree(raw / "data")
    (raw / "data").mkdir()
    paths = [raw / f"data/train-{number:05}-of-{count:05}.parquet" for number in range(count)]
    for number, path in enumerate(paths):
        pq.write_table(pa.Table.from_pylist(rows[number::count]), path, row_group_size=5)
    return paths


@pytest.mark.parametrize("struct", [True, False])
def test_the_parquet_files_of_the_hub(raw, tmp_path, skipped, struct):
    expected = prepare(raw, tmp_path / "expected")
    shard(raw, struct=struct)
    prepared = prepare(raw, tmp_path / "out")
    assert skipped(prepared.root) == []
    assert prepared.manifest["options"] == expected.manifest["options"]
    rows, others = ({row["image_id"]: row for row in each.index.to_pylist()} for each in (prepared, expected))
    assert rows.keys() == others.keys()
    for uid, row in rows.items():
        other = others[uid]
        assert (prepared.images[row.pop("row")] == expected.images[other.pop("row")]).all()
        assert row == other


def test_damaged_parquet_files(raw, tmp_path, skipped):
    first, second, _ = shard(raw)
    table = pq.read_table(first).to_pylist()
    table[0]["Image"] = None
    table[1]["Image"]["bytes"] = b"no picture"
    table[2]["UID"] = None
    pq.write_table(pa.Table.from_pylist(table, pq.read_schema(first)), first)
    reasons = dict(skipped(prepare(raw, tmp_path / "out").root))
    assert reasons.pop(table[1]["UID"]).startswith("unreadable image")
    assert reasons == {f"{first.name}:3": "unreadable row: UID or PatientID", table[0]["UID"]: "missing file"}
    shutil.copyfile(second, raw / "other.parquet")
    with pytest.raises(UserError, match="has parquet files in several folders: leave those of one size there"):
        TaixRay(raw, 1)
    (raw / "other.parquet").unlink()
    archive = TaixRay(raw, 1).archive
    second.write_bytes(second.read_bytes()[:-100])
    with pytest.raises(
        UserError, match=rf"'{second}' cannot be read \(.*Download it again; then the same command goes"
    ):
        list(archive.members())
    pq.write_table(pq.read_table(first).drop_columns(["Image"]), second)
    with pytest.raises(UserError, match=rf"'{second}' has no column Image\."):
        list(archive.members())
    for path in raw.glob("data/*"):
        path.unlink()
    with pytest.raises(NotFoundError, match=r"holds neither metadata/annotation\.csv nor parquet files\. Accept"):
        TaixRay(raw, 1)
