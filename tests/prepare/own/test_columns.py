"""What columns mean: names in several languages, values that decide, options, and what is never taken silently."""

import json

import pytest
from PIL import Image

from medvlp.errors import NotFoundError, UserError
from medvlp.prepare.own.columns import Wanted
from medvlp.prepare.own.data import OwnData
from medvlp.prepare.own.gather import Sources, gather
from medvlp.prepare.own.overview import overview
from medvlp.prepare.views import ByScreening
from medvlp.prepare.words import key, words
from tests.support.strangers import picture, write_csv, write_xlsx

VIEWS = ["AP", "FRONTAL", "PA"]
REPORT = "FINDINGS: The heart is normal in size. IMPRESSION: No effusion."


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "images"
    for name in ("a.png", "b.png", "c.PNG", "deep/d.png", "deep/e.jpg", "other/e.jpg", "1.png", "2.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(len(name))).save(folder / name, "PNG")
    return folder


def rows(count=4, **columns):
    """Return rows with the images a, b, c and d, and the values of columns, each in turn."""
    names = ["a.png", "b.png", "c.png", "d.png"]
    return [
        {"file": names[i % 4], **{name: values[i % len(values)] for name, values in columns.items()}}
        for i in range(count)
    ]


@pytest.fixture
def read(images, tmp_path):
    """Return the images of a table of rows, and the lines of the overview."""

    def read(table_rows, form="csv", **options):
        path = tmp_path / f"table.{form}"
        if form == "xlsx":
            write_xlsx(path, table_rows)
        elif form == "json":
            path.write_text(json.dumps(table_rows))
        else:
            write_csv(path, table_rows)
        return of(path, images, **options)

    return read


def of(path, images, labels="", box_label="", box_format="", coco=None, masks=None, **columns):
    data = OwnData(
        gather(Sources(images, path, coco, masks, Wanted(columns, labels, box_label, box_format))), None, None
    )
    return data, "\n".join(overview(data, VIEWS, ["medvlp"]))


def understood(data):
    return data.gathered.survey.understood


def studies(data):
    skips = []
    return [*data.studies(lambda *skip: skips.append(skip))], skips


@pytest.mark.parametrize("language", range(7))
def test_every_meaning_has_names_in_every_language(language, read):
    """The n-th name of each meaning, as another hospital would write it."""
    names = {meaning: listed.split(", ") for meaning, listed in words()["columns"].items()}
    picked = {meaning: names[meaning][(language * 7 + 1) % len(names[meaning])] for meaning in names}
    columns = {
        picked["findings"].upper(): ["The heart is normal."],
        picked["impression"].title(): ["No effusion here."],
        f" {picked['patient']} ": ["p1", "p2"],
        picked["view"].replace(" ", "_"): ["PA", "AP"],
        picked["split"].replace(" ", ""): ["train", "val"],
    }
    if len({key(name) for name in columns}) == len(columns):
        data, _ = read(rows(**columns))
        found = understood(data).columns
        assert {key(found[m]) for m in ("findings", "impression", "patient", "view", "split")} == {*map(key, columns)}


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("path_to_image", "image"),
        ("dicom_id", "image"),
        ("ImageID", "image"),
        ("SOPInstanceUID", "image"),
        ("filename", "image"),
        ("Image Index", "image"),
    ],
)
def test_names_of_public_data_sets(name, meaning, read):
    table = [{name: row["file"], "report": REPORT} for row in rows()]
    assert understood(read(table)[0]).columns[meaning] == name


def test_images_are_found_by_their_values(read):
    data, text = read([{"foto": row["file"], "report": REPORT} for row in rows()])
    assert understood(data).columns["image"] == "foto"
    assert understood(data).how["image"] == "by its values"
    assert "4 of 4 names were found" in text


@pytest.mark.parametrize(
    "name", ["A", "a", "a.png", "./a.png", " a.png ", "/mnt/x/images/a.png", "C:\\x\\a.png", "A.PNG", "a.dcm"]
)
def test_ways_to_name_an_image(name, read):
    data, _ = read([{"image": name, "report": REPORT}])
    (study,), skips = studies(data)
    assert study.pictures[0].path == "a.png"
    assert not skips


def test_names_that_are_ambiguous_or_missing(read):
    data, text = read([{"image": name, "report": REPORT} for name in ("e.jpg", "deep/e.jpg", "zz.png", "a", "")])
    found, skips = studies(data)
    assert [study.pictures[0].path for study in found] == ["deep/e.jpg", "a.png"]
    assert skips == [
        ("e.jpg", "ambiguous name: several files have its name, such as deep/e.jpg and other/e.jpg"),
        ("zz.png", "missing file"),
        ("table.csv:6", "unreadable row: no image"),
    ]
    assert "1 is missing: zz.png" in text
    assert data.rows == 5


def test_folders_that_tell_images_apart_are_never_mixed_up(read):
    """The image of another patient has the same name: it is not the missing one."""
    names = ("p1/d.png", "deep/d.png", "p2/a.png", "p3/a.png")
    data, _ = read([{"image": name, "report": REPORT} for name in names])
    found, skips = studies(data)
    assert [study.pictures[0].path for study in found] == ["deep/d.png"]
    assert {reason for _, reason in skips} == {"missing file"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["0", "1", "-1", ""], [0, 1, -1, None]),
        (["0.0", "1.0", "-1.0", "nan"], [0, 1, -1, None]),
        (["yes", "No", "uncertain", "N/A"], [1, 0, -1, None]),
        (["ja", "nein", "unklar", ""], [1, 0, -1, None]),
        (["oui", "NON", "incertain", ""], [1, 0, -1, None]),
        (["sí", "no", "dudoso", ""], [1, 0, -1, None]),
        (["True", "FALSE", "", ""], [1, 0, None, None]),
        (["positive", "negative", "possible", ""], [1, 0, -1, None]),
        (["present", "absent", "", ""], [1, 0, None, None]),
        (["1,0", "0,0", "-1,0", "-0"], [1, 0, -1, 0]),
    ],
)
def test_values_of_labels(values, expected, read):
    data, _ = read(rows(Erguss=values))
    assert data.labels == ["Pleural Effusion"]
    assert [study.labels[0] for study in studies(data)[0]] == expected


@pytest.mark.parametrize(
    "name",
    ["sex", "Gender", "age>60", "Raucher", "is_train", "Patient Age", "num_views", "embarazada", "PatientID_flag"],
)
def test_what_looks_like_labels_and_is_none(name, read):
    data, text = read(rows(**{name: ["0", "1"], "Edema": ["1", "0"]}))
    assert data.labels == ["Edema"]
    assert f"{name}: its values look like labels, its name does not; --labels takes it" in text
    assert read(rows(**{name: ["0", "1"]}), labels=name)[0].labels == [name]


def test_columns_with_other_words_are_left_out_and_shown(read):
    data, text = read(rows(Edema=["0", "1", "vielleicht", "0"], grade=["1", "2", "3", "0"], Mass=["0.2", "0.9"]))
    assert data.labels == []
    assert "Edema: 'vielleicht' beside label values; --labels takes it, without the rows that hold them" in text
    assert "grade: '2', '3' beside label values" in text
    assert "Mass: its values, such as '0.2', are no labels" in text


def test_a_named_column_with_other_words_skips_their_rows(read):
    data, _ = read(rows(Edema=["0", "1", "vielleicht", "0"]), labels="edema")
    found, skips = studies(data)
    assert [study.labels for study in found] == [[0], [1], [0]]
    assert skips == [("table.csv:4", "unreadable row: label Edema is 'vielleicht'")]
    assert data.rows == 4
    for values in (["2", "3", "2", "0"], ["2", "3"]):
        with pytest.raises(
            UserError, match=r"--labels names 'grade', whose values '2', '3' are no labels: a label is 1, 0, -1"
        ):
            read(rows(grade=values), labels="grade")
    with pytest.raises(UserError, match=r"--labels names 'note', whose values"):
        read(rows(note=["The lungs are clear. " * 9, "No effusion."]), labels="note")


@pytest.mark.parametrize(
    "values",
    [
        ["Edema|Effusion", "No Finding", "", "edema"],
        ["['Edema', 'Effusion']", "['normal']", "", "['Edema']"],
        ["Edema; Effusion", "ohne Befund", "", "Edema"],
        ['["Edema", "Pleuraerguss"]', "[]", "", '["Edema"]'],
    ],
)
def test_a_column_of_lists(values, read):
    data, _ = read(rows(**{"Finding Labels": values}))
    names = data.labels
    values_of = [dict(zip(names, study.labels, strict=True)) for study in studies(data)[0]]
    assert [v["Edema"] for v in values_of] == [1, 0, None, 1]
    assert [v["Pleural Effusion"] for v in values_of] == [1, 0, None, 0]


def test_a_name_with_commas(read):
    data, _ = read(rows(**{"Mass, or nodule": ["1", "0"], "age": ["1", "0"]}), labels="Mass, or nodule")
    assert data.labels == ["Mass, or nodule"]


def test_a_row_for_each_label_of_an_image(read):
    data, _ = read(rows(6, labels=["Edema", "Mass", "Edema", "normal", "Mass", "Mass"]))
    found, skips = studies(data)
    assert [dict(zip(data.labels, study.labels, strict=True)) for study in found] == [
        {"Edema": 1, "Mass": 1, "No Finding": 0},
        {"Edema": 0, "Mass": 1, "No Finding": 0},
        {"Edema": 1, "Mass": 0, "No Finding": 0},
        {"Edema": 0, "Mass": 0, "No Finding": 1},
    ]
    assert skips == [("table.csv:7", "duplicate id")]
    assert data.rows == 5


def test_several_columns_for_one_meaning(read):
    with pytest.raises(UserError) as error:
        read(rows(PatientID=["1", "2"], subject=["9", "9"], report=[REPORT], text=["Another text here."]))
    message = str(error.value)
    assert "several columns may be the patient: 'PatientID' (such as '1', '2'); 'subject' (such as '9')" in message
    assert "--patient 'PatientID', or --patient none" in message
    assert "several columns may be the report: 'report'" in message
    data, _ = read(rows(PatientID=["1", "2"], subject=["9", "9"], text=[REPORT], report=["No."]), patient="subject")
    assert understood(data).columns["patient"] == "subject"
    assert understood(data).columns["report"] == "text"


def test_values_decide_between_columns(read):
    """Two ids that go together, a column of files beside one of other names, a fuller column of views."""
    table = rows(
        image_id=["x1", "x2", "x3", "x4"],
        patient=["1", "2"],
        subject_id=["s1", "s2"],
        frontal_lateral=["Frontal", "Lateral"],
        view=["PA", ""],
    )
    data, text = read(table)
    assert understood(data).columns == {"image": "file", "view": "frontal_lateral", "patient": "patient"}
    assert "image_id: its values, such as 'x1', are no files in --images" in text
    assert "subject_id: 'patient' is the patient already; --patient 'subject_id' takes this one" in text
    assert "Left out: LATERAL 2. --views AP,FRONTAL,LATERAL,PA keeps them." in text


def test_the_finer_column_of_views(read):
    data, text = read(rows(**{"Frontal/Lateral": ["Frontal"], "AP/PA": ["AP", "PA"]}))
    assert understood(data).columns["view"] == "AP/PA"
    assert "Frontal/Lateral: 'AP/PA' is the view already, and says more" in text


def test_rows_that_contradict_each_other(read):
    data, _ = read(rows(6, Edema=["0", "1", "0", "1", "0", "0"]))
    found, skips = studies(data)
    assert [study.labels for study in found] == [[0], [1], [0], [1]]
    assert skips == [
        ("table.csv:6", "duplicate id"),
        ("table.csv:7", "unreadable row: contradicts an earlier row of its image"),
    ]


def test_an_unknown_column_gets_a_suggestion(read):
    with pytest.raises(
        UserError, match=r"no column 'reprot'; its columns are file, report\. .*Did you mean 'report'\?"
    ):
        read(rows(report=[REPORT]), report="reprot")


def test_splits(read):
    data, text = read(rows(8, patient=["1", "1", "2", "3"], split=["Training", "valid", "TEST", ""]))
    assert [study.split for study in studies(data)[0]] == ["train", "validate", "test", ""]
    assert "LEAK: 1 patient has images in several splits: 1." in text
    assert "train 1, validate 1, test 1, in no split 1; by the column split" in text
    data, text = read(rows(split=["0", "1", "2", "0"]))
    assert "split: its values '0', '1', '2' are no splits; write train, validate (or val) and test" in text
    assert "by sha256 of the patient, or its study or image" in text
    data, text = read(rows(official_split=["train_val", "train_val", "train_val", "test"]))
    assert "official_split: its values 'train_val' are no splits; write train," in text
    with pytest.raises(
        UserError, match=r"--split names 'official_split', whose values 'train_val' are no splits: write"
    ):
        read(rows(official_split=["train_val", "train_val", "train_val", "test"]), split="official_split")
    data, _ = read(rows(split=["train", "holdout set", "val", "test"]))
    assert studies(data)[1] == [("table.csv:3", "unreadable row: split 'holdout set'")]


def test_views(read):
    data, text = read(rows(view=["postero-anterior", "LL", "unknown", "swimmer's"]))
    pictures = [study.pictures[0].view for study in studies(data)[0]]
    assert pictures == ["PA", "LATERAL", None, "SWIMMER'S"]
    assert "No known views: swimmer's 1" in text
    assert "1 image has no view: the screening tells whether" in text
    assert "No known views: swimmer's 1." in text
    assert data.view_teller == ByScreening()
    assert read(rows(view=["PA", "LL"]))[0].view_teller is None


def test_names_that_a_program_has_taken_for_numbers(read):
    """Files are found; a patient 7 is one, however JSON writes the number, and 007 another."""
    table = [{"image": 1.0, "patient": 7}, {"image": "2.0", "patient": 7.0}, {"image": "a", "patient": "007"}]
    data, _ = read(table, "json")
    assert [(s.pictures[0].path, s.subject_id) for s in studies(data)[0]] == [
        ("1.png", "7"),
        ("2.png", "7"),
        ("a.png", "007"),
    ]


def test_a_study_without_a_name_is_called_like_its_file(read):
    """And not like a path that another machine writes otherwise: the split follows from it."""
    data, _ = read([{"image": "C:\\scans\\deep\\d.png"}, {"image": "/mnt/b.png"}])
    assert [(s.study_id, s.subject_id) for s in studies(data)[0]] == [("deep/d.png",) * 2, ("b.png",) * 2]


def test_the_order_of_studies(read):
    dates = ["2020-01-31 09:30", "20210203", "3.2.2022", "31/12/2019"]
    data, _ = read(rows(patient=["p"], date=dates))
    assert [study.order for study in studies(data)[0]] == [
        20200131093000,
        20210203000000,
        20220203000000,
        20191231000000,
    ]
    assert [s.order for s in studies(read(rows(patient=["p"], date=["02/03/2020", "01/31/2020"]))[0])[0]][:2] == [
        20200203000000,
        20200131000000,
    ]
    ranks, _ = read(rows(patient=["p"], patient_report_date_order=["1", "2"]))
    assert [study.order for study in studies(ranks)[0]] == [1, 2]  # two studies of two images
    unclear, _ = read(rows(patient=["p"], date=["02/03/2020"]))
    assert {study.order for study in studies(unclear)[0]} == {None}


def test_reports_of_a_study_are_shared_and_contradictions_left_out(read):
    table = rows(
        study=["s", "s", "s", "t"], report=["", REPORT, "Another report.", "No header at all, the lungs are clear."]
    )
    data, _ = read(table)
    (first, second), skips = studies(data)
    assert [picture.image_id for picture in first.pictures] == ["a.png", "b.png"]
    assert first.report().impression == "No effusion."
    assert second.report().findings == "No header at all, the lungs are clear."
    assert skips == [("c.png", "another report than an earlier image of its study")]


@pytest.mark.parametrize("form", ["csv", "xlsx", "json"])
def test_formats_say_the_same(form, read):
    data, _ = read(rows(Patient=["007", "8"], Edema=[1, 0], report=[REPORT]), form)
    assert [(s.subject_id, s.labels) for s in studies(data)[0]] == [("007", [1]), ("8", [0])] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no column|has no rows; its columns are none: the file is empty"),
        ("image,report\n", "has no rows; its columns are image, report"),
        ("a.png,Some report\nb.png,Other\n", r"has no header line: its first line holds 'a\.png'"),
        ("a\nb\nc\n", "has no header line: its first line holds 'a'"),
        ("name:report\nfoo:bar\n", "Is it separated by a comma, a semicolon, a tab or a bar"),
        (
            "image,report\nx.png,a\ny.png,b\n",
            r"names no image below .*'x\.png' and 'y\.png', and the folder has '.*' and '",
        ),
        ("image,report\n1\n2\n", "no row can be read, the first at table.csv:2"),
        ("patient,age\np1,50\n", "has no column that names images: its columns are 'patient'"),
        ("image,image\na.png,b.png\n", "has the column 'image' 2 times"),
    ],
)
def test_tables_that_cannot_be_understood(text, message, images, tmp_path):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        of(tmp_path / "table.csv", images)
    assert "\n" not in str(error.value)


def test_missing_folders_and_tables(images, tmp_path):
    with pytest.raises(NotFoundError, match=r"--images='.*nowhere' is not there"):
        gather(Sources(tmp_path / "nowhere"))
    with pytest.raises(NotFoundError, match=r"--table='.*nowhere' is not there"):
        gather(Sources(images, tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="holds no images"):
        gather(Sources(tmp_path / "empty"))
    with pytest.raises(NotFoundError, match="holds no table"):
        gather(Sources(images, tmp_path / "empty"))


def test_duplicates_and_unreadable_rows_are_counted(read, tmp_path, images):
    path = write_csv(tmp_path / "t.csv", rows(5, Edema=["1"]))
    path.write_text(path.read_text() + "single\n")
    data, _ = of(path, images)
    found, skips = studies(data)
    assert skips == [("t.csv:6", "duplicate id"), ("t.csv:7", "unreadable row: 1 fields, not 2")]
    assert data.rows == 6 == len(found) + len(skips)
