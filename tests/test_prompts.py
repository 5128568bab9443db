"""What is said of a finding that is there, and of one that is not."""

from medvlp.prompts import NORMAL, Prompts


def test_a_label_is_named_in_lower_case():
    ((positive, negative),) = Prompts().of("Edema")
    assert "There is edema." in positive
    assert "Normal chest radiograph." in negative
    assert not set(positive) & set(negative)


def test_a_prompt_begins_with_a_capital():
    ((positive, negative),) = Prompts(positive=["{} is seen."]).of("Edema")
    assert positive == ["Edema is seen."]
    assert all(text[0].isupper() for text in negative)


def test_phrases_replace_names_that_reports_do_not_use():
    nodule, mass = Prompts().of("Lung Lesion")
    assert "There is lung nodule." in nodule[0]
    assert "There is lung mass." in mass[0]
    own = Prompts(negative=["No {}."], phrases={"Lung Lesion": ["focal lesion"], "Edema": ["CHF"]})
    assert "No focal lesion." in own.of("Lung Lesion")[0][1]
    assert "CHF." in own.of("Edema")[0][0]
    assert [positive[0] for positive, _ in own.of("Support Devices")] == [
        "Endotracheal tube.",
        "Enteric tube.",
        "Central venous catheter.",
        "Pacemaker.",
    ]


def test_no_finding_has_prompts_of_its_own():
    prompts = Prompts(normal=["Clear."], abnormal=["Not clear."])
    assert prompts.of(NORMAL) == [(["Clear."], ["Not clear."])]
    assert not any("no finding" in text.lower() for side in Prompts().of(NORMAL)[0] for text in side)


def test_prompts_of_one_object_do_not_touch_another():
    Prompts().phrases["Edema"] = ["CHF"]
    assert Prompts().of("Edema")[0][0][0] == "Edema."
