"""What `medvlp prepare table` has understood, in words, before an image is read."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from itertools import islice
from typing import Any

from medvlp.errors import LeftOutError
from medvlp.prepare.own.data import OwnData
from medvlp.prepare.own.headers import modalities
from medvlp.prepare.own.image_files import SAME
from medvlp.prepare.own.names import MEANINGS
from medvlp.prepare.own.profile import Profile
from medvlp.prepare.own.survey import AMBIGUOUS, MISSING
from medvlp.prepare.own.texts import read_texts
from medvlp.prepare.splits import SPLITS

# Longest example of a field, number of columns and reasons on the screen, and of reports whose sections are counted.
LONGEST, MANY, REASONS, READ = 48, 40, 12, 2000


def overview(data: OwnData, views: Sequence[str], command: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the overview.

    Args:
        data: The images.
        views: Views that are kept.
        command: Words of the command line that does what was understood.
    """
    gathered, spool = data.gathered, data.gathered.survey.spool
    if gathered.profile:
        yield from _columns(data, gathered.profile)
    yield from (f"Note: {shown(note, 300)}" for note in gathered.notes)
    yield from _images(data)
    spread = f"{spool.count('subject'):,} patients, {spool.studies_count():,} studies, {spool.count('path'):,} images"
    yield f"Patients: {spread}."
    if spool.count("subject") == 1 < spool.count("path"):
        yield "  All images are of one patient, and so in one split. --patient none takes each study or image as one."
    if fallbacks := gathered.survey.fallbacks:
        units = " and ".join(f"{unit} ({number:,})" for unit, number in fallbacks.items())
        yield f"  No patient is named for some images: a patient is then the {units} itself; see --patient."
    if shared := spool.shared_studies():
        yield f"  {shared:,} names of studies belong to several patients: studies are named patient/study."
    yield from _dates(data)
    yield from _views(data, views)
    yield from _splits(data)
    yield from _contents(data)
    if skipped := spool.skipped():
        yield "Left out so far, as skipped.csv will list:"
        for kind, details in islice(skipped.items(), REASONS):
            examples = "; ".join(f"{shown(text, 60)} ({number:,})" for text, number in details.most_common(3) if text)
            yield f"  {details.total():>9,}  {kind}{f': {examples}' if examples else ''}"
    yield "The command that says all of this:"
    yield f"  {shlex.join(command)}"


def _columns(data: OwnData, profile: Profile) -> Iterator[str]:
    understood = data.gathered.survey.understood
    yield f"{shown(profile.path.name)}: {profile.rows:,} rows, {len(profile.columns):,} columns."
    columns = understood.columns
    rows = [(meaning, columns[meaning], understood.how[meaning]) for meaning in MEANINGS if meaning in columns]
    if corners := understood.corners:
        how = f"{corners.form}{' in shares of the image' if corners.relative else ''}"
        rows += [("boxes", name, how) for name in corners.columns]
        rows += [("box label", corners.label, "names the boxes")] if corners.label else []
    labels = understood.labels
    rows += [("labels", labels.listed, "a list in each field")] if labels.listed else []
    rows += [("label", name, label if label != name else "") for label, name in labels.columns.items()]
    for meaning, name, how in rows[:MANY]:
        examples = ", ".join(f"'{shown(text)}'" for text in profile.columns[name].examples)
        yield f"  {meaning:<10} {shown(name):<24} {shown(how):<22} {examples}".rstrip()
    if len(rows) > MANY:
        yield f"  and {len(rows) - MANY} more label columns"
    if understood.unused:
        yield "Not used:"
        listed = [*understood.unused.items()]
        for name, reason in listed[:MANY]:
            yield f"  {shown(name)}: {shown(reason, 200)}"
        if len(listed) > MANY:
            yield f"  and {len(listed) - MANY} more columns"


def _images(data: OwnData) -> Iterator[str]:
    survey = data.gathered.survey
    files = survey.files
    found = Counter({how: number for how, number in survey.found.items() if how and how not in (MISSING, AMBIGUOUS)})
    absent, ambiguous = survey.found[MISSING], survey.found[AMBIGUOUS]
    images = survey.spool.count("path")
    ways = ", ".join(f"{number:,} {how}" for how, number in found.most_common())
    if "image" in survey.understood.columns:
        total = sum(found.values()) + absent + ambiguous
        line = f"Images: {sum(found.values()):,} of {total:,} names were found below {files.root}"
        yield line + (f" ({ways})." if [*found] != [SAME] and ways else ".")
    else:
        yield f"Images: {images:,} below {files.root}{f' ({ways})' if ways else ''}."
    if absent:
        more = " and others" if absent > len(survey.missing) else ""
        yield f"  {absent:,} {_are(absent)} missing: {', '.join(map(shown, survey.missing))}{more}"
    if ambiguous:
        yield f"  {ambiguous:,} {_are(ambiguous)} ambiguous: several files have the name. Write more of the path."
    if files.count > images:
        yield f"  {files.count - images:,} images in the folder are not used: no row names them, or they are left out."
    if others := sum(files.others.values()):
        kinds = ", ".join(f"{suffix} ({number:,})" for suffix, number in files.others.most_common(4))
        yield f"  Other files, which are not read: {others:,}; {kinds}."
    if counts := modalities(survey.headers):
        yield f"  DICOM modalities: {_list(counts)}."


def _dates(data: OwnData) -> Iterator[str]:
    survey = data.gathered.survey
    if not (odd := survey.odd_dates):
        return
    yield (
        f"Dates: {survey.dates:,} can be read, {odd.total():,} cannot: {_list(odd)}. Without them the order of a "
        "patient's studies is not known."
    )
    if not survey.dates and survey.month_first is None:
        yield "  No day above 12 tells whether the day or the month comes first: write dates as 2020-01-31."


def _views(data: OwnData, views: Sequence[str]) -> Iterator[str]:
    counts = data.gathered.survey.spool.views()
    kept = {view: number for view, number in counts.items() if view is not None and view in views}
    left = {view: number for view, number in counts.items() if view is not None and view not in views}
    untold = counts.get(None, 0)
    yield f"Views: {_list(kept) or ('no image names one' if untold and not left else 'none is kept')}."
    if untold:
        told = [view for view in ("FRONTAL", "LATERAL") if view in views]
        yield (
            f"  {untold:,} {_have(untold)} no view: the screening tells whether they are FRONTAL or LATERAL when they "
            f"are decoded, and {' and '.join(told) or 'none of them'} stays, as --views says."
        )
    if left:
        every = ",".join(sorted({*views, *left}))
        yield f"  Left out: {_list(left)}. --views {shlex.quote(every)} keeps them."
    if odd := data.gathered.survey.unknown_views:
        yield f"  No known views: {_list(dict(odd.most_common(8)))}. --views names what is to be kept."


def _splits(data: OwnData) -> Iterator[str]:
    counts: Counter[str] = Counter()
    for record in data.gathered.survey.spool.records():
        counts[data.split_of(record)] += 1
    ((_, variant),) = data.splits.items()
    outside = f", in no split {counts['']:,}" if counts[""] else ""
    sizes = ", ".join(f"{split} {counts[split]:,}" for split in SPLITS)
    yield f"Splits: {sizes}{outside}; by {shown(variant.rule, 200)}."
    if empty := [split for split in SPLITS if not counts[split]]:
        by_column = "split" in data.gathered.survey.understood.columns
        advice = "--split none draws all three by patient" if by_column else "of few patients, give a column of splits"
        yield f"  No image is in {' and '.join(empty)}: training needs train and validate; {advice}."
    if leaking := data.gathered.survey.spool.patients_in_several_splits():
        names = ", ".join(map(shown, leaking[:3])) + (" and others" if len(leaking) > 3 else "")
        have = "patients have" if len(leaking) > 1 else "patient has"
        yield (
            f"  LEAK: {len(leaking):,} {have} images in several splits: {names}. They stay as the table has them; "
            "--split none draws splits by patient."
        )


def _contents(data: OwnData) -> Iterator[str]:
    """Yield the lines on labels, reports and boxes."""
    values: dict[str, Counter[int | None]] = {name: Counter() for name in data.labels}
    boxes: Counter[str] = Counter()
    annotated = masks = with_text = 0
    for record in data.gathered.survey.spool.records():
        for name, value in zip(data.labels, data.values(record), strict=True):
            values[name][value] += 1
        annotated += record.boxes is not None
        boxes.update(str(name) for name, *_ in record.boxes or ())
        masks += bool(record.mask)
        with_text += bool(record.texts)
    if values:
        width = max(map(len, values))
        yield f"Labels: {len(values):,}."
        yield f"  {'':<{min(width, 40)}} {'present':>9} {'absent':>9} {'uncertain':>9} {'blank':>9}"
        for name, counts in islice(values.items(), MANY):
            numbers = " ".join(f"{counts[value]:>9,}" for value in (1, 0, -1, None))
            yield f"  {shown(name):<{min(width, 40)}} {numbers}"
        if len(values) > MANY:
            yield f"  and {len(values) - MANY} more"
    else:
        yield "Labels: none."
    if data.has_reports:
        yield from _reports(data, with_text)
    else:
        yield "Reports: none."
    if annotated:
        names = _list(dict(boxes.most_common(12))) or "none"
        yield f"Boxes: {sum(boxes.values()):,} in {annotated:,} annotated images: {names}."
    if data.gathered.sources.masks or masks:
        yield f"Masks: {masks:,}."


def _reports(data: OwnData, with_text: int) -> Iterator[str]:
    # The parser reads its vocabulary when it is imported.
    from medvlp.parse.language import is_english

    images = data.gathered.survey.spool.count("path")
    yield f"Reports: {with_text:,} of {images:,} images have one in their row; a study shares its report."
    if with_text < images:
        yield "  Studies without any are left out. To keep all: --report none --findings none --impression none."
    counts: Counter[str] = Counter()
    foreign = 0
    examples: list[str] = []
    records = (record for record in data.gathered.survey.spool.records() if record.texts)
    for record in islice(records, READ):
        try:
            report = read_texts(record.texts)
        except LeftOutError:
            continue
        foreign += not is_english((report.findings or "", report.impression or ""))
        kind = {(True, True): "both", (True, False): "findings alone", (False, True): "impression alone"}
        counts[kind.get((bool(report.findings), bool(report.impression)), "neither")] += 1
        if len(examples) < 3 and (report.findings or report.impression):
            parts = (("findings", report.findings), ("impression", report.impression))
            examples.append("; ".join(f"{name}: {shown(text, 60)}" for name, text in parts if text))
    of = f"of the first {READ:,}" if with_text > READ else "of these"
    yield f"  {of}: {_list(counts)}."
    if foreign:
        yield f"  {foreign:,} of them are not in English: training reads them, the parser finds no triplets in them."
    yield from (f"  e.g. {example}" for example in examples)


def shown(text: str, longest: int = LONGEST) -> str:
    """Return a text for the screen: on one line, short, without characters that a terminal obeys."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 4 * longest]).split())
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{shown(name)} {number:,}" for name, number in counts.items())


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _have(number: int) -> str:
    return "image has" if number == 1 else "images have"


def command_line(command: Callable[..., None], given: Mapping[str, Any], data: OwnData) -> list[str]:
    """Return the words of the command line that names every column that was understood.

    Args:
        command: The command, `table`. Options with their default value are left away.
        given: Value of each of its options.
        data: The images.
    """
    understood = data.gathered.survey.understood
    settled: dict[str, Any] = {name: value for name, value in given.items() if name != "dry_run"}
    if data.gathered.profile:
        settled |= {meaning: understood.columns.get(meaning, given[meaning]) for meaning in MEANINGS}
        labels, corners = understood.labels, understood.corners
        columns = [labels.listed] if labels.listed else [*labels.columns.values()]
        # A name with a comma would be taken for two.
        settled["labels"] = given["labels"] if any("," in name for name in columns) else ",".join(columns)
        settled["labels"] = settled["labels"] or ("" if labels.of_boxes else "none")
        if corners and not any("," in name for name in corners.columns):
            settled |= {"boxes": ",".join(corners.columns), "box_format": corners.form}
    defaults = {name: parameter.default for name, parameter in signature(command).parameters.items()}
    words = ["medvlp", "prepare", "table"]
    for name in given:
        value = settled.get(name)
        if value not in (None, "") and value != defaults[name]:
            words += [f"--{name}", str(value)]
    return words
