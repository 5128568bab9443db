"""The session behind the page: a model and the images that are open."""

from __future__ import annotations

import base64
import io
import re
import secrets
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from medvlp import __version__
from medvlp.errors import UserError
from medvlp.inference.drawing import TISSUE, Bytes, coloured, enlarge, tint
from medvlp.inference.explain import FRAME, MEANING, PROTOCOL, SCORE, Radiograph, heat_maps, scale_of
from medvlp.inference.model import DEFAULT_FINDINGS, Model
from medvlp.phantom.images import image
from medvlp.phantom.study import patients, sample
from medvlp.types import HeatSource, ImageFeatures

# Number of images in memory; the least recently used one is dropped first.
KEPT = 8
# Longest side, in pixels, of the images on the page.
LONGEST = 1200
MOST_FINDINGS, LONGEST_FINDING = 100, 300


class Desk:
    """A session: a model and the images that are open, which stay in memory only.

    Args:
        model: The model.
        name: Name of the model on the page.
    """

    def __init__(self, model: Model, name: str) -> None:
        self.model, self.name = model, name
        self._images: OrderedDict[str, tuple[Radiograph, ImageFeatures]] = OrderedDict()
        # Requests run in several threads.
        self._lock = threading.Lock()

    def about(self) -> dict[str, Any]:
        """Return the description of the model and the legends for the page."""
        colours = coloured(np.full((256, 1), TISSUE, np.uint8), np.linspace(1, 0, 256)[:, None])
        return {
            "version": __version__,
            "name": self.name,
            "trained_on": {key: self.model.task.trained_on.get(key) for key in ("dataset", "images", "synthetic")},
            "sources": {source: MEANING[source] for source in self.model.heat_sources},
            "findings": list(DEFAULT_FINDINGS),
            "score": SCORE,
            "frame": FRAME,
            "scale": as_url(colours),
        }

    def put(self, content: bytes) -> dict[str, Any]:
        """Open an image: decode and encode the content of an image file.

        Raises:
            LeftOutError: If the content cannot be decoded.
        """
        # Decoders need a path, so the content lies in a temporary file while it is read.
        with tempfile.TemporaryDirectory(prefix="medvlp-") as folder, self._lock:
            path = Path(folder, "image")
            path.write_bytes(content)
            radiograph = Radiograph.read(path, self.model.preprocessing, LONGEST)
            key = secrets.token_urlsafe(16)
            self._images[key] = radiograph, self.model.features(radiograph.seen[None])
            while len(self._images) > KEPT:
                self._images.popitem(last=False)
        height, width = radiograph.grey.shape
        return {
            "key": key,
            "image": as_url(radiograph.grey),
            "window": [edge / side for edge, side in zip(radiograph.window, (width, height) * 2, strict=True)],
            "caveat": radiograph.caveat if radiograph.flags else "",
        }

    def put_synthetic(self) -> dict[str, Any]:
        """Draw a synthetic radiograph with findings and open it; the result also lists the findings."""
        seed = secrets.randbelow(1 << 31)
        studies = (study for patient in patients(seed, 1000) for study in sample(seed, *patient) if study.findings)
        study, shot = next((study, shot) for study in studies for shot in study.shots if shot.view != "LATERAL")
        drawn = [" ".join(filter(None, (finding.side, finding.name))) for finding in study.findings]
        return self.put(as_png(image(study, shot, LONGEST).pixels)) | {"drawn": drawn}

    def scores(self, key: str, findings: str) -> dict[str, Any]:
        """Score tags, and findings that are separated by commas, semicolons or line breaks.

        Raises:
            UserError: If the image is no longer open, or findings are too many or too long.
        """
        texts = list(dict.fromkeys(filter(None, (" ".join(part.split()) for part in re.split(r"[,;\n]", findings)))))
        if len(texts) > MOST_FINDINGS or any(len(text) > LONGEST_FINDING for text in texts):
            raise UserError(f"at most {MOST_FINDINGS} findings of {LONGEST_FINDING} letters each, please.")
        with self._lock:
            _, features = self._image(key)
            # A model without a joint space has no scores, but may have heat maps.
            scores = self.model.scores(features, texts, PROTOCOL)[0].tolist() if texts and self.model.spaces else None
            tags = self.model.tags(features)[0].tolist() if self.model.tag_names else []
        rows = zip(texts, scores or [None] * len(texts), strict=True)
        return {"findings": list(rows), "tags": list(zip(self.model.tag_names, tags, strict=True))}

    def heat_map(self, key: str, text: str, source: str) -> dict[str, Any]:
        """Return the coloured heat map of a text, and its scale.

        Raises:
            UserError: If the image is no longer open, the text is too long, or the model has no such heat map.
        """
        if len(text) > LONGEST_FINDING:
            raise UserError(f"a finding of at most {LONGEST_FINDING} letters, please.")
        kind = cast("HeatSource", source)
        with self._lock:
            radiograph, _ = self._image(key)
            heat = heat_maps(self.model, radiograph, [text], kind)
        scale = scale_of(heat, kind)
        shares = scale.share(enlarge(heat[0], radiograph.grey.shape, radiograph.window))
        return {"image": as_url(tint(shares)), "low": scale.low, "high": scale.high, "name": scale.name}

    def _image(self, key: str) -> tuple[Radiograph, ImageFeatures]:
        if key not in self._images:
            raise UserError("this image is no longer in memory: open it again.")
        self._images.move_to_end(key)
        return self._images[key]


def as_png(pixels: Bytes) -> bytes:
    """Encode grey, RGB or RGBA pixels as a PNG file."""
    file = io.BytesIO()
    # Speed matters more than size, because browser and server usually share a machine.
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def as_url(pixels: Bytes) -> str:
    """Return pixels as a data URL of a PNG."""
    return f"data:image/png;base64,{base64.b64encode(as_png(pixels)).decode()}"
