"""`medvlp explain`: draws the heat maps of texts over a radiograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from torch import Tensor

from medvlp.config.options import split_commas
from medvlp.data.preprocessing import Preprocessing, Window
from medvlp.errors import LeftOutError, UserError
from medvlp.inference.drawing import Bytes, Panel, Scale, draw, holds
from medvlp.inference.model import Model
from medvlp.metrics.grounding import Map
from medvlp.prepare.images import read_image
from medvlp.prepare.regions import Square
from medvlp.prepare.screening import FLAGS, screen
from medvlp.types import HeatSource

FORMATS = (".png", ".jpg", ".jpeg")
# Name of the quantity of a map, and its neutral value: only values above it are coloured.
QUANTITY = {
    "region": ("cosine", 0.0),
    "patch": ("cosine", 0.0),
    "global": ("cosine", 0.0),
    "tag": ("attention, as a multiple of its mean", 1.0),
}
MEANING = {
    "region": "Colour: cosine of each place with the text, in the joint space of regions and sentences.",
    "patch": "Colour: cosine of each patch with the text, in the joint space of patches and texts.",
    "global": "Colour: cosine of each place with the text, in the joint space of whole images and reports.",
    "tag": "Colour: where the tag decoder looks for the tag, as a multiple of its mean.",
}
PROTOCOL = "medvlp"
SCORE = "Score, 0 to 1 by protocol medvlp: above 0.5 the image is nearer to the text than to a normal report."
FRAME = "The model has not looked outside the dashed frame."
CAUTION = "For research, not for clinical use."


@dataclass(frozen=True)
class Radiograph:
    """A radiograph and the model's input made from it.

    Attributes:
        grey: The radiograph, uint8 (H, W).
        seen: The model's input, uint8 (crop, crop).
        window: Window of `seen`: x1, y1, x2, y2 in pixels of `grey`. It extends beyond `grey` if `seen` has padding.
        flags: Flags raised by the screening; see `medvlp.prepare.screening`.
    """

    grey: Bytes
    seen: Tensor
    window: Window
    flags: tuple[str, ...] = ()

    @property
    def caveat(self) -> str:
        """The flags as a sentence."""
        return f"Perhaps no frontal chest radiograph: {'; '.join(FLAGS[flag] for flag in self.flags)}."

    @classmethod
    def read(cls, path: Path, seeing: Preprocessing, longest: int | None = None) -> Radiograph:
        """Read an image file.

        Args:
            path: The file.
            seeing: The preprocessing of the model.
            longest: Greatest length of the longer side of `grey` in pixels; by default the image keeps its size.

        Raises:
            LeftOutError: If the file does not exist or cannot be decoded completely.
        """
        prepared, geometry = read_image(str(path), seeing.size, seeing.fit)
        flags = tuple(screen(str(path), Square(prepared, geometry)))
        side = max(geometry.height, geometry.width)
        # Padding to a square whose side is the image's longer side does not resample the image.
        square, frame = read_image(str(path), min(side, longest or side), "pad")
        (left, top), (width, height) = frame.corner, frame.inner
        x, y = width / geometry.width, height / geometry.height
        x1, y1, x2, y2 = seeing.window(geometry)
        grey, pixels = square[top : top + height, left : left + width], torch.from_numpy(seeing.see(prepared))
        return cls(grey, pixels, (x * x1, y * y1, x * x2, y * y2), flags)


def heat_maps(model: Model, radiograph: Radiograph, texts: Sequence[str], source: HeatSource) -> Map:
    """Return the heat maps of M texts, (M, h, w), on the grid of patches.

    Those of source `tag` are multiples of their means.

    Raises:
        UserError: If the model has no heat maps from this source, or none for one of the texts.
    """
    image = radiograph.seen[None].to(model.task.device)
    with torch.inference_mode():
        heat: Map = model.task.text_heat_maps(image, list(texts), source)[0].cpu().double().numpy()
    # Attention sums to 1, so its values would shrink with a finer grid.
    return heat / heat.mean((1, 2), keepdims=True) if source == "tag" else heat


def scale_of(heat: Map, source: HeatSource) -> Scale:
    """Return the common scale of heat maps from a source."""
    name, nothing = QUANTITY[source]
    least, most = float(heat.min()), float(heat.max())
    # If no value is above the neutral one, nothing is coloured.
    return Scale(max(least, nothing), most, name) if most > nothing else Scale(nothing, nothing + 1, name)


def picture(
    radiograph: Radiograph, texts: Sequence[str], scores: Sequence[float] | None, heat: Map, source: HeatSource
) -> Image.Image:
    """Draw a radiograph alone and with each of M heat maps, side by side, with one colour scale for all maps.

    Args:
        radiograph: The radiograph.
        texts: The M texts.
        scores: Scores of the texts; None if the model computes none.
        heat: Heat maps of the texts, (M, h, w).
        source: Source of the heat maps.
    """
    notes = [""] * len(texts) if scores is None else [f"score {score:.2f}" for score in scores]
    panels = [Panel(*columns) for columns in zip(texts, notes, heat, strict=True)]
    panels.insert(0, Panel("Radiograph", ", ".join(radiograph.flags)))
    below = [MEANING[source], SCORE if scores else "", CAUTION]
    if not holds(radiograph.window, radiograph.grey.shape):
        below.insert(1, FRAME)
    return draw(radiograph.grey, panels, scale_of(heat, source), radiograph.window, " ".join(filter(None, below)))


def explain(
    image: Path,
    *,
    weights: Path,
    text: list[str],
    out: Path = Path("explained.png"),
    source: HeatSource | None = None,
    device: str | None = None,
    trust: str = "",
) -> None:
    """Draw the heat maps of texts over a radiograph, beside the radiograph alone, at its own resolution.

    A radiograph whose sides are both shorter than 480 pixels is enlarged.

    Args:
        image: JPEG, PNG, DICOM or other image file.
        weights: A checkpoint of `medvlp fit`, a folder of `medvlp export`, or a published pair of encoders, such as
            biomedclip, biovil-t, medsiglip, chexzero:FILE, open_clip:... or hf:...
        text: Text to locate, such as "left pleural effusion"; repeat the option to see several side by side.
        out: The picture to write.
        source: Source of the heat maps: `region` and `global` compare places of the image with the text, `tag` is the
            attention of the tag decoder. By default the first of these that the model has.
        device: Device to compute on; by default a GPU if there is one.
        trust: Packages other than medvlp whose classes the weights may name, separated by commas.

    Raises:
        UserError: If an argument is wrong, the image or the weights cannot be read, or the picture cannot be written.
    """
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"--out '{out}' must end in one of {', '.join(FORMATS)}.")
    if out.resolve() == image.resolve():
        raise UserError(f"--out '{out}' is the image itself: name another file.")
    if not all(entry.strip() for entry in text):
        raise UserError("--text is empty: name a finding, such as 'left pleural effusion'.")
    model = Model.load(weights, device, split_commas(trust))
    if not model.heat_sources:
        raise UserError(f"--weights '{weights}': none of the model's objectives has heat maps.")
    source = source or model.heat_sources[0]
    try:
        radiograph = Radiograph.read(image, model.preprocessing)
    except LeftOutError as error:
        raise UserError(f"image '{image}' cannot be read: {error}.") from error
    heat = heat_maps(model, radiograph, text, source)
    scores = model.scores(radiograph.seen[None], text, PROTOCOL)[0].tolist() if model.spaces else None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        picture(radiograph, text, scores, heat, source).save(out, quality=95)
    except OSError as error:
        raise UserError(f"--out '{out}' cannot be written: {error.strerror or error}.") from error
    table = Table("text", *(Column(name, justify="right") for name in ("score", "least", "most")))
    for entry, score, part in zip(text, scores or [None] * len(text), heat, strict=True):
        values = (part.min(), part.max()) if score is None else (score, part.min(), part.max())
        table.add_row(escape(entry), *[""] * (3 - len(values)), *(f"{value:.3f}" for value in values))
    console = Console()
    if radiograph.flags:
        console.print(radiograph.caveat, style="yellow")
    console.print(table)
    legend = [
        "" if scores is None else SCORE,
        f"Least and most: of the heat map ({source}), {QUANTITY[source][0]}.",
        CAUTION,
    ]
    console.print(" ".join(filter(None, legend)), style="dim", highlight=False)
    console.print(f"The picture is in {out}.", markup=False, highlight=False)
