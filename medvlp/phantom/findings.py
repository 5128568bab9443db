"""The drawing of findings into the frontal layers, at their anatomical place."""

from __future__ import annotations

import numpy as np

from medvlp.phantom.anatomy import SIGN, Thorax
from medvlp.phantom.devices import device
from medvlp.phantom.geometry import Array, Canvas, Points, ellipse, points, spline
from medvlp.phantom.render import Layers
from medvlp.phantom.world import DEVICES, Finding, stream

LEVEL = {"mild": 0, "moderate": 1, "severe": 2}
ZONE_V = {"upper": 0.25, "mid": 0.50, "lower": 0.76}


def draw(
    canvas: Canvas, t: Thorax, layers: Layers, vessels: Array, fields: Array, findings: tuple[Finding, ...]
) -> None:
    """Add the findings and their masks to the layers, then the vessels that remain visible."""
    vessels = vessels * canvas.fill(*t.lungs.values())
    for f in findings:
        if f.name == "edema":
            vessels = _edema(canvas, t, layers, vessels, fields, f)
        elif f.name == "pneumothorax":
            vessels = _pneumothorax(canvas, t, layers, vessels, fields, f)
        elif f.name == "pleural effusion":
            vessels = _effusion(canvas, t, layers, vessels, f)
        elif f.name == "consolidation":
            vessels = _consolidation(canvas, t, layers, vessels, fields, f)
        elif f.name == "atelectasis":
            _atelectasis(canvas, t, layers, fields, f)
        elif f.name == "nodule":
            _nodule(canvas, t, layers, f)
        elif f.name == "cardiomegaly":
            layers.masks[f.name] = layers.masks["heart"]
        elif f.name in DEVICES:
            metal = device(canvas, t, f)
            layers.metal += metal
            layers.masks[f.name] = metal > 0.01
    layers.soft += vessels


def _mark(layers: Layers, name: str, mask: Array, level: float) -> None:
    drawn = mask > level
    layers.masks[name] = layers.masks[name] | drawn if name in layers.masks else drawn


def _seed(t: Thorax, f: Finding) -> np.random.Generator:
    return stream(t.body.key, int(f.place[0] * 1e6), int(f.place[1] * 1e6))


def _effusion(canvas: Canvas, t: Thorax, layers: Layers, vessels: Array, f: Finding) -> Array:
    level = LEVEL[f.severity]
    for side in f.sides:
        sign = SIGN[side]
        top = t.height - (5.0, 9.5, 15.0)[level] * (0.9 + 0.25 * f.place[0])
        dip = (2.6, 3.2, 2.4)[level]
        u = np.linspace(0, 1.06, 20)
        rise = np.abs(u - 0.25) ** 2.2 / 0.6
        line = np.stack([sign * u * t.width, top + dip * (1 - rise)], axis=1)
        pool = np.vstack([line, points([(sign * 1.06 * t.width, 1.3 * t.height), (0, 1.3 * t.height)])])
        inside = canvas.fill(t.lungs[side]) * canvas.blur(canvas.fill(pool), 0.35)
        layers.lung *= 1 - 0.97 * inside
        vessels = np.asarray(vessels * (1 - inside), np.float32)
        _mark(layers, f.name, inside, 0.4)
    return vessels


def _pneumothorax(canvas: Canvas, t: Thorax, layers: Layers, vessels: Array, fields: Array, f: Finding) -> Array:
    level = LEVEL[f.severity]
    side = str(f.side)
    sign = SIGN[side]
    gap = (3.0, 4.8, 7.5)[level] * (0.9 + 0.2 * f.place[0])
    h = t.height
    # The collapsed lung keeps the form of the chest wall; the space is widest at the apex of an upright patient.
    wall = t.walls[side]
    rows = wall[:, 1] / h
    taper = np.clip(1.0 - rows * (1.15, 0.8, 0.35)[level], 0.06, 1)
    inward = np.maximum(np.abs(wall[:, 0]) - gap * taper * np.clip(0.35 + 3 * rows, 0, 1), 1.6)
    pleura = np.stack([sign * inward, 0.9 * gap + rows * (h - 0.9 * gap)], axis=1)
    pleura = np.vstack([points([(sign * 0.8, 0.9 * gap + 1.2)]), pleura])
    lung = np.vstack([pleura, points([(pleura[-1, 0], 1.2 * h), (sign * 0.2, 1.2 * h), (sign * 0.2, gap)])])
    space = canvas.fill(t.lungs[side]) * (1 - canvas.fill(lung)) * fields
    layers.air += layers.lung * space
    layers.lung *= 1 - space
    # A lung with less volume is denser.
    inner = canvas.fill(t.lungs[side]) * (1 - space)
    layers.lung *= 1 - (0.06, 0.16, 0.42)[level] * inner
    line = canvas.blur(canvas.bands([(pleura, 0.14, 0.12, 1.0)]), 0.04) * canvas.fill(t.lungs[side])
    layers.soft += 1.5 * line
    layers.masks[f.name] = space > 0.5
    return np.asarray(vessels * (1 - space), np.float32)


def _blob(canvas: Canvas, rng: np.random.Generator, outline: Points, rough: float, soft: float) -> Array:
    base = canvas.blur(canvas.fill(outline), soft)
    patchy = base * (1 + rough * canvas.noise(rng, 1.1) + 0.5 * rough * canvas.noise(rng, 0.45))
    return np.asarray(np.clip(patchy, 0, 1), np.float32)


def _consolidation(canvas: Canvas, t: Thorax, layers: Layers, vessels: Array, fields: Array, f: Finding) -> Array:
    level = LEVEL[f.severity]
    rng = _seed(t, f)
    for side in f.sides:
        v = ZONE_V[str(f.zone)] + 0.06 * (f.place[0] - 0.5)
        reach = t.wall_x(side, v)
        x = SIGN[side] * (3.6 + (reach - 5.6) * (0.35 + 0.4 * f.place[1]))
        radius = (3.0, 4.0, 5.2)[level]
        outline = ellipse(x, v * t.height, radius * 1.12, radius, float(rng.uniform(-35, 35)))
        blob = _blob(canvas, rng, outline, 0.28, 0.75) * canvas.fill(t.lungs[side])
        blob = np.asarray(blob * (0.25 + 0.75 * fields), np.float32)
        layers.lung *= 1 - (0.55, 0.86, 0.95)[level] * blob
        # Air bronchograms: branches that stay dark in the white.
        hilum = np.array([SIGN[side] * 3.0 + t.shift, 0.45 * t.height])
        far = np.array([x, v * t.height])
        twigs = [(np.linspace(hilum, far + rng.normal(0, 1.6, 2), 5), 0.45, 0.2, 1.0) for _ in range(3)]
        layers.air += (0.3, 1.1, 1.1)[level] * canvas.blur(canvas.bands(twigs), 0.06) * blob
        # Vessels lose their border against consolidated lung.
        vessels = np.asarray(vessels * (1 - 0.7 * blob), np.float32)
        _mark(layers, f.name, blob, 0.3)
    return vessels


def _atelectasis(canvas: Canvas, t: Thorax, layers: Layers, fields: Array, f: Finding) -> None:
    level = LEVEL[f.severity]
    rng = _seed(t, f)
    for side in f.sides:
        sign = SIGN[side]
        floor = float(t.diaphragms[side][:, 1].min())
        plates = []
        for i in range(3 + level):
            y = floor - 0.9 - 1.35 * i + float(rng.normal(0, 0.25))
            x0, x1 = 0.3 + 0.15 * float(rng.random()), 0.72 + 0.16 * float(rng.random())
            slope = float(rng.normal(0.5, 0.7))
            plate = [
                (sign * x0 * t.width, y),
                (sign * 0.5 * (x0 + x1) * t.width, y + 0.2),
                (sign * x1 * t.width, y + slope),
            ]
            plates.append((spline(points(plate)), (0.5, 0.6, 0.7)[level], (0.2, 0.25, 0.3)[level], 1.0))
        bands = canvas.blur(canvas.bands(plates), 0.11) * canvas.fill(t.lungs[side])
        # Fluid and consolidation leave no contrast to them.
        bands = np.asarray(bands * (0.3 + 0.7 * np.clip(layers.lung / 2.5, 0, 1)), np.float32)
        layers.soft += (3.2, 3.6, 3.8)[level] * bands * np.clip(1 + 0.3 * canvas.noise(rng, 0.8), 0.3, 2)
        _mark(layers, f.name, bands, 0.12)
        if level == 2:
            wedge = points(
                [(sign * 1.5, 0.55 * t.height), (sign * 0.62 * t.width, floor + 0.8), (sign * 1.2, t.height)]
            )
            collapse = canvas.blur(canvas.fill(wedge), 0.3) * canvas.fill(t.lungs[side])
            layers.lung *= 1 - 0.55 * collapse
            _mark(layers, f.name, collapse, 0.4)


def _edema(canvas: Canvas, t: Thorax, layers: Layers, vessels: Array, fields: Array, f: Finding) -> Array:
    level = LEVEL[f.severity]
    rng = _seed(t, f)
    haze = canvas.zeros()
    kerley = []
    for side, sign in SIGN.items():
        wings = ellipse(sign * 0.46 * t.width + t.shift, 0.53 * t.height, 0.36 * t.width, 0.3 * t.height)
        haze += canvas.blur(canvas.fill(wings), 1.8)
        for i in range(4 + 3 * level):
            y = (0.66 + 0.27 * i / (4 + 3 * level)) * t.height + float(rng.normal(0, 0.1))
            x = t.wall_x(side, y / t.height)
            kerley.append((points([(sign * (x - 2.0), y - 0.15), (sign * (x - 0.2), y)]), 0.13, 0.13, 1.0))
    patch = 1 + (0.06, 0.12, 0.2)[level] * (canvas.noise(rng, 1.0) + 0.5 * canvas.noise(rng, 0.5))
    haze = np.asarray(
        np.clip(haze * patch, 0, 1) * np.maximum(fields, 0.3) * canvas.fill(*t.lungs.values()), np.float32
    )
    layers.lung *= 1 - (0.28, 0.46, 0.68)[level] * haze
    layers.soft += 0.8 * canvas.bands(kerley) * canvas.fill(*t.lungs.values())
    layers.masks[f.name] = haze > 0.35
    swollen = canvas.blur(vessels, (0.12, 0.16, 0.2)[level])
    return np.asarray(np.maximum(vessels, swollen) * (1.35, 1.6, 1.8)[level], np.float32)


def _nodule(canvas: Canvas, t: Thorax, layers: Layers, f: Finding) -> None:
    side = str(f.side)
    v = ZONE_V[str(f.zone)] + 0.08 * (f.place[1] - 0.5)
    reach = t.wall_x(side, v)
    inner = t.heart_half[side == "left"] if v > 0.5 else 3.4
    radius = nodule_diameter(f) / 2
    x = SIGN[side] * (inner + radius + 0.4 + max(reach - inner - 2 * radius - 0.9, 0) * f.place[0])
    disc = canvas.fill(ellipse(x, v * t.height, radius, radius * 0.93, 70 * f.place[1]))
    layers.soft += 2.8 * canvas.blur(canvas.dome(disc, radius, 2 * radius), 0.06)
    layers.masks[f.name] = disc > 0.5


def nodule_diameter(f: Finding) -> float:
    """Return the diameter of a nodule in cm, 1.8 to 4."""
    return (1.8, 2.6, 3.2)[LEVEL[f.severity]] + 0.8 * f.place[1]
