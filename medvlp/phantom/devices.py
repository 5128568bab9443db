"""Tubes, lines, pacemakers and wires of the frontal projection, as path lengths in metal."""

from __future__ import annotations

import numpy as np

from medvlp.phantom.anatomy import SIGN, Thorax
from medvlp.phantom.geometry import Array, Canvas, Points, ellipse, points, spline
from medvlp.phantom.world import Finding


def device(canvas: Canvas, t: Thorax, f: Finding) -> Array:
    """Return the path lengths (cm) of a device in metal."""
    h, s = t.height, t.shift
    if f.name == "endotracheal tube":
        tip = 0.37 * h - 2.0 - 3.0 * f.place[0]
        tube = spline(points([(0.1, -9), (0.1 + 0.2 * s, -2), (s, tip)]))
        edges = [(tube + np.array([d, 0.0]), 0.14, 0.14, 1.0) for d in (-0.4, 0.4)]
        return canvas.blur(0.26 * canvas.bands(edges) + 0.09 * canvas.bands([(tube, 0.8, 0.8, 1.0)]), 0.03)
    if f.name == "enteric tube":
        top = float(t.diaphragms["left"][:, 1].min())
        path = [
            (-0.5, -9),
            (0.6 + s, 0.2 * h),
            (0.5 + s, 0.6 * h),
            (1.2, 0.9 * h),
            (3.5, top + 4),
            (6.5 + 2 * f.place[0], top + 5.5),
        ]
        return canvas.blur(0.38 * canvas.bands([(spline(points(path)), 0.3, 0.3, 1.0)]), 0.03)
    if f.name == "central line":
        return canvas.blur(0.42 * canvas.bands([(_catheter(t, f), 0.28, 0.28, 1.0)]), 0.03)
    if f.name == "pacemaker":
        return _pacemaker(canvas, t, f)
    rings = [ellipse(0.2 + s * 0.5, y * h, 0.75, 0.42, 20) for y in (0.24, 0.35, 0.46, 0.57, 0.68)]
    return canvas.blur(0.5 * canvas.bands([(np.vstack([r, r[:1]]), 0.13, 0.13, 1.0) for r in rings]), 0.02)


def _catheter(t: Thorax, f: Finding) -> Points:
    h, s = t.height, t.shift
    sign = SIGN[str(f.side)]
    tip = (-2.1 + s, (0.46 + 0.14 * f.place[0]) * h)
    if f.place[1] < 0.6:
        start = [(sign * 4.6, -9.0), (sign * 3.6, -1.0), (sign * 2.6, 0.08 * h)]
    else:
        start = [(sign * 13.0, 0.13 * h), (sign * 8.5, 0.07 * h), (sign * 4.2, 0.1 * h)]
    cross = [(0.0, 0.17 * h)] if sign > 0 else []
    return spline(points([*start, *cross, (-1.9 + s, 0.27 * h), tip]))


def _pacemaker(canvas: Canvas, t: Thorax, f: Finding) -> Array:
    h, s = t.height, t.shift
    sign = SIGN[str(f.side)]
    x, y = sign * (10.0 + 1.2 * f.place[0]), (0.16 + 0.05 * f.place[1]) * h
    case = canvas.fill(
        spline(
            points([(x - 2.1, y - 1.9), (x + 2.0, y - 1.9), (x + 2.2, y + 1.2), (x, y + 2.5), (x - 2.2, y + 1.2)]),
            closed=True,
        )
    )
    cell = canvas.fill(ellipse(x, y + 0.3, 1.3, 1.2))
    right, left = t.heart_half
    vein = [(x - sign * 1.5, y - 1.6), (sign * 6.0, 0.05 * h), (sign * 3.0, 0.1 * h)] + (
        [(0.2, 0.17 * h)] if sign > 0 else []
    )
    down = [(-1.8 + s, 0.28 * h), (-2.0 + s, 0.5 * h)]
    atrial = [*vein, *down, (-1.6 + s, 0.68 * h), (-0.7 * right + s, 0.66 * h), (-0.75 * right + s, 0.6 * h)]
    ventricular = [*vein, *down, (-1.2 + s, 0.72 * h), (0.2 * left + s, 0.84 * h), (0.6 * left + s, 0.86 * h)]
    leads = canvas.bands([(spline(points(p)), 0.2, 0.2, 1.0) for p in (atrial, ventricular)])
    tips = canvas.bands([(spline(points(p))[-4:], 0.34, 0.34, 1.0) for p in (atrial, ventricular)])
    return canvas.blur(0.75 * case + 0.5 * cell + 0.3 * leads + 0.5 * tips, 0.03)
