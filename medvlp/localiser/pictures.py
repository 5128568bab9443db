"""Pictures of the phantom with their truth, and augmentations that cover the variety of real radiographs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import cv2
import numpy as np
import numpy.typing as npt

from medvlp.phantom import anatomy, findings, frontal
from medvlp.phantom.geometry import Array, Canvas
from medvlp.phantom.images import image as draw
from medvlp.phantom.render import Layers, develop, frame_of
from medvlp.phantom.study import patients, sample
from medvlp.phantom.world import Body, Shot, Study
from medvlp.prepare.regions.lung_fields import INPUT_SIDE, MASK_SIDE, network_input

Bytes = npt.NDArray[np.uint8]

KEPT = MASK_SIDE
# Share of the pictures that are destroyed, so that the network learns to find nothing where there is no chest.
SPOILT = 0.12
# Half the width of the spine in cm. Human readers draw a lung up to the spine, also behind the heart.
SPINE = 2.0


@dataclass(frozen=True)
class Picture:
    """A picture, squashed to a square.

    Attributes:
        pixels: Grey levels (KEPT, KEPT).
        masks: Masks of right lung, left lung and heart, 0 to 255, (3, KEPT, KEPT).
        boxes: Boxes of the 29 regions, (29, 4): x1, y1, x2, y2 in shares of the picture, not clipped to it.
    """

    pixels: Bytes
    masks: Bytes
    boxes: npt.NDArray[np.float64]


def pictures(count: int, seed: int, vary: bool) -> list[Picture]:
    """Return frontal pictures of the phantom.

    Args:
        count: Number of pictures.
        seed: Seed of the phantom.
        vary: Whether to vary bodies, framing and materials far beyond the phantom's own range.
    """
    shots = ((study, shot) for study in studies(seed) for shot in study.shots if shot.view != "LATERAL")
    return [
        _picture(study, shot, np.random.default_rng([seed, number]) if vary else None)
        for number, (study, shot) in enumerate(islice(shots, count))
    ]


def laterals(count: int, seed: int) -> list[Picture]:
    """Return lateral pictures of the phantom, whose masks are empty: the network must find nothing in them."""
    shots = ((study, shot) for study in studies(seed) for shot in study.shots if shot.view == "LATERAL")
    return [
        Picture(kept(draw(study, shot, KEPT).pixels), np.zeros((3, KEPT, KEPT), np.uint8), np.zeros((29, 4)))
        for study, shot in islice(shots, count)
    ]


def studies(seed: int) -> Iterator[Study]:
    """Yield studies of the phantom without end."""
    for patient in patients(seed, 10_000_000):
        yield from sample(seed, *patient)


def _picture(study: Study, shot: Shot, rng: np.random.Generator | None) -> Picture:
    body = study.body
    if rng is not None:
        body, shot = _other_body(body, shot, rng)
    canvas = Canvas(frame_of(shot, KEPT))
    thorax = anatomy.thorax(body, shot, study.findings)
    layers, vessels, fields = frontal.normal(canvas, thorax, shot)
    findings.draw(canvas, thorax, layers, vessels, fields, study.findings)
    if rng is not None:
        other_materials(canvas, layers, rng)
    masks = []
    for side, sign in anatomy.SIGN.items():
        outline = thorax.lungs[side].copy()
        outline[:, 0] = sign * np.maximum(sign * outline[:, 0], SPINE)
        masks.append(canvas.fill(outline) > 0.5)
    masks.append(layers.masks["heart"])
    corners = [canvas.frame.to_pixels(box) for box in anatomy.regions(thorax).values()]
    boxes = np.array([[*box.min(axis=0), *box.max(axis=0)] for box in corners])
    return Picture(
        kept(develop(layers, shot, canvas)),
        np.stack([kept(mask.astype(np.uint8) * 255) for mask in masks]),
        boxes / ([canvas.frame.width, canvas.frame.height] * 2),
    )


def _other_body(body: Body, shot: Shot, rng: np.random.Generator) -> tuple[Body, Shot]:
    u = rng.uniform
    wide, tall = float(u(11, 15.5)), float(u(18, 28))
    body = replace(
        body, half_width=wide, lung_height=tall, fat=u(0, 1.3), heart_ratio=float(u(0.36, 0.6)), dome=float(u(2.5, 6))
    )
    lungs = tall * shot.inspiration
    height = lungs + float(u(3, 24))
    shot = replace(
        shot,
        field=(2 * wide + float(u(1, 20)), height),
        centre=(float(rng.normal(0, 1.5)), height / 2 - (height - lungs) * float(u(0.15, 0.6))),
        degrees=float(rng.normal(0, 4)),
        turn=float(rng.normal(0, 1)),
        contrast=float(u(0.7, 1.3)),
        exposure=float(rng.normal(0, 1)),
    )
    return body, shot


def other_materials(canvas: Canvas, layers: Layers, rng: np.random.Generator) -> None:
    """Change the thickness of all tissues, in place."""
    u = rng.uniform
    layers.lung *= u(0.5, 1.5)
    layers.bone *= u(0.3, 2.2)
    layers.soft *= u(0.2, 1.6)
    layers.air *= u(0.2, 1.5)
    layers.body = np.maximum(layers.body * (1 + np.float32(u(0, 0.12)) * canvas.noise(rng, u(3, 12))), 0)


def kept(pixels: Bytes) -> Bytes:
    """Return a picture squashed to a square of side KEPT."""
    return np.asarray(cv2.resize(pixels, (KEPT, KEPT), interpolation=cv2.INTER_AREA), np.uint8)


def augment(picture: Picture, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """Return the network's input for a picture with changed contrast, content and shape, and the matching masks."""
    image, *masks = _other_shape(other_content(picture, rng), picture.masks, rng)
    if rng.random() < SPOILT:
        image, masks = spoilt(image, rng), [np.zeros_like(image)] * len(masks)
    return network_input(other_archive(image, rng)), np.stack(masks)


def other_content(picture: Picture, rng: np.random.Generator) -> Array:
    """Return the pixels of a picture with other exposure, opacities, objects and noise."""
    u = rng.uniform
    image = picture.pixels.astype(np.float32)
    right, left, heart = picture.masks.astype(np.float32) / 255
    # Darker or brighter lungs, uneven exposure, and sometimes one white lung.
    image += _blur(np.maximum(right, left) * (1 - 0.8 * heart), u(0.8, 4)) * u(-60, 15)
    image += smooth(rng, KEPT, int(rng.integers(2, 6))) * u(0, 30)
    if u() < 0.12:
        image += _blur((right, left)[rng.integers(2)], 2) * u(40, 150)
    # Opacities, gas, breasts, and objects on the patient.
    for _ in range(rng.integers(5)):
        blob = np.zeros_like(image)
        centre, axes = rng.integers(0, KEPT, 2).tolist(), rng.integers(3, KEPT // 3, 2).tolist()
        cv2.ellipse(blob, centre, axes, u(0, 180), 0, 360, 1, -1)
        image += _blur(blob, u(0.5, 6)) * u(-70, 90)
    if u() < 0.5:
        image = _blur(image, u(0.3, 1.6))
    image += rng.standard_normal(image.shape, np.float32) * u(0, 10)
    return np.asarray(np.clip(image, 0, 255), np.float32)


def _other_shape(image: Array, masks: Bytes, rng: np.random.Generator) -> list[Bytes]:
    u = rng.uniform
    scale, angle = u(0.85, 1.3, 2), np.radians(rng.normal(0, 4))
    turn = np.array([[np.cos(angle), np.sin(angle)], [u(-0.08, 0.08) - np.sin(angle), np.cos(angle)]])
    places = np.stack(np.meshgrid(*[(np.arange(INPUT_SIDE) + 0.5) / INPUT_SIDE - 0.5] * 2), axis=-1) + u(-0.08, 0.08, 2)
    source = (places / scale @ turn + 0.5) * KEPT - 0.5
    bend = u(0, 2.5)
    source += bend * np.stack([smooth(rng, INPUT_SIDE, 5), smooth(rng, INPUT_SIDE, 5)], axis=-1)
    x, y = source[..., 0].astype(np.float32), source[..., 1].astype(np.float32)
    edge = (cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT)[rng.integers(3)]
    outside = u(0, 255) if u() < 0.3 else 0.0
    moved = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=edge, borderValue=outside)
    return [moved.astype(np.uint8), *(np.asarray(cv2.remap(mask, x, y, cv2.INTER_LINEAR), np.uint8) for mask in masks)]


def spoilt(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Return a picture (INPUT_SIDE, INPUT_SIDE) turned or cut into shuffled tiles, or one of noise and ellipses."""
    kind = rng.integers(3)
    if kind == 0:
        return np.asarray(np.rot90(image, int(rng.integers(1, 4))), np.uint8)
    if kind == 1:
        side = INPUT_SIDE // int(rng.choice([2, 4, 8]))
        tiles = image.reshape(INPUT_SIDE // side, side, INPUT_SIDE // side, side).swapaxes(1, 2).reshape(-1, side, side)
        rows = rng.permutation(tiles).reshape(INPUT_SIDE // side, INPUT_SIDE // side, side, side)
        return np.asarray(rows.swapaxes(1, 2).reshape(INPUT_SIDE, INPUT_SIDE), np.uint8)
    noise = 128 + rng.uniform(10, 90) * smooth(rng, INPUT_SIDE, int(rng.integers(2, INPUT_SIDE)))
    for _ in range(rng.integers(6)):
        centre, axes = rng.integers(0, INPUT_SIDE, 2).tolist(), rng.integers(2, INPUT_SIDE // 2, 2).tolist()
        cv2.ellipse(
            noise, centre, axes, rng.uniform(0, 180), 0, 360, rng.uniform(0, 255), int(rng.integers(-1, 4)) or -1
        )
    return np.asarray(np.clip(noise, 0, 255), np.uint8)


def other_archive(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Return a picture (INPUT_SIDE, INPUT_SIDE) with another gamma, letters and a border, as archives differ."""
    u = rng.uniform
    if u() < 0.3:
        image = (255 * (image / 255) ** u(0.5, 2)).astype(np.uint8)
    if u() < 0.3:
        image = np.asarray(cv2.createCLAHE(u(1, 4), (int(rng.integers(2, 6)),) * 2).apply(image), np.uint8)
    image = np.array(image, order="C")
    for _ in range(rng.integers(3)):
        text = "".join(rng.choice(list("LRAPSUPINE1234"), rng.integers(1, 6)))
        place = rng.integers(0, INPUT_SIDE, 2).tolist()
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, u(0.15, 0.5), u(180, 255), 1)
    if u() < 0.3:
        left, top, right, bottom = (u(0, 0.12, 4) * (u(0, 1, 4) < 0.6) * INPUT_SIDE).astype(int)
        value = 0 if u() < 0.7 else u(0, 255)
        image[:, :left] = image[:top] = image[:, INPUT_SIDE - right :] = image[INPUT_SIDE - bottom :] = value
    return image


def _blur(image: Array, sigma: float) -> Array:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def smooth(rng: np.random.Generator, side: int, cells: int) -> Array:
    """Return smooth noise (side, side), of unit strength at its nodes, `cells` along a side."""
    lattice = rng.standard_normal((cells, cells), np.float32)
    return np.asarray(cv2.resize(lattice, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)
