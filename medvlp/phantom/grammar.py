"""Templates of the sentences of reports; `medvlp.phantom.expansion` makes sentences of them."""

from __future__ import annotations

SEVERITY = {
    "pleural effusion": {
        "mild": "{small|trace|tiny|minimal}",
        "moderate": "{moderate|moderate-sized}",
        "severe": "{large|massive}",
    },
    "pneumothorax": {
        "mild": "{small|tiny|small apical}",
        "moderate": "{moderate|moderate-sized}",
        "severe": "{large|very large}",
    },
    "consolidation": {
        "mild": "{subtle|mild|small}",
        "moderate": "{moderate|patchy|}",
        "severe": "{extensive|dense|marked}",
    },
    "atelectasis": {
        "mild": "{mild|minimal|linear|minor}",
        "moderate": "{moderate|plate-like|}",
        "severe": "{marked|substantial|severe}",
    },
    "edema": {"mild": "{mild|minimal}", "moderate": "{moderate|}", "severe": "{severe|marked}"},
    "cardiomegaly": {"mild": "{mild|borderline}", "moderate": "{moderate|}", "severe": "{severe|marked}"},
}
ADVERB = {"mild": "{mildly|slightly}", "moderate": "{moderately|}", "severe": "{markedly|severely|massively}"}

# Those of the words above that describe the appearance of a finding, not its severity.
LOOKS = frozenset({"patchy", "dense", "linear", "plate-like"})

# Present findings. Plurals are for bilateral findings.
PRESENT = {
    "pleural effusion": (
        "{There is <a> <sev> <side> pleural effusion|<a> <sev> <side> pleural effusion is {present|seen"
        "|noted}"
        "|<sev> <side> {effusion|pleural effusion}|Blunting of the <side> costophrenic angle {is consistent with"
        "|represents} <a> <sev> pleural effusion"
        "|{Layering|There is layering} <side> pleural fluid, <sev> in {size|amount}}"
    ),
    "pleural effusion, plural": (
        "{There are <sev> bilateral pleural effusions|<sev> bilateral {effusions"
        "|pleural effusions} are {present|seen|noted}"
        "|<sev> bilateral pleural effusions|Bilateral pleural effusions are <sev>}"
    ),
    "pneumothorax": (
        "{There is <a> <sev> <side> pneumothorax|<a> <sev> <side> pneumothorax is {present|seen|identified}"
        "|<sev> <side> pneumothorax"
        "|A <side> pleural line is visible, {consistent with|indicating} <a> <sev> pneumothorax}"
    ),
    "consolidation": (
        "{There is <sev> consolidation in the <side> <zone>|<sev> consolidation is {seen"
        "|present} in the <side> <zone>"
        "|<sev> <side> <zoneadj> {consolidation|airspace consolidation}"
        "|Airspace consolidation in the <side> <zone> is {seen|noted}}"
    ),
    "consolidation, plural": (
        "{There are <sev> consolidations in both <zones>|<sev> consolidation is {seen"
        "|present} in both <zones>|<sev> bilateral <zoneadj> consolidations}"
    ),
    "opacity": (
        "{There is <a> <sev> opacity in the <side> <zone>|<a> <sev> {focal|hazy|airspace"
        "|parenchymal} opacity is {seen|present} in the <side> <zone>"
        "|<sev> <side> <zoneadj> opacity|Opacification of the <side> <zone>}"
    ),
    "opacity, plural": (
        "{There are <sev> opacities in both <zones>|<sev> {hazy|airspace|parenchymal} opacities are {seen"
        "|present} in both <zones>|<sev> bilateral <zoneadj> opacities}"
    ),
    "atelectasis": (
        "{There is <sev> {atelectasis|volume loss and atelectasis} at the <side> {base|lung base}"
        "|<sev> <side> {basilar|basal|lower lobe} atelectasis {is {present|seen|noted}|}"
        "|{Streaky|Linear|Band-like} {densities|areas} at the <side> base {reflect|represent} <sev> atelectasis}"
    ),
    "atelectasis, plural": (
        "{There is <sev> bibasilar atelectasis|<sev> {bibasilar|bilateral basal"
        "|bilateral lower lobe} atelectasis {is {present|seen|noted}|}"
        "|{Streaky|Linear|Band-like} densities at both {bases|lung bases} {reflect|represent} <sev> atelectasis}"
    ),
    "edema": (
        "{There is <sev> {pulmonary|interstitial|pulmonary interstitial} edema"
        "|<sev> pulmonary edema {is {present|seen|noted}|}"
        "|{Indistinct and enlarged vessels|Kerley lines} {indicate|are consistent with|reflect} <sev> pulmonary edema"
        "|Perihilar haze {indicates|is consistent with|reflects} <sev> {pulmonary|interstitial} edema"
        "|The {central|hilar} vessels are engorged with <sev> pulmonary edema}"
    ),
    "cardiomegaly": (
        "{The {heart|cardiac silhouette} is <adv> enlarged|<sev> cardiomegaly {is {present|noted|seen}|}"
        "|There is <sev> {cardiomegaly|enlargement of the cardiac silhouette}"
        "|{Heart size|The heart size} is <adv> {enlarged|increased}}"
    ),
    "nodule": (
        "{There is <a> <size> cm {nodule|nodular density|rounded nodule"
        "|pulmonary nodule} in the <side> <zone>|<a> <size> cm {nodule|pulmonary nodule"
        "|rounded nodule} is {seen|present|noted} in the <side> <zone>"
        "|<side> <zoneadj> nodule, measuring <size> cm}"
    ),
    "mass": (
        "{There is <a> <size> cm {mass|lung mass|rounded mass} in the <side> <zone>|<a> <size> cm {mass"
        "|lung mass} is {seen|present|noted} in the <side> <zone>|<side> <zoneadj> mass, measuring <size> cm}"
    ),
    "endotracheal tube": (
        "{{Endotracheal|The endotracheal|ET} tube {tip |}{terminates|ends|lies|projects} {<size> cm|___ cm"
        "|approximately <size> cm} above the carina"
        "|The patient {is|remains} intubated, with the tube tip <size> cm above the carina}"
    ),
    "enteric tube": (
        "{{Enteric|Nasogastric|The enteric|The nasogastric|Orogastric"
        "|An enteric} tube {courses below the diaphragm|terminates in the stomach|passes into the stomach"
        "|ends in the stomach, tip out of view}}"
    ),
    "central line": (
        "{{A <side> {central venous catheter|central line|central venous line}"
        "|<side> {central venous catheter|central line|IJ catheter|PICC}} {terminates|ends"
        "|has its tip} {in the {mid|low|upper} SVC|at the cavoatrial junction}}"
    ),
    "pacemaker": (
        "{{<side>|A <side>}-sided {pacemaker|pacer|dual-chamber pacemaker|pacemaker device} {is {present"
        "|seen|noted}, with leads|is in place with leads|has leads} {in the right atrium and right ventricle"
        "|in standard position}}"
    ),
    "sternotomy wires": (
        "{{Median sternotomy wires|Sternotomy wires|The sternal wires} are {intact|present"
        "|intact and aligned|noted}|The patient is status post median sternotomy with {intact |}wires}"
    ),
}

PNEUMONIA = (
    "{compatible with|consistent with|likely} {pneumonia|infection|infectious process}",
    "{which may represent|possibly reflecting|questionable for|concerning for} {pneumonia|infection}",
)

UNCERTAIN = {
    "pleural effusion": (
        "{{Possible|Potential|Questionable} <sev> <side> pleural effusion"
        "|<a> <sev> <side> pleural effusion {cannot be excluded|is not excluded|is possible|may be present}}"
    ),
    "pleural effusion, plural": (
        "{{Possible|Potential|Questionable} <sev> bilateral pleural effusions"
        "|<sev> bilateral pleural effusions {cannot be excluded|are not excluded|may be present}}"
    ),
    "pneumothorax": (
        "{Possible <sev> <side> pneumothorax|<a> <sev> <side> pneumothorax {cannot be excluded"
        "|is not entirely excluded|may be present}}"
    ),
    "consolidation": (
        "{{Possible|Questionable} consolidation in the <side> <zone>"
        "|Early consolidation in the <side> <zone> {cannot be excluded|is not excluded}}"
    ),
    "consolidation, plural": (
        "{{Possible|Questionable} consolidation in both <zones>"
        "|Early consolidation in both <zones> {cannot be excluded|is not excluded}}"
    ),
    "atelectasis": (
        "{{Possible|Potential|Suspected} <side> basilar atelectasis|<side> basilar {density"
        "|change} may represent atelectasis}"
    ),
    "atelectasis, plural": (
        "{{Possible|Potential|Suspected} bibasilar atelectasis|Bibasilar densities may represent atelectasis}"
    ),
    "edema": (
        "{{Possible|Potential|Questionable} <sev> pulmonary edema|<sev> {pulmonary"
        "|interstitial} edema {cannot be excluded|is possible|is not excluded}}"
    ),
    "cardiomegaly": "{{Possible|Questionable} <sev> cardiomegaly|The heart {may be|is possibly} <adv> enlarged}",
    "nodule": (
        "{{Possible|Questionable} <side> <zoneadj> nodule"
        "|<a> nodule in the <side> <zone> {cannot be excluded|is possible}}"
    ),
    "pneumonia": (
        "{Pneumonia|Infection|Superimposed infection|Early pneumonia} {cannot be {entirely |}excluded"
        "|is not excluded|is difficult to exclude}"
    ),
}

# Absent findings as noun phrases, so that several fit in one sentence.
ABSENT_NOUN = {
    "pleural effusion": "{pleural effusion|effusion|large pleural effusion}",
    "pneumothorax": "pneumothorax",
    "consolidation": "{focal consolidation|consolidation|focal airspace consolidation|lobar consolidation}",
    "opacity": "{focal opacity|focal airspace opacity|airspace opacity|parenchymal opacity}",
    "pneumonia": "{pneumonia|focal infection}",
    "edema": "{pulmonary edema|edema|overt pulmonary edema|interstitial edema}",
    "atelectasis": "{atelectasis|lobar collapse}",
    "nodule": "{pulmonary nodule|suspicious nodule|nodule or mass|lung nodule}",
}
ABSENT_PLURAL = {
    "pleural effusion": "pleural effusions",
    "pneumothorax": "pneumothoraces",
    "nodule": "pulmonary nodules",
}
ABSENT_PLURAL_FRAME = "{No <list>|No evidence of <list>|Negative for <list>}"
ABSENT_FRAME = (
    "{There is no <list>|No <list>|No <list> is {seen|identified|present}|There is no evidence of <list>"
    "|The {study|chest} is free of <list>}"
)
NORMAL_HEART = (
    "{{Heart size is|The heart size is} {normal|within normal limits}|{The heart is"
    "|The cardiac silhouette is} {normal in size|not enlarged|within normal limits}|Normal heart size"
    "|There is no cardiomegaly|No cardiomegaly}"
)
NORMAL_BOTH = (
    "{The cardiomediastinal silhouette is {normal|within normal limits|unremarkable}"
    "|Cardiac and mediastinal contours are {normal|unremarkable|within normal limits}"
    "|The cardiomediastinal and hilar contours are {normal|within normal limits}"
    "|Heart size and mediastinal contours are {normal|within normal limits}}"
)
NORMAL_MEDIASTINUM = (
    "{The mediastinal {contours are|contour is} {normal|unremarkable|within normal limits}"
    "|No mediastinal widening|Mediastinal and hilar contours are unremarkable}"
)
CLEAR_LUNGS = (
    "{The lungs are {clear|well expanded and clear|clear bilaterally}|Lungs are clear|Both lungs are {clear"
    "|clear and well aerated}|Clear, well-expanded lungs}"
)
BONES = (
    "{No acute {osseous|bony} abnormality{ is seen|}|The {osseous|bony} structures are {intact|unremarkable}"
    "|No displaced rib fracture|There is no acute fracture}"
)
NORMAL_IMPRESSION = (
    "{No acute {cardiopulmonary|intrathoracic|cardiothoracic} {process|abnormality|disease}"
    "|No evidence of acute cardiopulmonary {process|disease}|Normal chest {radiograph|x-ray|}"
    "|No acute intrathoracic process|No radiographic evidence of acute cardiopulmonary disease}"
)
NEUTRAL = (
    "{Lung volumes are <volume>|{The patient has|There are} <volume> lung volumes"
    "|{Frontal|Single frontal} view of the chest was {obtained|reviewed}"
    "|The {upper abdomen|visualized upper abdomen} is unremarkable"
    "|The imaged upper abdomen shows a normal bowel gas pattern|Findings were discussed with Dr. ___ at ___ on ___}"
)

# Words of a template that name another finding, or several.
OTHERWISE = {
    "lobar collapse": ("collapse",),
    "nodule or mass": ("nodule", "mass"),
    "nodular density": ("nodular opacity",),
}
# Signs that the templates mention besides their finding.
SIGNS = {
    "blunting": "blunting",
    "densit": "opacity",
    "perihilar haze": "opacity",
    "kerley lines": "marking",
    "vessels": "engorgement",
    "volume loss": "volume loss",
    "well expanded": "aeration",
    "well-expanded": "aeration",
    "well aerated": "aeration",
}

CHANGE = {
    "stable": "{unchanged|stable|unchanged from {prior|the prior study|___}|similar to prior}",
    "increased": "{increased|increased from prior|larger than before|worse than on the prior study}",
    "decreased": "{decreased|decreased from prior|smaller than before|improved since the prior study}",
    "new": "{new since the prior study|new from ___|new compared with the prior}",
}
RESOLVED = (
    "{{Previously seen|The previously seen|Prior} <noun> {has resolved|is no longer seen|has cleared}"
    "|{Interval resolution|Complete resolution} of the {previously seen |prior |}<noun>}"
)
REMOVED = "{{Interval removal of the|Status post removal of the} <noun>|The <noun> has been removed}"

ZONES = {
    "upper": "{upper lobe|upper lung|upper lung zone}",
    "mid": "{mid lung|mid lung zone|mid zone}",
    "lower": "{lower lobe|lower lung|lung base|lower lung zone}",
}
BOTH_ZONES = {
    "upper": "{upper lungs|upper lobes|apices}",
    "mid": "{mid lungs|mid lung zones}",
    "lower": "{lower lungs|lower lobes|lung bases}",
}
ZONE_ADJECTIVES = {
    "upper": "{upper lobe|upper lung}",
    "mid": "{mid lung|mid zone}",
    "lower": "{lower lobe|basilar|lower lung}",
}
