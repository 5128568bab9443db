"""The frontal outlines of a thorax, and the boxes of the 29 Chest ImaGenome regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medvlp.phantom.geometry import Points, points, spline
from medvlp.phantom.world import REGIONS, Body, Finding, Shot, named, stream

_VOLUME_LOSS = {"mild": 0.0, "moderate": 1.2, "severe": 2.2}
_PUSH = {"mild": 0.0, "moderate": 0.2, "severe": 1.6}
_ENLARGED = {"mild": (0.54, 0.57), "moderate": (0.60, 0.64), "severe": (0.68, 0.73)}

SIGN = {"right": -1.0, "left": 1.0}


@dataclass(frozen=True)
class Thorax:
    """Outlines in patient coordinates (cm), for one image.

    Attributes:
        body: The patient.
        height: Distance from apex to costophrenic angle.
        width: Inner half-width.
        shift: Displacement of the mediastinum to the patient's left.
        ratio: Drawn cardiothoracic ratio.
        lungs: Outline of each lung, including the part behind the heart.
        diaphragms: Curve of each hemidiaphragm, from lateral to medial.
        walls: Inner chest wall of each side, from apex to costophrenic angle.
        heart: Outline.
        mediastinum: Outline, from neck to diaphragm.
        heart_half: Extent of the heart to the right and to the left of the (shifted) midline.
    """

    body: Body
    height: float
    width: float
    shift: float
    ratio: float
    lungs: dict[str, Points]
    diaphragms: dict[str, Points]
    walls: dict[str, Points]
    heart: Points
    mediastinum: Points
    heart_half: tuple[float, float]

    def at(self, side: str, u: float, v: float) -> tuple[float, float]:
        """Return the point at share `u` of the half-width and share `v` of the lung height on a side, in cm."""
        return SIGN[side] * u * self.width, v * self.height

    def wall_x(self, side: str, v: float) -> float:
        """Return the distance in cm of the inner chest wall from the midline at share `v` of the lung height."""
        wall = self.walls[side]
        return float(np.interp(v * self.height, wall[:, 1], np.abs(wall[:, 0])))


def thorax(body: Body, shot: Shot, findings: tuple[Finding, ...]) -> Thorax:
    """Return the outlines of a body in one image. Findings shift, lift and enlarge them."""
    # The order of the draws is fixed: the same seed gives the same bytes.
    rng = stream(body.key, 1)
    wide, tall = body.half_width, body.lung_height * shot.inspiration
    total = 2 * wide * _heart_ratio(body, shot, findings)
    lift = {"right": body.dome, "left": body.dome - float(rng.uniform(0.4, 1.4))}
    shift = _displace(lift, shot, findings)
    walls: dict[str, Points] = {}
    diaphragms: dict[str, Points] = {}
    lungs: dict[str, Points] = {}
    for side in SIGN:
        walls[side] = _wall(side, wide, tall, rng.normal(0, 0.006, 7))
        diaphragms[side] = _diaphragm(side, wide, tall, lift[side])
        lungs[side] = np.vstack([walls[side], diaphragms[side][1:], _medial_border(side, wide, tall)])
    right = total * float(rng.uniform(0.31, 0.36))
    left = total - right
    move = np.array([shift, 0.0])
    return Thorax(
        body=body,
        height=tall,
        width=wide,
        shift=shift,
        ratio=total / (2 * wide),
        lungs=lungs,
        diaphragms=diaphragms,
        walls=walls,
        heart=_heart(right, left, tall) + move,
        mediastinum=_mediastinum(body, tall) + move,
        heart_half=(right, left),
    )


def _heart_ratio(body: Body, shot: Shot, findings: tuple[Finding, ...]) -> float:
    """Return the cardiothoracic ratio. An AP view enlarges the heart, but without cardiomegaly not beyond normal."""
    projection = 0.02 if shot.view == "AP" else 0.0
    enlarged = named(findings, "cardiomegaly")
    if enlarged is None:
        return min(body.heart_ratio + projection, 0.495)
    low, high = _ENLARGED[enlarged.severity]
    return low + (high - low) * enlarged.place[0] + projection


def _displace(lift: dict[str, float], shot: Shot, findings: tuple[Finding, ...]) -> float:
    """Lift the hemidiaphragms, and return the displacement of the mediastinum to the patient's left, in cm.

    Args:
        lift: Height of each dome in cm; a lung that has lost volume raises its own.
        shot: Acquisition of the image.
        findings: Findings of the study.
    """
    shift = 0.6 * shot.turn
    for f in findings:
        for affected in f.sides:
            if f.name == "atelectasis":
                lift[affected] += _VOLUME_LOSS[f.severity]
                shift += 0.3 * SIGN[affected] * _VOLUME_LOSS[f.severity] * (f.side != "bilateral")
            if f.name in ("pleural effusion", "pneumothorax") and f.side != "bilateral":
                shift -= SIGN[affected] * _PUSH[f.severity]
    return shift


def _wall(side: str, wide: float, tall: float, jitter: Points) -> Points:
    """Return the inner chest wall, from apex to costophrenic angle; jitter (7,) moves it in shares of the width."""
    u = np.array([0.30, 0.46, 0.63, 0.77, 0.88, 0.95, 0.99]) + jitter
    wall = points(list(zip(u, (0.0, 0.022, 0.1, 0.225, 0.39, 0.56, 0.74), strict=True)))
    return spline(np.vstack([wall, [[1.0, 0.87], [0.975, 1.0]]]) * [SIGN[side] * wide, tall])


def _diaphragm(side: str, wide: float, tall: float, lift: float) -> Points:
    """Return the curve of a hemidiaphragm, from lateral to medial."""
    sign, top = SIGN[side], tall - lift
    floor = [
        (sign * 0.975 * wide, tall),
        (sign * 0.90 * wide, tall - 0.5 * lift),
        (sign * 0.76 * wide, top + 0.16 * lift),
        (sign * 0.53 * wide, top),
        (sign * 0.33 * wide, top + 0.1 * lift),
        (sign * 0.10 * wide, top + 0.42 * lift),
    ]
    return spline(points(floor))


def _medial_border(side: str, wide: float, tall: float) -> Points:
    """Return the border of a lung behind the heart, from the diaphragm to the apex."""
    sign = SIGN[side]
    return spline(points([(sign * 0.08 * wide, 0.5 * tall), (sign * 0.10 * wide, 0.12 * tall), (sign * 0.2 * wide, 0)]))


def _heart(right: float, left: float, tall: float) -> Points:
    """Return the outline of a heart that reaches so far to the right and to the left of its midline."""
    outline = [
        (-2.5, 0.47 * tall),
        (-0.78 * right, 0.58 * tall),
        (-right, 0.71 * tall),
        (-0.95 * right, 0.82 * tall),
        (-0.6 * right, 0.93 * tall),
        (0.2 * left, 0.96 * tall),
        (0.62 * left, 0.955 * tall),
        (0.93 * left, 0.90 * tall),
        (left, 0.825 * tall),
        (0.91 * left, 0.73 * tall),
        (0.72 * left, 0.62 * tall),
        (0.48 * left, 0.52 * tall),
        (2.6, 0.44 * tall),
    ]
    return spline(points(outline), closed=True)


def _mediastinum(body: Body, tall: float) -> Points:
    """Return the outline of the mediastinum with the aortic knob, from neck to diaphragm."""
    knob = 0.8 + 0.9 * body.knob
    outline = [
        (-2.3, -6),
        (-2.3, 0.05 * tall),
        (-2.7, 0.2 * tall),
        (-2.9, 0.38 * tall),
        (-2.8, 0.55 * tall),
        (-2.4, 1.1 * tall),
        (2.4, 1.1 * tall),
        (2.9, 0.6 * tall),
        (3.5, 0.45 * tall),
        (3.0, 0.385 * tall),
        (2.1 + knob, 0.34 * tall),
        (2.2 + knob, 0.29 * tall),
        (1.6 + 0.6 * knob, 0.235 * tall),
        (2.4, 0.15 * tall),
        (2.2, -6),
    ]
    return spline(points(outline), closed=True)


def regions(t: Thorax) -> dict[str, Points]:
    """Return the corners (4, 2) in cm of the 29 regions' boxes, by name, in the order of `REGIONS`."""
    h, s = t.height, t.shift
    right, left = t.heart_half
    boxes: dict[str, tuple[float, float, float, float]] = {
        "trachea": (-1.4 + s, -5.5, 1.4 + s, 0.37 * h),
        "spine": (-2.3, -6.0, 2.3, 1.35 * h),
        "right clavicle": (-15.5, 0.02 * h, -1.2, 0.2 * h),
        "left clavicle": (1.2, 0.02 * h, 15.5, 0.2 * h),
        "aortic arch": (0.2 + s, 0.22 * h, 4.4 + s, 0.385 * h),
        "mediastinum": (-right + s, 0.0, left + s, 0.955 * h),
        "upper mediastinum": (-3.4 + s, 0.0, 4.2 + s, 0.38 * h),
        "svc": (-3.1 + s, 0.22 * h, -1.2 + s, 0.54 * h),
        "cardiac silhouette": (-right + s, 0.44 * h, left + s, 0.96 * h),
        "cavoatrial junction": (-3.4 + s, 0.48 * h, -0.8 + s, 0.58 * h),
        "right atrium": (-right + s, 0.52 * h, 0.2 + s, 0.86 * h),
        "carina": (-1.7 + s, 0.33 * h, 1.7 + s, 0.42 * h),
        "abdomen": (-1.05 * t.width, 0.8 * h, 1.05 * t.width, 1.5 * h),
    }
    for side in SIGN:
        dome = float(t.diaphragms[side][:, 1].min())
        spans = {
            "lung": (0.0, h, 0.12),
            "apical zone": (0.0, 0.16 * h, 0.14),
            "upper lung zone": (0.02 * h, 0.38 * h, 0.14),
            "mid lung zone": (0.38 * h, 0.62 * h, 0.14),
            "lower lung zone": (0.62 * h, h, 0.14),
        }
        for part, (top, bottom, inner) in spans.items():
            reach = max(t.wall_x(side, y / h) for y in np.linspace(top, bottom, 12))
            boxes[f"{side} {part}"] = _mirrored(side, inner * t.width, top, reach, bottom)
        boxes[f"{side} hilar structures"] = _mirrored(side, 1.6, 0.35 * h, 6.0, 0.62 * h)
        boxes[f"{side} costophrenic angle"] = _mirrored(side, 0.72 * t.width, h - 5.0, t.width, h + 0.4)
        boxes[f"{side} hemidiaphragm"] = _mirrored(side, 0.1 * t.width, dome - 0.3, 0.98 * t.width, h)
    return {name: _corners(boxes[name]) for name in REGIONS}


def _mirrored(side: str, inner: float, top: float, outer: float, bottom: float) -> tuple[float, float, float, float]:
    return (-outer, top, -inner, bottom) if side == "right" else (inner, top, outer, bottom)


def _corners(box: tuple[float, float, float, float]) -> Points:
    x1, y1, x2, y2 = box
    return points([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
