"""Tables as hospitals abroad export them: names in two scripts, words of doubt, dates, rounded numbers, addenda."""

import json
import unicodedata

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from medvlp.errors import LeftOutError, UserError
from medvlp.prepare.annotations import Box
from medvlp.prepare.annotations.boxes import Boxes, boxes_text
from medvlp.prepare.own import names
from medvlp.prepare.own.columns import Wanted
from medvlp.prepare.own.data import OwnData
from medvlp.prepare.own.dates import day, month_first, order_of
from medvlp.prepare.own.drawn import Drawn
from medvlp.prepare.own.gather import Sources, gather
from medvlp.prepare.own.image_files import ImageFiles
from medvlp.prepare.own.overview import overview
from medvlp.prepare.own.texts import read_texts
from tests.support.strangers import dicom, picture, write_csv

REPORT = "FINDINGS: The heart is normal in size. IMPRESSION: No effusion."


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("abroad") / "images"
    folder.mkdir()
    for name in "abcd":
        Image.fromarray(picture(ord(name))).save(folder / f"{name}.png")
    return folder


def of(path, images, labels="", **columns):
    data = OwnData(gather(Sources(images, path, wanted=Wanted(columns, labels))), None, None)
    return data, "\n".join(overview(data, ["AP", "FRONTAL", "PA"], ["medvlp"]))


def listed(data):
    skips = []
    return [*data.studies(lambda *skip: skips.append(skip))], skips


def test_a_chinese_workbook(images, tmp_path):
    """A sheet that explains the others stands first, a title above the names; headers are Chinese, or both."""
    book = openpyxl.Workbook()
    book.active.append(["联系人", "张医生"])
    sheet = book.create_sheet("数据")
    sheet.append(["胸片 2021"])
    sheet.merge_cells("A1:J1")
    names = "病人编号|图像文件名|体位|影像所见 Findings|诊断意见|性别|吸烟|气胸|肺炎 Pneumonia|分组"
    sheet.append(names.split("|"))
    for i, name in enumerate("abcd"):
        texts = ["The heart is normal.", "No effusion.", "男", "是"]
        labels = ["有", "无", "可疑", None][i], ["阳性", "阴性"][i % 2]
        split = ["training", "training", "val", "external"][i]
        sheet.append([float(i // 2), name, ["正位", "侧位"][i % 2], *texts, *labels, split])
    book.save(tmp_path / "t.xlsx")
    data, text = of(tmp_path / "t.xlsx", images)
    understood = data.gathered.survey.understood
    assert understood.columns == {
        "patient": "病人编号",
        "image": "图像文件名",
        "view": "体位",
        "findings": "影像所见 Findings",
        "impression": "诊断意见",
        "split": "分组",
    }
    assert "the sheet '数据' is read; not read: Sheet." in text
    assert data.labels == ["Pneumothorax", "Pneumonia"]
    studies, skips = listed(data)
    assert not skips
    assert [study.labels for study in studies] == [[1, 1], [0, 0], [-1, 1], [None, 0]]
    assert [study.split for study in studies] == ["train", "train", "validate", "test"]
    assert [study.subject_id for study in studies] == ["0", "0", "1", "1"]
    assert [study.pictures[0].view for study in studies] == ["FRONTAL", "LATERAL"] * 2


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("患者 ID", "patient"),
        ("رقم المريض Patient", "patient"),
        ("التقرير (Report)", "report"),
        ("Findings\uff0f所见", "findings"),
        ("图像 Image Name", "image"),
        ("检查号 Exam No", "accession"),
        ("患者 age", None),
        ("Study \u2013 outcome", None),
        ("检查日期 Patient", None),
        ("性别 Sex", None),
    ],
)
def test_names_in_two_scripts(name, meaning):
    found = [m for m in names.MEANINGS if names.has_meaning(name, m)]
    assert found == ([meaning] if meaning else [])


@pytest.mark.parametrize(
    ("name", "label"),
    [("气胸 Pneumothorax", "Pneumothorax"), ("胸腔积液", "Pleural Effusion"), ("肺炎 Edema", "肺炎 Edema")],
)
def test_labels_in_two_scripts(name, label):
    assert names.spelling(name) == label


@pytest.mark.parametrize("name", ["Country", "Pays", "Genre", "是否吸烟", "患者性别", "العمر"])
def test_names_that_are_no_labels(name):
    assert names.is_no_label(name)


def test_no_is_a_country_and_doubt_is_uncertain(images, tmp_path):
    """In a French export oui, non and doute are values of labels; NO is Norway, and F a woman."""
    table = [
        {"Nom image": name, "Pays": "NO", "Genre": "F", "Cardiomégalie": value, "Compte rendu": REPORT}
        for name, value in zip("abcd", ("oui", "non", "doute", ""), strict=True)
    ]
    for row in table:
        row["Épanchement pleural"] = "douteux"
    path = tmp_path / "t.csv"
    write_csv(path, table, ";", "cp1252")
    data, _ = of(path, images)
    assert data.labels == ["Cardiomegaly", "Pleural Effusion"]
    assert [study.labels for study in listed(data)[0]] == [[1, -1], [0, -1], [-1, -1], [None, -1]]


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("3/2/21", "20210203"),
        ("03.02.99", "19990203"),
        ("21-02-03", ""),
        ("3-Feb-2021", "20210203"),
        ("03 février 2021", "20210203"),
        ("3. März 2021", "20210303"),
        ("Feb 3, 2021", "20210203"),
        ("Foo 3, 2021", ""),
        ("2021年2月3日", "20210203"),
        ("20210203101500", "20210203"),
        ("202102031015", "20210203"),
        ("2021123456", ""),
        ("31/13/2021", ""),
    ],
)
def test_dates(date, expected):
    assert day(date, False) == expected


def test_order_within_a_day_and_years_of_two_digits():
    assert order_of("20210203101500", None) == order_of("2021-02-03 10:15", None) == 20210203101500
    assert month_first(["02/13/21"]) is True
    assert month_first(["13/02/21"]) is False


def test_dates_that_cannot_be_read_are_told(images, tmp_path):
    table = [{"image": name, "date": "02/03/2021", "patient": "p", "report": REPORT} for name in "abcd"]
    _, text = of(write_csv(tmp_path / "t.csv", table), images)
    assert "Dates: 0 can be read, 4 cannot: 02/03/2021 4." in text
    assert "write dates as 2020-01-31" in text
    table[0]["date"] = "25/03/2021"
    for row, odd in zip(table[1:], ("in spring", "soon", "last week"), strict=True):
        row["date"] = odd
    _, text = of(write_csv(tmp_path / "t.csv", table), images)
    assert "Dates: 1 can be read, 3 cannot: in spring 1, soon 1, last week 1." in text


@pytest.mark.parametrize(("column", "value"), [("patient", "1,23457E+11"), ("study", "2.5e+10")])
def test_rounded_ids_are_refused(column, value, images, tmp_path):
    table = [{"image": name, column: value, "report": REPORT} for name in "abcd"]
    path = write_csv(tmp_path / "t.csv", table)
    with pytest.raises(UserError, match=f"'{column}', the {column}, has ids that a spreadsheet has rounded"):
        of(path, images)
    assert len(listed(of(path, images, **{column: "none"})[0])[0]) == 4


def test_a_patient_is_one_with_and_without_a_point(images, tmp_path):
    table = [
        {"image": n, "patient": p, "report": REPORT} for n, p in zip("abcd", ("7", "7.0", "1.2.0", "07"), strict=True)
    ]
    studies, _ = listed(of(write_csv(tmp_path / "t.csv", table), images)[0])
    assert [study.subject_id for study in studies] == ["7", "7", "1.2.0", "07"]


@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_accents_of_file_names(written, tmp_path):
    other = {"NFC": "NFD", "NFD": "NFC"}[written]
    (tmp_path / unicodedata.normalize(written, "année")).mkdir()
    path = unicodedata.normalize(written, "année/cliché.png")
    (tmp_path / path).write_bytes(b"x")
    for name in ("année/cliché.png", "cliché", "CLICHÉ.PNG", "année/cliché"):
        assert ImageFiles.below(tmp_path).find(unicodedata.normalize(other, name)).path == path


def test_an_addendum_is_no_duplicate(tmp_path):
    for number in range(3):
        dicom(tmp_path / "pacs" / f"i{number}", number, AccessionNumber=f"{number}", StudyInstanceUID=f"1.2.{number}")
    table = [{"ACC": f"{i}", "REPORT": REPORT} for i in (0, 0, 1, 1, 2)]
    table[3]["REPORT"] = "ADDENDUM: a nodule after all."
    data, _ = of(write_csv(tmp_path / "ris.csv", table), tmp_path / "pacs")
    studies, skips = listed(data)
    assert len(studies) == 3
    assert skips == [
        ("ris.csv:3", "duplicate id"),
        ("ris.csv:5", "unreadable row: another row of its accession number came before"),
    ]


def test_a_report_with_chinese_headers():
    report = read_texts({"report": "影像所见\uff1aThe heart is enlarged.\n印象\uff1aCardiomegaly."})
    assert (report.findings, report.impression) == ("The heart is enlarged.", "Cardiomegaly.")


@pytest.mark.parametrize(
    ("box", "side", "is_beyond"),
    [
        ((-30, 4, 20, 20), None, True),
        ((-0.5, 4, 20, 20), None, False),
        ((4, 4, 60, 20), None, True),
        ((10, 10, 1500, 90), 1024, True),
        ((10, 10, 1024, 90), 1024, False),
        ((-0.4, 0.1, 0.5, 0.5), 1, True),
        ((0.1, 0.1, 1.004, 0.5), 1, False),
    ],
)
def test_boxes_beyond_the_image(box, side, is_beyond):
    text = json.dumps({"boxes": json.loads(boxes_text([Box("Mass", *box)])), "mask": ""})
    drawn = Drawn(None, Boxes(masks=False, side=side), "mask")
    if is_beyond:
        with pytest.raises(LeftOutError, match="box beyond the image"):
            drawn.read(text, 48, 48)
    else:
        assert len(drawn.read(text, 48, 48).boxes) == 1


def test_tables_of_a_million_characters_and_of_nothing(images, tmp_path):
    """A cell beyond all measure costs its row; rows of empty cells and NUL characters cost nothing."""
    path = tmp_path / "t.csv"
    rows = ["Export RIS;;", "image;report;Edema", f"a;{'x' * 10**6};1", ";;", "b;clear lungs here;0", "c;cl\0ear;NaN"]
    path.write_text("\ufeff" + "\n".join(rows))
    data, text = of(path, images)
    studies, skips = listed(data)
    assert [(study.pictures[0].path, study.labels) for study in studies] == [("b.png", [0]), ("c.png", [None])]
    assert skips == [("t.csv:3", "unreadable row: field larger than field limit (131072)")]
    assert "1 NUL characters are left out" in text


def test_a_text_in_the_column_of_images_stays_short_in_the_error(images, tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps({"image": "no\nfile " * 10**5, "report": REPORT}))
    with pytest.raises(UserError, match="names no image below") as error:
        of(tmp_path / "t.jsonl", images)
    assert len(str(error.value)) < 1000
    assert "\n" not in str(error.value)


def test_parquet_with_one_name_twice(images, tmp_path):
    column = pa.array(["a", "b"])
    pq.write_table(pa.table([column, column], names=["image", "image"]), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"^'.*t.parquet' has the column 'image' more than once"):
        of(tmp_path / "t.parquet", images)
