import csv

import pytest

from medvlp.parse import parse_report
from medvlp.parse.command import parse
from medvlp.parse.language import FOREIGN, is_english
from medvlp.parse.table import write_triplets

OTHERS = {
    "german": "Kein Pneumothorax.|Kein Pleuraerguss, keine Stauung.|Herz nicht vergrößert.|Pneumothorax rechts."
    "|Kleiner Pleuraerguss links.|Keine Infiltrate.|Verdacht auf Pneumonie im rechten Unterlappen."
    "|Kein Nachweis eines Pneumothorax.|ZVK mit Spitze in der V. cava superior.|Atelektasen beidseits basal.",
    "french": "Pas d'épanchement pleural.|Pas de pneumothorax.|Cardiomégalie."
    "|Poumons clairs sans foyer de consolidation."
    "|Absence d'épanchement pleural ou de pneumothorax.|Opacité du lobe inférieur gauche.|Aucun nodule."
    "|Silhouette cardiaque normale.|Atélectasie de la base droite.|Pneumothorax du sommet gauche.",
    "spanish": "Sin neumotórax.|Sin neumotorax.|No hay derrame pleural.|No se observa consolidación."
    "|Derrame pleural izquierdo.|Silueta cardíaca normal.|Cardiomegalia leve.|Pulmones sin infiltrados."
    "|No se aprecian nódulos.|Fractura de clavícula izquierda.",
    "portuguese": "Sem pneumotórax.|Não há derrame pleural.|Ausência de consolidações.|Derrame pleural à esquerda."
    "|Coração de tamanho normal.|Seios costofrênicos livres.|Sem sinais de consolidação."
    "|Pulmões sem alterações.|Cardiomegalia discreta.|Pequeno derrame pleural direito.",
    "italian": "Non versamento pleurico.|Senza pneumotorace.|Non segni di pneumotorace.|Ombra cardiaca nei limiti."
    "|Cuore ingrandito.|Addensamento alla base destra.|Polmoni espansi.|Atelettasia basale sinistra."
    "|Assenza di lesioni pleuro-parenchimali.|Lieve versamento pleurico bilaterale.",
    "dutch": "Geen pneumothorax.|Geen pleuravocht.|Hart niet vergroot.|Longen zonder infiltraat.|Pneumothorax rechts."
    "|Infiltraat links basaal.|Geen tekenen van stuwing.|Normaal beeld van het hart.|Pleuravocht beiderzijds."
    "|Thoraxfoto zonder afwijkingen.",
}


@pytest.mark.parametrize("text", [text for texts in OTHERS.values() for text in texts.split("|")])
def test_other_languages_have_no_triplets(text):
    assert not is_english([text])
    assert not is_english([text.upper()])
    assert parse_report({"findings": text}) == []


ENGLISH = """Cardiomegaly.|No PTX|Pneumothorax?|No pneumothorax
Non-displaced rib fractures.|En face nodule.|LA enlargement.
LE edema.|ET tube.|Per Dr. Müller.|COPD|NORMAL CHEST|Hay fever.|Dr. van der Berg notified.|IM nail.|AP|
SI joint.|Post-op day 2
Links to the prior study: none.|R/o pna|Status post CABG.|De novo nodule.|___|1. Edema|Nil acute.||
No active lung disease. Comparison: Klinik Thorax, Dr. Mit Ohne."""


@pytest.mark.parametrize("text", ENGLISH.replace("\n", "|").split("|"))
def test_short_texts_are_english(text):
    assert is_english([text])


def test_most_words_decide():
    german = "Kein Pneumothorax. Herz nicht vergrössert. "
    english = "There is no pneumothorax. The heart is not enlarged. "
    assert is_english([german, english * 2])
    assert not is_english([german * 3, english])


def test_a_table_warns_once(tmp_path, capsys):
    reports = [
        (str(i), {"findings": text}) for i, text in enumerate(["Kein Pneumothorax.", "Edema.", "Sin neumotorax."])
    ]
    assert write_triplets(reports, tmp_path / "t.parquet") == 3
    error = capsys.readouterr().err
    assert error.count("warning: 2 of 3 reports are not English") == 1
    write_triplets(reports[1:2], tmp_path / "t.parquet")
    assert "warning" not in capsys.readouterr().err


def test_a_text_warns(capsys):
    parse(text="Kein Pneumothorax, kleiner Erguss links.")
    shown = capsys.readouterr()
    assert shown.err.count("warning: this text is not English") == 1
    assert "pneumothorax" not in shown.out


def test_open_i_is_english(shared_data):
    with open(shared_data / "openi/indiana_reports.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert is_english([row["findings"]]), row
            assert is_english([row["impression"]]), row
            assert FOREIGN.isdisjoint(row["findings"].lower().split())
