"""The truth of phrase grounding: the phrases of an image, their boxes, and where the boxes come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from medvlp.data.dataset import PreparedDataset
from medvlp.prepared import Prepared
from medvlp.types import entry_of

# The sources of regions in a prepared folder, each with a caveat for its results.
RegionSource = Literal["scene graphs", "automatic"]
BOXES_OF: dict[str, str] = {
    "scene graphs": "the boxes are those of Chest ImaGenome's detector (silver, not drawn by people)",
    "automatic": "the boxes are those of medvlp's own localiser: this is agreement with it, and no truth",
}
PAIRS = "which sentence is about which region is what medvlp's own rules say, those that region alignment learns from."
OTHERWISE: dict[str, str] = {
    "scene graphs": "Prepare it with --scene_graphs, or take grounding-regions (config grounding/regions), whose "
    "figure is called what it is, agreement with medvlp's own localiser.",
    "automatic": "Prepare it with --regions automatic and without --scene_graphs, or, if it has scene graphs, take "
    "grounding-chest-imagenome (config grounding/chest_imagenome).",
}
Box: TypeAlias = npt.NDArray[np.float32]


class Phrase(NamedTuple):
    """A phrase to localise in one image.

    Attributes:
        name: The annotators' name of the object; None if the boxes are those of regions.
        text: The text for the model.
        boxes: All boxes of the phrase, (n, 4), in pixels of the stored image.
    """

    name: str | None
    text: str
    boxes: npt.NDArray[np.float32]


def object_phrases(dataset: PreparedDataset, i: int, phrases: Mapping[str, str]) -> list[Phrase]:
    """Return the phrases of the annotated objects in image i.

    Args:
        dataset: Data set with objects.
        i: Number of the image.
        phrases: Phrases for objects that have a name but no phrase, by name, in any case. By default the name in lower
            case.
    """
    assert dataset.objects is not None
    named = dataset.objects.named(i)
    return _joined((name, phrase or entry_of(name, phrases) or name.lower(), box) for name, phrase, box in named)


def region_phrases(dataset: PreparedDataset, i: int) -> list[Phrase]:
    """Return the sentences of the report of image i, each with the regions that it is about."""
    return _joined(_region_boxes(dataset, i))


def region_caveat(prepared: Prepared) -> str:
    """Return the caveat of results whose truth are the regions of a prepared folder."""
    boxes = BOXES_OF.get(_region_source(prepared))
    return f"{boxes}; {PAIRS}" if boxes else PAIRS


def unsuitable_source(prepared: Prepared, required: RegionSource) -> str | None:
    """Return why a prepared folder has no regions from the required source; None if it has."""
    source = _region_source(prepared)
    if source == required:
        return None
    owners = {"scene graphs": "those of scene graphs", "automatic": "medvlp's own localiser's"}
    regions = owners.get(source, "none")
    return f"region_source='{required}', but the regions in root='{prepared.root}' are {regions}. {OTHERWISE[required]}"


def _joined(boxes: Iterable[tuple[str | None, str, Box]]) -> list[Phrase]:
    """Join the boxes of one name and one phrase."""
    joined: dict[tuple[str | None, str], list[Box]] = {}
    for name, text, box in boxes:
        joined.setdefault((name, text), []).append(box)
    return [Phrase(*key, np.stack(of_phrase)) for key, of_phrase in joined.items()]


def _region_boxes(dataset: PreparedDataset, i: int) -> Iterator[tuple[None, str, Box]]:
    sentence, region, boxes = dataset.spoken(i)
    for text, aligned in zip(sentence.text, region.aligned.T, strict=True):
        for box in boxes[aligned]:
            yield None, text, box


def _region_source(prepared: Prepared) -> str:
    """Return the source of the regions, as in `BOXES_OF`; `none` if there are none, or no source is on record."""
    return str(prepared.manifest["options"].get("regions", "none")).partition(",")[0]
