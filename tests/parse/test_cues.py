"""The cue engine on sentences in which every finding is marked: [present]+, [absent]-, [uncertain]?."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.errors import UserError
from medvlp.parse.cues import Mention, load
from medvlp.parse.existence import assess
from medvlp.parse.words import words

SIGN = {"+": "present", "-": "absent", "?": "uncertain"}

NEGATED = """
No [effusion]- or [pneumothorax]-.
Without focal [consolidation]-.
There is no focal [consolidation]-, pleural [effusion]-, or [pneumothorax]-.
No focal [consolidation]-, large pleural [effusion]-, or [pneumothorax]-.
No evidence of [pneumonia]-, [edema]- or [pleural effusion]-.
No pleural [effusion]- nor [pneumothorax]-.
There is neither [consolidation]- nor [effusion]-.
Neither [pneumothorax]- nor [effusion]- is present.
No [effusion]- and no [pneumothorax]-.
No large [effusion]-.
No definite [fracture]-.
No overt [edema]-.
No new [consolidation]-.
No convincing evidence of [pneumonia]-.
No evidence to suggest [pneumonia]-.
No findings suspicious for [malignancy]-.
No focal airspace [opacity]- to suggest [pneumonia]-.
No [opacity]- concerning for [pneumonia]- is identified.
No radiographic evidence of active [tuberculosis]-.
No [pneumothorax]- is seen in the right lung.
No [pleural effusion]-, XXXX, or [pneumothorax]- is seen.
No XXXX of [pneumothorax]-.
There is no XXXX [effusion]- or [pneumothorax]-.
There is no ___ [effusion]-.
The lungs are free of [consolidation]-.
The chest is free of [consolidation]- or [effusion]-.
Lungs are clear of focal [infiltrate]-.
Negative for [pneumothorax]-.
Chest x-ray negative for [pneumonia]- or [effusion]-.
Absence of [pleural effusion]-.
The patient denies [chest pain]-.
Heart is not significantly [enlarged]-.
The heart is not [enlarged]-.
[Effusion]- is not seen.
[Pneumothorax]- is not definitely identified.
Pleural [effusion]- and [pneumothorax]- are not seen.
[Consolidation]-, [effusion]-, or [pneumothorax]- is not seen.
[Pneumothorax]-: none.
[Effusion]- - absent.
[Pneumothorax]- is absent.
[Pneumonia]- has been ruled out.
[Pneumothorax]- was excluded.
The study fails to show any [nodule]-.
The lungs do not show any [consolidation]-.
I do not see a [fracture]-.
There are no findings of [congestive heart failure]-, [pneumonia]- or [mass]-.
The cardiac silhouette is normal in size without [edema]-.
There is nothing to suggest [pneumonia]-.
No suspicious [nodules]- or [masses]- are present.
The [effusion]- seen earlier is not present today.
Not suggestive of [edema]-.
The appearance is not consistent with [pneumonia]-.
No acute [fracture]- noted
no [effusion]-
There isn't any [effusion]-.
There is no evidence for [mass]-.
No [effusion]-/[pneumothorax]-.
No signs of [edema]- [infiltrate]- or [effusion]-.
Interstitial markings are normal, with no [edema]-.
No visible [pneumothorax]- on either side.
No acute, displaced [fracture]- is seen.
[Effusion]-: no. [Edema]-: no.
Negative acute [abnormality]-.
Neither [edema]- nor [effusion]-.
The [effusion]- is gone.
No [effusion]- and [pneumothorax]- are seen.
[Pneumothorax]- cannot be seen.
CT ruled out [embolism]-.
Fluid culture for [infection]- is negative.
"""

RESOLVED = """
The right [effusion]- has resolved.
Previously seen [nodule]- is no longer visible.
Previously seen [nodule]- no longer visible.
The [consolidation]- in the left lower lobe has cleared.
Interval resolution of the left [pneumothorax]-.
Complete resolution of the previously seen [effusion]-.
Resolved [edema]-.
[Edema]- resolved.
[Pneumothorax]-, resolved.
The [chest tube]- has been removed.
Interval removal of the [endotracheal tube]-.
Status post removal of the right [picc]-.
The [opacity]- that was seen in the right base is no longer identified.
The previously noted [effusion]- has completely resolved.
The [edema]+ has nearly resolved.
[Edema]+ is resolving.
Near complete resolution of the [effusion]+.
Partial clearing of the [consolidation]+.
The [effusion]+ has not resolved.
The [pneumothorax]+ has not completely resolved.
The [chest tube]+ has not been removed.
There has been interval removal of the [chest tube]- without [pneumothorax]-.
Interval removal of the [endotracheal tube]- and right [picc]-.
Removal of the [endotracheal tube]- with a small [effusion]+.
Resolution of the right [effusion]- and small left [effusion]+.
Discontinuation of the [picc]-.
The [chest tube]- has been pulled.
The [enteric tube]+ has been withdrawn by 5 cm.
There is [cardiomegaly]+ and the [edema]- has resolved.
There is [effusion]+ and [pneumonia]? cannot be excluded.
Small [effusion]+ persists and the [pneumothorax]- has resolved.
The [effusion]- and the [edema]- have resolved.
[Pneumothorax]- has not recurred.
Skin fold simulating a [pneumothorax]-.
"""

PRESENT = """
There is a small [effusion]+.
Stable [cardiomegaly]+.
[Effusion]+ is seen.
The heart is [enlarged]+.
No change in the left [effusion]+.
No significant change in [cardiomegaly]+.
No significant interval change in the small [effusion]+.
Without significant change in [effusion]+.
No increase in the [effusion]+.
No interval worsening of the [edema]+.
[Cardiomegaly]+, not significantly changed.
The [effusion]+ has not changed.
The [nodule]+ shows no change in size.
The [nodule]+ is not significantly larger.
Not only [effusion]+ but also [edema]+.
[Effusion]+ with or without [atelectasis]+.
[Consolidation]+ without [effusion]-.
[Cardiomegaly]+ without [edema]- or [effusion]-.
[Cardiomegaly]+, no [edema]-.
[Cardiomegaly]+ with no [edema]-.
No [effusion]- but mild [edema]+.
No [effusion]-, but [edema]+ is seen.
No [pneumothorax]-; small [effusion]+.
No [pneumothorax]-, small left [effusion]+.
No [pneumothorax]- and mild [edema]+.
No [pneumothorax]-, there is a small [effusion]+.
No [pneumothorax]- with small [effusion]+.
No [effusion]-, stable [cardiomegaly]+.
No [effusion]-, the heart is [enlarged]+.
No [effusion]-, heart is mildly [enlarged]+.
No [abnormality]- except for mild [cardiomegaly]+.
No [abnormality]- other than [scoliosis]+.
Apart from a small [effusion]+, there is no [abnormality]-.
No [effusion]-. [Edema]+ is present.
There is [atelectasis]+ and [effusion]+ at the left base, and no [pneumothorax]-.
No [effusion]- however there is [edema]+.
There is [cardiomegaly]+ and no [effusion]- is seen.
[Atelectasis]+ is present and [pneumothorax]- is not seen.
[Cardiomegaly]+ is present, [edema]- is not seen.
Low lung volumes with bibasilar [atelectasis]+.
Positive for [effusion]+.
The [effusion]+ is not large.
The etiology of the [effusion]+ is not clear.
We do not know the cause of the [effusion]+.
[Calcified granuloma]+ does not need follow-up.
The [nodule]+ was not seen on the prior study.
The [nodule]+ was not present on ___.
[Opacity]+ not seen on the previous radiograph.
Lateral view without contrast shows [scoliosis]+.
[Effusion]+ obscures the diaphragm, which is not well seen.
No [pneumothorax]- after drainage of the [effusion]+.
No [fracture]-, [calcified granuloma]+ in the right apex.
Gram negative [pneumonia]+.
No [edema]-, [effusion]+ is unchanged.
No [effusion]- is seen in the right chest, [atelectasis]+ at the base.
No need for drainage of the [effusion]+.
There is redemonstration without change of the [nodule]+.
[Opacity]+ likely due to [atelectasis]+.
[Haze]+ consistent with [edema]+.
There is a new [effusion]+, not present previously.
No comparison. Small [effusion]+.
[Edema]+ has improved but not resolved.
Bibasilar [opacities]+, likely [atelectasis]+, less likely [pneumonia]?.
"""

UNCERTAIN = """
Cannot exclude [pneumonia]?.
Mild, if any, [edema]?.
[Pneumonia]? cannot be excluded.
[Pneumonia]? cannot be entirely excluded.
A small [effusion]? is not excluded.
Early [pneumonia]? is difficult to exclude.
[Effusion]? or [pneumonia]? cannot be excluded.
Rule out [pneumonia]?.
R/o [pneumothorax]?.
Evaluate for [effusion]? or [pneumothorax]?.
If there is concern for [pneumonia]?, repeat the study.
Should the patient develop [pneumothorax]?, repeat the study.
Possible [edema]?.
Possible small left [effusion]?.
Questionable [nodule]? in the right apex.
Probable [atelectasis]+.
[Pneumonia]??
Question: [Pneumonia]? ?
? [pneumonia]?
[Opacity]+ may represent [pneumonia]?.
[Opacity]+, which may represent [pneumonia]?.
[Opacity]+ concerning for [pneumonia]?.
[Opacity]+ worrisome for [malignancy]?, new since ___.
[Opacity]+ suspicious for [pneumonia]?.
[Opacity]+, possibly [atelectasis]?.
Streaky [opacities]+ likely represent [atelectasis]+.
Basilar [opacity]+, [atelectasis]+ versus [pneumonia]+.
[Atelectasis]+ vs. [infiltrate]+.
[Opacity]+ may represent [atelectasis]?, [scarring]?, or [infiltrate]?.
[Opacity]+ could be [atelectasis]? or [pneumonia]?.
[Edema]? is possible.
[Pneumonia]? is suspected.
A [nodule]? may be present.
[Effusion]? may be present, with [atelectasis]+.
Possible [effusion]?, no [pneumothorax]-.
Possible [atelectasis]? without [effusion]-.
No [effusion]-, possible mild [edema]?.
No [pneumothorax]-, but a small [effusion]? cannot be excluded.
No [pneumothorax]-, small [effusion]? cannot be excluded.
No [pneumothorax]- and possible [edema]?.
[Opacity]+ without [effusion]- may represent [pneumonia]?.
There may be a small [effusion]?.
The heart may be [enlarged]?.
It is unclear whether there is an [effusion]?.
[Pneumonia]? is not ruled out.
The possibility of [pneumonia]? must be considered.
[Opacity]+ raises the question of [pneumonia]?.
Blunting may be due to [effusion]? or [scarring]?.
Differential includes [pneumonia]? and [edema]?.
The differential diagnosis includes [pneumonia]?, [aspiration]?, mild [edema]?.
[Opacities]+ which may be compatible with mild [edema]?.
Question small [effusion]? versus [thickening]?.
Follow-up to exclude [malignancy]?.
If the [pneumonia]? has not resolved, CT is advised.
Repeat the study until the [effusion]? has resolved.
Follow up to ensure there is no underlying [mass]?.
[Opacity]+ in the base concerning for [atelectasis]? versus [pneumonia]?.
[Opacity]+ reflecting [atelectasis]+ versus [scar]+.
[Opacity]+ may represent [atelectasis]? versus [scar]?.
[Infiltrate]? has decreased but is not entirely excluded.
Small [fractures]? may not be demonstrated.
Overlap could obscure a small [nodule]?.
[Pneumonia]? less likely.
[Edema]?: possible.
[Opacity]+ suggesting [pneumonia]?.
[Opacity]+, favor [atelectasis]?.
[Opacity]+ suggestive of [edema]? or [infection]?.
The differential of the [opacity]+ could include [edema]?.
[Opacity]+ raises the possibility of [aspiration]?.
[Pneumonia]? is in the differential.
The previously seen [nodule]? is not well seen on today's study.
[Aspiration]? is also possible.
[Pneumonia]? would be hard to exclude.
[Pneumonia]? would have to be considered.
Repeat the study to ensure resolution of the [pneumonia]?.
CT is more sensitive in detecting small [nodules]?.
[Opacity]+ maybe due to [fibrosis]?.
[Opacity]+ most suggestive of [edema]+.
"""

MARK = re.compile(r"\[([^\]]+)\]([-+?])")


def read(line):
    """The plain sentence, its words, the marked mentions and their existences."""
    text, spans, want, end = "", [], [], 0
    for m in MARK.finditer(line):
        text += line[end : m.start()]
        spans.append((len(text), len(text) + len(m[1])))
        text += m[1]
        want.append(SIGN[m[2]])
        end = m.end()
    text += line[end:]
    sentence = words(text)
    mentions = []
    for start, stop in spans:
        inside = [i for i, w in enumerate(sentence) if start <= w.start < stop]
        mentions.append(Mention(inside[0], inside[-1] + 1))
    return sentence, mentions, want


@pytest.mark.parametrize(
    "line", [x for block in (NEGATED, RESOLVED, PRESENT, UNCERTAIN) for x in block.splitlines() if x]
)
def test_sentence(line):
    sentence, mentions, want = read(line)
    assert assess(sentence, mentions) == want


def test_a_mention_that_begins_within_a_phrase_is_denied():
    sentence = words("No change in vision.")
    assert assess(sentence, [Mention(3, 4)]) == ["present"]
    assert assess(sentence, [Mention(1, 4)]) == ["absent"]


def test_a_cue_inside_a_mention_is_part_of_its_name():
    sentence = words("Radiograph with no acute disease.")
    assert assess(sentence, [Mention(2, 5)]) == ["present"]
    assert assess(sentence, [Mention(3, 5)]) == ["absent"]


def test_no_mentions_and_no_words():
    assert assess(words("No effusion."), []) == []
    assert assess([], []) == []


CUES = (
    "no not without effusion edema pneumonia , . : ; ? ( ) and or with possible may represent is seen versus if has "
    "resolved removed the mild due to cannot be excluded ___ negative for but there"
)
WORDS = st.sampled_from(CUES.split())
TEXTS = st.text() | st.lists(WORDS, max_size=30).map(" ".join)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(TEXTS, st.data())
def test_any_text_and_any_mentions(text, data):
    sentence = words(text)
    places = st.integers(0, max(len(sentence) - 1, 0))
    drawn = data.draw(st.lists(st.tuples(places, places), max_size=5)) if sentence else []
    mentions = [Mention(min(pair), max(pair) + 1) for pair in drawn]
    found = assess(sentence, mentions)
    assert len(found) == len(mentions)
    assert set(found) <= {"present", "absent", "uncertain"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["effusion ", "no ", "? ", "effusion, ", "not seen ", "no effusion, or not seen but cannot be excluded "]
)
def test_linear_time(text):
    def seconds(length):
        sentence = words(text * (length // len(text)))
        mentions = [Mention(i, i + 1) for i in range(0, len(sentence), 3)]
        start = time.process_time()
        assess(sentence, mentions)
        return time.process_time() - start

    # Quadratic time would be minutes.
    assert seconds(400_000) < 10


def test_unknown_kinds_of_cues_are_named():
    with pytest.raises(UserError, match=r"no group `negation`. The groups are absent, uncertain, bounds"):
        load({"negation": {"after": ["no"]}})
    with pytest.raises(UserError, match=r"no kind `forward` in `absent`. Its kinds are after, clause, before"):
        load({"absent": {"forward": ["no"]}})
