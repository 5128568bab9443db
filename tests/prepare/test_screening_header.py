"""Flags of DICOM headers: codes in all spellings, texts, orientations, kinds of images."""

import numpy as np
import pytest
from pydicom import Dataset

from medvlp.prepare.screening.header import header_flags, orientation, view_of

BASE = {"Modality": "DX", "ViewPosition": "PA", "BodyPartExamined": "CHEST"}


def flags(**elements):
    ds = Dataset()
    for name, value in {**BASE, **elements}.items():
        setattr(ds, name, value)
    return [*header_flags(ds)]


def code(value, meaning, scheme="SCT"):
    item = Dataset()
    item.CodeValue, item.CodeMeaning, item.CodingSchemeDesignator = value, meaning, scheme
    return [item]


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"ViewPosition": "AP"},
        {"ViewPosition": None, "Modality": "CR", "BodyPartExamined": None},
        {"Modality": " dx ", "BodyPartExamined": " chest"},
        {"Modality": "OT"},
        {"BodyPartExamined": "THORAX"},
        {"BodyPartExamined": "Chest_AP"},
        {"BodyPartExamined": "PORT CHEST"},
        {"BodyPartExamined": "TÓRAX"},
        {"BodyPartExamined": "LUNGS"},
        {"BodyPartExamined": "UNKNOWN"},
        {"AnatomicRegionSequence": code("51185008", "Chest")},
        {"AnatomicRegionSequence": code("T-D3000", "Thorax", "SRT")},
        {"ViewCodeSequence": code("272479007", "postero-anterior")},
        {"ViewCodeSequence": code("R-10206", "antero-posterior", "SRT")},
        {"PatientOrientation": ["L", "F"]},
        {"PatientOrientation": ["L"]},
        {"PatientOrientation": ""},
        {"SeriesDescription": "CHEST PA AND LATERAL"},
        {"SeriesDescription": "Chest 2 views PA/LAT"},
        {"StudyDescription": "CHEST LAT"},  # of the study, which has frontal images, too
        {"PresentationIntentType": "FOR PRESENTATION"},
        {"ImageType": ["ORIGINAL", "PRIMARY"]},
        {"ImageType": ["DERIVED", "PRIMARY"]},  # every processed radiograph
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": None},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "Modality": ""},
    ],
)
def test_frontal_radiographs_have_no_flags(elements):
    assert flags(**elements) == []


@pytest.mark.parametrize(
    ("flag", "elements"),
    [
        ("lateral", {"ViewPosition": "LL"}),
        ("lateral", {"ViewPosition": "RL"}),
        ("lateral", {"ViewPosition": " ll "}),
        ("lateral", {"ViewPosition": "LATERAL"}),
        ("lateral", {"ViewPosition": "Lat"}),
        ("lateral", {"ViewPosition": "LLAT"}),
        ("lateral", {"ViewPosition": None, "ViewCodeSequence": code("399067008", "")}),
        ("lateral", {"ViewPosition": None, "ViewCodeSequence": code("399173006", "x")}),
        ("lateral", {"ViewPosition": None, "ViewCodeSequence": code("R-10236", "x", "SRT")}),
        ("lateral", {"ViewPosition": None, "ViewCodeSequence": code("r-10232", "x", "SNM3")}),
        ("lateral", {"ViewPosition": None, "ViewCodeSequence": code("99", "Left lateral", "99LOCAL")}),
        ("lateral", {"PatientOrientation": ["A", "F"]}),
        ("lateral", {"PatientOrientation": ["p", "f"]}),
        ("lateral", {"PatientOrientation": ["PL", "F"]}),
        ("lateral", {"SeriesDescription": "CHEST LAT"}),
        ("lateral", {"SeriesDescription": "thorax_lat."}),
        ("lateral", {"SeriesDescription": "ChestLat"}),
        ("lateral", {"SeriesDescription": "W034 Chest Lateral"}),
        ("lateral", {"ProtocolName": "CHESTLAT"}),
        ("lateral", {"ProtocolName": "Thorax seitlich"}),
        ("lateral", {"AcquisitionDeviceProcessingDescription": "CHEST,LATERAL"}),
        ("turned", {"ViewPosition": "LLD"}),
        ("turned", {"SeriesDescription": "LEFT LATERAL DECUBITUS"}),
        ("turned", {"PatientOrientation": ["F", "R"]}),
        ("turned", {"PatientOrientation": ["H", "L"]}),
        ("upside-down", {"PatientOrientation": ["R", "H"]}),
        ("mirrored", {"PatientOrientation": ["R", "F"]}),
        ("oblique", {"ViewPosition": "RAO"}),
        ("oblique", {"ViewCodeSequence": code("399135007", "left anterior oblique"), "ViewPosition": None}),
        ("oblique", {"SeriesDescription": "CHEST OBL"}),
        ("other-modality", {"Modality": "CT"}),
        ("other-modality", {"Modality": " mr"}),
        ("other-modality", {"Modality": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}),
        ("other-body-part", {"BodyPartExamined": "HAND"}),
        ("other-body-part", {"BodyPartExamined": " abdomen "}),
        ("other-body-part", {"BodyPartExamined": "THORACIC SPINE"}),
        ("other-body-part", {"BodyPartExamined": None, "AnatomicRegionSequence": code("72696002", "Knee")}),
        ("for-processing", {"PresentationIntentType": "FOR PROCESSING"}),
        ("for-processing", {"PresentationIntentType": "for_processing "}),
        ("for-processing", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}),
        ("localiser", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        ("derived", {"ImageType": ["DERIVED", "SECONDARY"]}),
    ],
)
def test_one_flag(flag, elements):
    assert flags(**elements) == [flag]


def test_several_fields_that_agree_raise_one_flag():
    assert flags(ViewPosition="LL", PatientOrientation=["A", "F"], SeriesDescription="LAT") == ["lateral"]


@pytest.mark.parametrize("text", ["BILATERAL", "LATERALITY L", "Chest a.p./lat.", "p.a. u. lat.", "PALAT", "", "1234"])
def test_texts_that_name_no_lateral_view(text):
    assert [*view_of(text)] == []


def test_orientations_of_all_turns_and_mirrors():
    axes = {"L": (1, 0), "R": (-1, 0), "F": (0, 1), "H": (0, -1)}
    for row, (x1, y1) in axes.items():
        for column, (x2, y2) in axes.items():
            if x1 * x2 + y1 * y2 == 0:
                found = {*orientation([row, column])}
                assert ("mirrored" in found) == (np.linalg.det([[x1, y1], [x2, y2]]) < 0)
                assert ("turned" in found) == (x1 == 0)
                assert ("upside-down" in found) == (column == "H")


def test_a_damaged_element_costs_its_flag_alone():
    class Damaged(Dataset):
        def get(self, key, default=None):
            if key == "Modality":
                raise ValueError
            return super().get(key, default)

    ds = Damaged()
    ds.ViewPosition = "LL"
    assert [*header_flags(ds)] == ["lateral"]
