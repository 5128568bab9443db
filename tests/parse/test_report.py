import re

import pytest

from medvlp.parse import FINDINGS, REGIONS, parse_report

LUNGS = ("right lung", "left lung")
ANGLES = ("right costophrenic angle", "left costophrenic angle")
APICES = ("right apical zone", "left apical zone")
BASES = ("right lower lung zone", "left lower lung zone")


def says(text, section="findings"):
    return {(t.finding, t.existence) for t in parse_report({section: text})}


def find(text, finding):
    (triplet,) = [t for t in parse_report({"findings": text}) if t.finding == finding]
    return triplet


def read(expected):
    """`+a -b ?c` is a present, b absent, c uncertain."""
    kinds = {"+": "present", "-": "absent", "?": "uncertain"}
    return {(name.strip(), kinds[sign]) for sign, name in re.findall(r"([-+?])([^-+?]+)", expected)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Lists of what is denied.
        ("No effusion or pneumothorax.", "-pleural effusion -pneumothorax"),
        ("Without focal consolidation, effusion, or edema.", "-consolidation -pleural effusion -edema"),
        ("Clear of infiltrate and nodules.", "-infiltration -nodule"),
        # Resolved, removed, no longer there.
        ("The effusion has resolved.", "-pleural effusion"),
        ("Previously seen nodule no longer visible.", "-nodule"),
        ("Interval removal of the chest tube.", "-chest tube"),
        # Doubt.
        ("Cannot exclude pneumonia.", "?pneumonia"),
        ("Opacity which may represent atelectasis.", "+opacity ?atelectasis"),
        ("Atelectasis versus scarring.", "+atelectasis +scarring"),
        ("Opacity may represent atelectasis versus scarring.", "+opacity ?atelectasis ?scarring"),
        ("? pneumonia", "?pneumonia"),
        ("Effusion. ? Pneumonia", "+pleural effusion ?pneumonia"),
        ("Effusion? Pneumonia is seen.", "?pleural effusion +pneumonia"),
        # What has been there before is there.
        ("Stable cardiomegaly.", "+cardiomegaly"),
        ("Status post sternotomy.", "+sternotomy wires"),
        # What is said of organs.
        ("Heart size is normal.", "-cardiomegaly"),
        ("The heart is mildly enlarged.", "+cardiomegaly"),
        ("The heart is not enlarged.", "-cardiomegaly"),
        ("Heart is borderline enlarged.", "+cardiomegaly"),
        ("The heart is at the upper limits of normal.", "-cardiomegaly"),
        ("Enlargement of the cardiac silhouette.", "+cardiomegaly"),
        ("The heart may be enlarged.", "?cardiomegaly"),
        ("Heart size and mediastinal contours are normal.", "-cardiomegaly -enlarged cardiomediastinum"),
        ("Heart, mediastinum and hila are normal.", "-cardiomegaly -enlarged cardiomediastinum -hilar enlargement"),
        ("Normal heart size and pulmonary vasculature.", "-cardiomegaly -engorgement"),
        ("Heart size normal, lungs clear.", "-cardiomegaly -consolidation -opacity"),
        ("Normal heart size and clear lungs.", "-cardiomegaly -consolidation -opacity"),
        ("Lungs hyperexpanded but clear.", "+hyperinflation -consolidation -opacity"),
        ("Clear, well-expanded lungs.", "-consolidation -opacity +aeration"),
        ("Mediastinum is normal without large effusion.", "-enlarged cardiomediastinum -pleural effusion"),
        ("The lungs are free of consolidation.", "-consolidation"),
        ("The lungs are not clear.", "?consolidation ?opacity"),
        ("Right upper lobe is clear.", "-consolidation -opacity"),
        ("Enlargement of the heart is due to low lung volumes.", "+cardiomegaly +low lung volumes"),
        ("Inspiratory volumes are low.", "+low lung volumes"),
        ("Apart from atelectasis at the left base the lungs are clear.", "+atelectasis -consolidation -opacity"),
        ("Costophrenic angles are sharp.", "-pleural effusion -blunting"),
        ("Blunting of the costophrenic angle.", "+blunting"),
        ("Elevation of the right hemidiaphragm.", "+elevated hemidiaphragm"),
        ("The trachea is midline.", "-shift"),
        ("Bony structures are intact.", "-fracture"),
        # What is said there may be anything; what is denied is denied.
        ("No acute bony abnormality.", "-fracture"),
        ("A bony abnormality is seen.", ""),
        ("No significant abnormality.", "-acute disease"),
        ("Significant abnormality at the left base.", ""),
        # Devices.
        ("Interval extubation.", "-endotracheal tube"),
        ("No pneumothorax following chest tube removal.", "-pneumothorax -chest tube"),
        ("Pneumothorax following chest tube removal.", "+pneumothorax -chest tube"),
        ("NG tube with its side port in the stomach.", "+enteric tube"),
        ("NG tube is seen, tip is not visualized.", "+enteric tube +tip"),
        ("A jugular vein catheter tip is in the atrium.", "+central line +tip"),
        # The study as a whole.
        ("No acute cardiopulmonary disease.", "-acute disease"),
        ("Normal chest radiograph.", "-acute disease"),
        # Holes of de-identification.
        ("Blunting of the left costophrenic XXXX.", "+blunting"),
        ("There is ___ of pneumothorax, no effusion.", "+pneumothorax -pleural effusion"),
        ("Pulmonary XXXX are normal.", "-engorgement"),
        # Misspellings and other forms.
        ("No pneumothoracies or effussion.", "-pneumothorax -pleural effusion"),
        ("Minimal atelectatic changes and opacites.", "+atelectasis +opacity"),
        # Words that only look like findings.
        ("A pleural line is seen, indicating pneumothorax.", "+pneumothorax"),
        ("Plate-like atelectasis.", "+atelectasis"),
        ("Pericardial effusion.", "+pericardial effusion"),
        ("Comparison is made with the prior study.", ""),
        ("Increased retrosternal airspace.", "+hyperinflation"),
        ("Normal retrosternal clear space.", ""),
        ("Sequelae of chronic lung disease.", ""),
        ("Hilar mass.", "+mass"),
        ("The opacity on the prior study has cleared.", "-opacity"),
    ],
)
def test_existence(text, expected):
    assert says(text) == read(expected)


@pytest.mark.parametrize(
    ("text", "finding", "side", "regions"),
    [
        # Implied by the finding, on the side that is said.
        ("Pleural effusion.", "pleural effusion", None, ANGLES),
        ("Left pleural effusion.", "pleural effusion", "left", ("left costophrenic angle",)),
        ("Right-sided pneumothorax.", "pneumothorax", "right", ("right apical zone",)),
        ("Cardiomegaly.", "cardiomegaly", None, ("cardiac silhouette",)),
        ("NG tube.", "enteric tube", None, ("mediastinum", "abdomen")),
        ("Surgical clips.", "surgical clips", None, ()),
        # Both sides.
        ("Bilateral effusions.", "pleural effusion", "bilateral", ANGLES),
        ("Right greater than left effusions.", "pleural effusion", "bilateral", ANGLES),
        ("Effusions, left larger than right.", "pleural effusion", "bilateral", ANGLES),
        ("Low lung volumes with bibasilar atelectasis.", "atelectasis", "bilateral", BASES),
        ("Opacities in both lung bases.", "opacity", "bilateral", BASES),
        ("Biapical scarring.", "scarring", "bilateral", APICES),
        # Named; children beat parents.
        ("Nodule in the right apex.", "nodule", "right", ("right apical zone",)),
        ("Opacity at the base of the left lung.", "opacity", "left", ("left lower lung zone",)),
        ("Right middle lobe pneumonia.", "pneumonia", "right", ("right mid lung zone",)),
        ("RLL pneumonia.", "pneumonia", "right", ("right lower lung zone",)),
        ("Lingular opacity.", "opacity", "left", ("left mid lung zone",)),
        (
            "Opacity in the right middle and lower lobes.",
            "opacity",
            "right",
            ("right mid lung zone", "right lower lung zone"),
        ),
        (
            "Nodules in the right apex and left base.",
            "nodule",
            "bilateral",
            ("right apical zone", "left lower lung zone"),
        ),
        ("No consolidation in the right lung.", "consolidation", "right", ("right lung",)),
        ("The right lung is clear.", "consolidation", "right", ("right lung",)),
        ("Both lungs are clear.", "opacity", "bilateral", LUNGS),
        ("The lungs are free of consolidation or effusion.", "pleural effusion", None, ANGLES),
        # Each to its own.
        ("Left base opacity and small right effusion.", "opacity", "left", ("left lower lung zone",)),
        ("Left base opacity and small right effusion.", "pleural effusion", "right", ("right costophrenic angle",)),
        ("Cardiomegaly with left effusion.", "cardiomegaly", None, ("cardiac silhouette",)),
        ("No effusion. Right apical nodule.", "pleural effusion", None, ANGLES),
        ("Left effusion, no pneumothorax.", "pneumothorax", None, APICES),
        ("In the left lung there is a nodule.", "nodule", "left", ("left lung",)),
        # Lists of short names that a full one ends.
        (
            "Right upper and left lower lobe opacities.",
            "opacity",
            "bilateral",
            ("right upper lung zone", "left lower lung zone"),
        ),
        (
            "Opacity in the right upper and lower lobes.",
            "opacity",
            "right",
            ("right upper lung zone", "right lower lung zone"),
        ),
        (
            "Scars in the lower and middle lobes.",
            "scarring",
            "right",
            ("right lower lung zone", "right mid lung zone"),
        ),
        ("Osteophytes of the mid and lower thoracic spine.", "degenerative change", None, ("spine",)),
        # What is seen through the heart is in the left lung.
        ("Retrocardiac opacity.", "opacity", "left", ("left lower lung zone",)),
        ("Right retrocardiac opacity.", "opacity", "right", ("right lower lung zone",)),
        # In none of the 29 regions.
        ("Degenerative changes of both shoulders.", "degenerative change", "bilateral", ()),
        ("Fracture of the left fifth rib.", "fracture", "left", ()),
        ("Fluid in the right minor fissure.", "pleural effusion", "right", ("right costophrenic angle",)),
        ("Effusion extends into the right minor fissure.", "pleural effusion", "right", ()),
        ("Aortic valve replacement.", "valve", None, ("cardiac silhouette",)),
        ("Splenic granuloma.", "granuloma", None, ("abdomen",)),
        # A place where the finding cannot lie is not its place.
        ("Heart size cannot be told due to effusion.", "pleural effusion", None, ANGLES),
        ("Loss of the right heart border suggests pneumonia.", "pneumonia", "right", ("right lung",)),
        ("Flattened diaphragms consistent with emphysema.", "emphysema", "bilateral", LUNGS),
        # Adjectives that are findings.
        ("Calcified nodule in the left base.", "calcification", "left", ("left lower lung zone",)),
        ("Left base calcified nodule.", "nodule", "left", ("left lower lung zone",)),
        # Handed on.
        ("Small right effusion, cannot exclude pneumonia.", "pneumonia", None, LUNGS),
        ("Left base opacity may represent effusion or pneumonia.", "pneumonia", "left", ("left lower lung zone",)),
        ("Left base opacity worrisome for pneumonia.", "pneumonia", "left", ("left lower lung zone",)),
        ("Left effusion with adjacent atelectasis.", "atelectasis", "left", ("left lower lung zone",)),
        ("Right hilar mass with associated pneumothorax.", "pneumothorax", "right", ("right apical zone",)),
        ("Left base opacity may represent pneumonia.", "pneumonia", "left", ("left lower lung zone",)),
        ("Effusion or pneumothorax on the right.", "pleural effusion", "right", ("right costophrenic angle",)),
        ("Left effusion and atelectasis.", "atelectasis", "left", ("left lower lung zone",)),
    ],
)
def test_places(text, finding, side, regions):
    triplet = find(text, finding)
    assert (triplet.side, triplet.regions) == (side, regions)


@pytest.mark.parametrize(
    ("text", "finding", "severity"),
    [
        ("Small left effusion.", "pleural effusion", "mild"),
        ("Effusions are small.", "pleural effusion", "mild"),
        ("A large amount of pleural fluid.", "pleural effusion", "severe"),
        ("The heart is moderately enlarged.", "cardiomegaly", "moderate"),
        ("Mild to moderate edema.", "edema", "moderate"),
        ("Borderline enlargement of the heart.", "cardiomegaly", "mild"),
        ("No large effusion.", "pleural effusion", None),
        ("Effusion: small.", "pleural effusion", "mild"),
        ("Small right and left effusions.", "pleural effusion", "mild"),
        ("Effusion in the minor fissure.", "pleural effusion", None),
        ("Mild edema and atelectasis.", "atelectasis", None),
        ("Edema.", "edema", None),
    ],
)
def test_severity(text, finding, severity):
    assert find(text, finding).severity == severity


@pytest.mark.parametrize(
    "text",
    [
        "Moderate right and small left effusions.",
        "Effusions, moderate on the right and small on the left.",
        "Effusion is moderate in the right and small in the left.",
    ],
)
def test_each_side_has_its_amount(text):
    right, left = sorted(parse_report({"findings": text}), key=lambda t: t.side, reverse=True)
    assert (right.side, right.severity, right.regions) == ("right", "moderate", ("right costophrenic angle",))
    assert (left.side, left.severity, left.regions) == ("left", "mild", ("left costophrenic angle",))


@pytest.mark.parametrize(
    ("section", "text", "expected"),
    [
        ("indication", "Rule out pneumonia.", "?pneumonia"),
        ("indication", "Pneumonia.", "?pneumonia"),
        ("history", "COPD, no pneumothorax.", "?chronic obstructive disease -pneumothorax"),
        ("Reason for exam", "Cardiomegaly?", "?cardiomegaly"),
        ("impression", "Pneumonia.", "+pneumonia"),
    ],
)
def test_what_is_asked_is_not_there(section, text, expected):
    assert says(text, section) == read(expected)


def test_spans_and_sentences():
    sections = {"findings": "1. Heart size\n is normal. 2. Small effusion.", "impression": "Small effusion."}
    heart, effusion, again = parse_report(sections)
    assert [(t.section, t.sentence) for t in (heart, effusion, again)] == [
        ("findings", 0),
        ("findings", 1),
        ("impression", 0),
    ]
    assert heart.text == "Heart size\n is normal."
    assert sections["findings"][heart.start : heart.end] == "Heart size\n is normal"
    assert sections["findings"][effusion.start : effusion.end] == "effusion"
    assert all(t.finding in FINDINGS and set(t.regions) <= set(REGIONS) for t in (heart, effusion, again))


def test_each_is_said_once():
    assert len(parse_report({"findings": "No nodule, no nodule."})) == 1
