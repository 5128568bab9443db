"""The lateral projection. The patient faces the left of the image; the spine is on the right."""

from __future__ import annotations

import numpy as np

from medvlp.phantom.findings import LEVEL, ZONE_V, nodule_diameter
from medvlp.phantom.geometry import Array, Canvas, Points, ellipse, points, spline
from medvlp.phantom.render import Layers
from medvlp.phantom.world import Body, Finding, Shot, named, stream

# Findings in the lateral view. Pneumothoraces, tubes and lines are in the frontal view alone.
SHOWN = frozenset(
    {
        "pleural effusion",
        "consolidation",
        "atelectasis",
        "edema",
        "cardiomegaly",
        "nodule",
        "pacemaker",
        "sternotomy wires",
    }
)


def lateral(canvas: Canvas, body: Body, shot: Shot, findings: tuple[Finding, ...]) -> Layers:
    """Return the layers of a lateral view."""
    h = body.lung_height * shot.inspiration
    lungs = _lungs(h)
    torso = _torso(canvas, body, h)
    fields = canvas.fill(lungs)
    lung = canvas.dome(fields, 4.0, 15.0)
    big = named(findings, "cardiomegaly")
    grow = 1.0 + (0.12 * (1 + LEVEL[big.severity]) if big else 0.0)
    heart = canvas.fill(ellipse(-4.0 * grow + 0.4, 0.70 * h - 1.2 * (grow - 1), 5.6 * grow, 4.2 * grow, 48)) * fields
    lung = np.maximum(lung - 0.75 * canvas.blur(canvas.dome(heart, 5.0, 10.0), 0.2), 0)
    arch = spline(
        points([(-2.5, 0.45 * h), (-2.2, 0.3 * h), (0.5, 0.22 * h), (3.0, 0.3 * h), (4.3, 0.5 * h), (4.8, h)])
    )
    layers = Layers(torso, lung, canvas.zeros(), canvas.zeros(), _bones(canvas, h), canvas.zeros())
    layers.soft += 1.5 * canvas.blur(canvas.bands([(arch, 2.6, 2.4, 1.0)]), 0.25) + 2.0 * canvas.blur(
        canvas.fill(ellipse(0.6, 0.46 * h, 1.7, 2.0)), 0.4
    )
    layers.soft += _vessels(canvas, body, h) * fields
    layers.air += 2.2 * canvas.blur(
        canvas.bands([(points([(-0.8, -7), (0.3, 0.1 * h), (1.4, 0.42 * h)]), 1.6, 0.9, 1.0)]), 0.25
    )
    layers.air += canvas.blur(canvas.dome(canvas.fill(ellipse(-2.0, 0.97 * h, 2.4, 1.1)), 1.3, 3.5), 0.15)
    layers.masks["lungs"] = fields > 0.5
    layers.masks["heart"] = heart > 0.5
    for f in findings:
        if f.name in SHOWN:
            _draw(canvas, body, layers, fields, h, f)
    return layers


def _lungs(h: float) -> Points:
    outline = [
        (-2.2, 0.02),
        (0.8, -0.02),
        (5.6, 0.08),
        (8.8, 0.3),
        (9.9, 0.55),
        (9.6, 0.8),
        (9.0, 1.05),
        (7.4, 1.0),
        (4.0, 0.9),
        (0.5, 0.84),
        (-4.0, 0.86),
        (-8.0, 0.93),
        (-8.6, 0.7),
        (-8.0, 0.45),
        (-6.2, 0.22),
        (-4.2, 0.1),
    ]
    return spline(points(outline) * [1.0, h], closed=True)


def _torso(canvas: Canvas, body: Body, h: float) -> Array:
    thick = 2.0 + 2.0 * body.fat
    bust = (2.2 + 2.5 * body.fat) if body.female else 0.3
    front = [
        (-5.0, -12),
        (-5.5, -3),
        (-7.5 - thick * 0.6, 0.15 * h),
        (-8.6 - thick, 0.4 * h),
        (-9.0 - thick - bust, 0.68 * h),
        (-8.8 - thick, 0.9 * h),
        (-9.0 - 1.5 * thick, 1.3 * h),
        (-9 - thick, 48),
    ]
    back = [
        (10.0, 48),
        (10.2 + 0.5 * thick, 1.1 * h),
        (11.0 + 0.6 * thick, 0.6 * h),
        (10.2 + 0.6 * thick, 0.25 * h),
        (7.0, -3),
        (5.0, -12),
    ]
    trunk = canvas.dome(canvas.fill(spline(points(front + back), closed=True)), 6.0, 21.0 + 3 * body.fat)
    arm = canvas.bands([(points([(-13.0, -12), (-4.0, -3.0), (1.0, 0.06 * h)]), 7.0, 7.0, 1.0)])
    return np.asarray(canvas.blur(trunk, 0.4) + 3.0 * canvas.blur(arm, 0.7), np.float32)


def _bones(canvas: Canvas, h: float) -> Array:
    pitch = 0.093 * h
    curve = [(6.2, -0.25), (6.6, 0.0), (8.6, 0.3), (9.1, 0.55), (8.4, 0.85), (6.8, 1.15), (6.0, 1.6)]
    axis = spline(points(curve) * [1.0, h])
    shells, cores, ribs = [], [], []
    for y in np.arange(-4 * pitch, 1.55 * h, pitch):
        x = float(np.interp(y, axis[:, 1], axis[:, 0]))
        tall = 0.4 * pitch
        block = points([(x - 1.5, y - tall), (x + 1.4, y - tall), (x + 1.4, y + tall), (x - 1.5, y + tall)])
        shells.append(block)
        cores.append((block - [x, y]) * 0.84 + [x, y])
        if 0 <= y < 0.85 * h:
            front = np.interp(y + 8, [0, 0.5 * h, h], [-4.5, -7.5, -7.5])
            for lag in (0.0, 0.5):
                path = [(x + 1.2, y), (x - 2.0, y + 2.0 + lag), (1.0, y + 5.2 + lag), (float(front), y + 8.2 + lag)]
                ribs.append((spline(points(path)), 0.85, 0.8, 1.0))
    sternum = spline(points([(-5.2, 0.1), (-7.6, 0.3), (-9.1, 0.55), (-9.3, 0.68)]) * [1.0, h])
    bone = 1.3 * canvas.fill(*shells) - 0.5 * canvas.fill(*cores) + 0.25 * canvas.bands(ribs)
    bone += 1.0 * canvas.bands([(sternum, 1.1, 0.9, 1.0)])
    blade = points([(7.5, -0.02), (9.2, 0.25), (7.9, 0.42), (6.9, 0.1)]) * [1.0, h]
    bone += 0.5 * canvas.fill(blade) + 1.0 * canvas.fill(ellipse(0.5, 0.02 * h, 2.2, 2.2))
    return canvas.blur(bone, 0.08)


def _vessels(canvas: Canvas, body: Body, h: float) -> Array:
    rng = stream(body.key, 14)
    paths = []
    for _ in range(90):
        angle = float(rng.uniform(0, 2 * np.pi))
        near, far = float(rng.uniform(0.5, 3)), float(rng.uniform(3.5, 9))
        bend = float(rng.normal(0, 0.25))
        ends = [
            (0.6 + r * np.cos(angle + b), 0.46 * h + 1.25 * r * np.sin(angle + b))
            for r, b in ((near, 0.0), (far, bend))
        ]
        width = float(rng.uniform(0.15, 0.45))
        paths.append((points(ends), width, 0.3 * width, width / 0.45))
    return 0.8 * canvas.blur(canvas.bands(paths), 0.07)


def _draw(canvas: Canvas, body: Body, layers: Layers, fields: Array, h: float, f: Finding) -> None:
    level = LEVEL[f.severity]
    rng = stream(body.key, int(f.place[0] * 1e6), 21)
    if f.name == "pleural effusion":
        top = 1.03 * h - (3.0, 7.0, 12.0)[level]
        x = np.linspace(-9, 9, 20)
        line = np.stack([x, top + (2.2 - 0.3 * level) * (1 - ((x - 1) / 7.5) ** 2)], axis=1)
        mask = canvas.blur(canvas.fill(np.vstack([line, [[9, 50], [-9, 50]]])), 0.3) * fields
        # Fluid of one side replaces half of the air along the beam.
        layers.lung *= 1 - (0.9 if f.side == "bilateral" else 0.6) * mask
    elif f.name == "consolidation":
        y = ZONE_V[str(f.zone)] * h
        radius = (2.2, 3.0, 3.9)[level]
        mask = canvas.blur(canvas.fill(ellipse(-3.5 + 8.5 * f.place[1], y, radius, radius)), 0.7) * fields
        mask = np.asarray(np.clip(mask * (1 + 0.25 * canvas.noise(rng, 1.0)), 0, 1), np.float32)
        layers.lung *= 1 - (0.3, 0.4, 0.5)[level] * mask
    elif f.name == "atelectasis":
        lines = []
        for i in range(2 + level):
            y = (0.84 - 0.035 * i) * h + float(rng.normal(0, 0.2))
            start, stop = float(rng.uniform(0.5, 3.0)), float(rng.uniform(5.5, 8.5))
            lines.append((points([(start, y), (stop, y + float(rng.normal(0.6, 0.5)))]), 0.45, 0.2, 1.0))
        mask = canvas.blur(canvas.bands(lines), 0.1) * fields
        layers.soft += (2.4, 3.0, 3.6)[level] * mask
    elif f.name == "edema":
        mask = canvas.blur(canvas.fill(ellipse(0.6, 0.5 * h, 5.0, 0.28 * h)), 1.6) * fields
        layers.lung *= 1 - (0.15, 0.28, 0.42)[level] * mask
    elif f.name == "nodule":
        radius = nodule_diameter(f) / 2
        mask = canvas.fill(ellipse(-3.0 + 8.0 * f.place[0], ZONE_V[str(f.zone)] * h, radius, radius)) * fields
        layers.soft += 1.1 * canvas.blur(canvas.dome(mask, radius, 2 * radius), 0.06)
    elif f.name == "pacemaker":
        mask = canvas.fill(ellipse(-9.6, 0.2 * h, 0.6, 2.2, -20))
        lead = spline(points([(-9.0, 0.15 * h), (-3, 0.1 * h), (-0.5, 0.4 * h), (-1.5, 0.68 * h), (-6.0, 0.82 * h)]))
        layers.metal += canvas.blur(0.9 * mask + 0.3 * canvas.bands([(lead, 0.22, 0.22, 1.0)]), 0.03)
    elif f.name == "sternotomy wires":
        xs = ((-6.2, 0.2), (-7.6, 0.32), (-8.6, 0.44), (-9.2, 0.56))
        mask = canvas.bands(
            [(points([(x - 0.5, v * h - 0.2), (x + 0.6, v * h + 0.2)]), 0.16, 0.16, 1.0) for x, v in xs]
        )
        layers.metal += 0.6 * mask
    else:
        mask = layers.masks["heart"].astype(np.float32)
    layers.masks[f.name] = mask > 0.35
