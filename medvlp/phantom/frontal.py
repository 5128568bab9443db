"""The frontal projection: normal anatomy as path lengths."""

from __future__ import annotations

import numpy as np

from medvlp.phantom.anatomy import SIGN, Thorax
from medvlp.phantom.geometry import Array, Canvas, Points, ellipse, points, spline
from medvlp.phantom.render import Layers
from medvlp.phantom.world import Body, Shot, stream

_RIBS = 10


def normal(canvas: Canvas, t: Thorax, shot: Shot) -> tuple[Layers, Array, Array]:
    """Return the layers of the normal anatomy, the vessels (cm) and the lung fields (0 to 1)."""
    body = t.body
    ap = shot.view == "AP"
    torso = _torso(canvas, body, ap)
    hemithorax = canvas.fill(*t.lungs.values())
    depth = (12.5 if ap else 13.5) - 1.5 * body.female
    lung = np.maximum(*(canvas.dome(canvas.fill(t.lungs[side]), 5.5, depth) for side in SIGN))
    heart = canvas.fill(t.heart)
    middle = canvas.fill(t.mediastinum)
    # The lung in front of and behind the heart remains: the heart is never uniformly white.
    lung *= 1 - canvas.blur(middle, 0.08) * 0.97
    lung = np.maximum(lung - canvas.dome(heart, 4.0, 9.5) - 2.4 * canvas.blur(heart, 0.1), 0)
    fields = hemithorax * (1 - np.maximum(heart, middle))
    lung *= 1 + 0.035 * canvas.noise(stream(body.key, 11), 1.3) + 0.02 * canvas.noise(stream(body.key, 12), 0.4)
    bone = _spine(canvas, body, t) + _ribs(canvas, t, shot) + _shoulders(canvas, t, shot)
    layers = Layers(torso, lung, canvas.zeros(), canvas.zeros(), bone, canvas.zeros())
    layers.soft += _breasts(canvas, t)
    layers.soft += 1.6 * canvas.blur(canvas.bands([_descending(t)]), 0.3)
    layers.air += _airways(canvas, t) + _stomach(canvas, t)
    layers.masks["right lung"] = canvas.fill(t.lungs["right"]) * (1 - np.maximum(heart, middle)) > 0.5
    layers.masks["left lung"] = canvas.fill(t.lungs["left"]) * (1 - np.maximum(heart, middle)) > 0.5
    layers.masks["heart"] = heart > 0.5
    return layers, _vessels(canvas, t), fields


def _torso(canvas: Canvas, body: Body, ap: bool) -> Array:
    wide = body.half_width + 1.6 + 3.0 * body.fat
    arm = 21.0 + 2 * body.fat
    right = [(-5.2, -14), (-5.4, -5.5), (-8, -3.6), (-14, -1.8), (-arm + 1, 0.5), (-arm - 3, 5)]
    side = [(-arm - 3, 14), (-wide - 3.2, 9.5), (-wide - 0.6, 14), (-wide, 22), (-wide - 0.2, 30), (-wide - 1.5, 48)]
    half = points(right + side)
    outline = np.vstack([spline(half), (spline(half) * [-1, 1])[::-1]])
    thickness = canvas.dome(canvas.fill(outline), 5.5, 18.5 + 3.5 * body.fat + (0.8 if ap else 0))
    arms = [
        spline(points([(s * arm, 1), (s * (arm + 2), 10), (s * (arm + 3), 24), (s * (arm + 3), 44)])) for s in (-1, 1)
    ]
    limb = canvas.blur(canvas.bands([(a, 8.5, 7.5, 1.0) for a in arms]), 0.7)
    return np.asarray(np.maximum(canvas.blur(thickness, 0.4), 9 * limb), np.float32)


def _spine(canvas: Canvas, body: Body, t: Thorax) -> Array:
    rng = stream(body.key, 2)
    pitch = 0.093 * body.lung_height
    shells, cores, marks = [], [], []
    for i in range(-4, 17):
        y = 0.5 + i * pitch
        x = body.scoliosis * np.sin(y / 9 + float(rng.uniform(0, 0.05)))
        half = 1.35 + 0.045 * (i + 4)
        tall = 0.41 * pitch
        outline = points(
            [
                (x - half, y - tall),
                (x, y - 0.9 * tall),
                (x + half, y - tall),
                (x + 0.9 * half, y),
                (x + half, y + tall),
                (x, y + 0.9 * tall),
                (x - half, y + tall),
                (x - 0.9 * half, y),
            ]
        )
        shells.append(outline)
        cores.append((outline - [x, y]) * 0.86 + [x, y])
        marks += [ellipse(x + s * 0.62 * half, y - 0.1 * tall, 0.32, 0.42) for s in (-1, 1)]
        marks.append(ellipse(x + 0.25 * t.shift, y + 0.5 * tall, 0.25, 0.55))
    column = 1.25 * canvas.fill(*shells) - 0.35 * canvas.fill(*cores) + 0.35 * canvas.fill(*marks)
    return canvas.blur(column, 0.06)


def _ribs(canvas: Canvas, t: Thorax, shot: Shot) -> Array:
    body = t.body
    rng = stream(body.key, 3)
    posterior, anterior, rims = [], [], []
    for i in range(_RIBS):
        y0 = t.height * (-0.02 + 0.093 * i) + float(rng.normal(0, 0.1))
        for side, sign in SIGN.items():
            drop = body.rib_drop * (0.55 + 0.05 * i)
            reach = t.wall_x(side, float(np.clip((y0 + 0.45 * drop) / t.height, 0.02, 1.0))) + 0.35
            angle = np.linspace(0.03, 0.85, 34) * np.pi
            x = 1.8 + (reach - 1.8) * np.sin(angle) ** 0.8
            # Depth runs from the spine (0) to the sternum (1); the rib falls as it comes forward.
            fall = (1 - np.cos(angle)) / 2
            y = y0 + drop * (fall**1.25) - 0.9 * np.sin(angle) * (angle < np.pi / 2) * (1 - angle / (np.pi / 2))
            path = np.stack([sign * x + shot.turn * 0.5 * (fall - 0.3), y], axis=1)
            half = int(np.searchsorted(angle, np.pi / 2)) + 1
            posterior.append((path[: half + 1], 0.95, 1.1, 1.0))
            if i < 8:
                anterior.append((path[half - 1 :], 1.1, 1.4, 0.85))
            rims += [(path[: half + 1] + np.array([0.0, d]), 0.16, 0.2, 1.0) for d in (-0.45, 0.45)]
    tube = 0.33 * canvas.bands(posterior) + 0.24 * canvas.bands(anterior) + 0.25 * canvas.bands(rims)
    return canvas.blur(tube, 0.06)


def _shoulders(canvas: Canvas, t: Thorax, shot: Shot) -> Array:
    rise = 0.0 if shot.view == "PA" else -1.2
    h = t.height
    paths, cores, blades = [], [], []
    for sign in SIGN.values():
        x0 = 1.6 + sign * shot.turn * 0.9
        curve = spline(
            points(
                [
                    (sign * x0, 0.17 * h),
                    (sign * 5, 0.125 * h + rise),
                    (sign * 9, 0.06 * h + rise),
                    (sign * 13, 0.03 * h + rise),
                    (sign * 16.5, 0.025 * h + rise),
                ]
            )
        )
        paths.append((curve, 1.9, 1.3, 1.0))
        cores.append((curve, 1.2, 0.7, 1.0))
        out = t.width + (1.0 if shot.view == "PA" else -1.3)
        blades.append(
            spline(
                points(
                    [
                        (sign * (out - 0.5), 0.07 * h),
                        (sign * (out + 0.3), 0.3 * h),
                        (sign * (out + 1.6), 0.6 * h),
                        (sign * (out + 3.2), 0.42 * h),
                        (sign * (out + 5), 0.1 * h),
                    ]
                ),
                closed=True,
            )
        )
    heads = [ellipse(s * 19.2, 0.085 * h, 2.3, 2.4) for s in (-1, 1)]
    shafts = [
        (points([(s * 20.5, 0.1 * h), (s * 22.5, 0.45 * h), (s * 23.5, 1.6 * h)]), 2.4, 2.0, 1.0) for s in (-1, 1)
    ]
    edge = canvas.bands([(np.vstack([b, b[:1]]), 0.35, 0.35, 1.0) for b in blades])
    bone = 0.85 * canvas.bands(paths) - 0.3 * canvas.bands(cores) + 0.28 * canvas.fill(*blades) + 0.45 * edge
    bone += 1.5 * canvas.fill(*heads) + 1.2 * canvas.bands(shafts)
    return canvas.blur(bone, 0.07)


def _breasts(canvas: Canvas, t: Thorax) -> Array:
    body = t.body
    full = (1.2 + 2.6 * body.fat) if body.female else 0.9 * body.fat
    if full < 0.3:
        return canvas.zeros()
    out = canvas.zeros()
    for sign in SIGN.values():
        outline = ellipse(sign * 0.66 * t.width, 0.74 * t.height, 0.44 * t.width, 5.0 + 2.2 * body.fat, sign * -12)
        out += canvas.dome(canvas.fill(outline), 5.0, full)
    return canvas.blur(out, 0.12)


def _descending(t: Thorax) -> tuple[Points, float, float, float]:
    h, s = t.height, t.shift
    return spline(points([(2.2 + s, 0.3 * h), (2.5 + s, 0.45 * h), (2.0, 0.75 * h), (1.2, 1.05 * h)])), 2.6, 2.3, 1.0


def _airways(canvas: Canvas, t: Thorax) -> Array:
    h, s = t.height, t.shift
    c = 0.37 * h
    tree = [
        (spline(points([(0.1, -7), (0.15 + 0.3 * s, 0.1 * h), (s - 0.1, c)])), 1.7, 1.8, 1.0),
        (spline(points([(s - 0.2, c - 0.3), (s - 1.7, c + 1.7), (s - 3.0, c + 3.8)])), 1.5, 0.9, 0.8),
        (spline(points([(s + 0.1, c - 0.3), (s + 2.2, c + 1.5), (s + 4.2, c + 3.0)])), 1.3, 0.8, 0.75),
    ]
    return 2.6 * canvas.blur(canvas.bands(tree), 0.1)


def _stomach(canvas: Canvas, t: Thorax) -> Array:
    rng = stream(t.body.key, 5)
    top = float(t.diaphragms["left"][:, 1].min())
    rx, ry = float(rng.uniform(1.5, 3.4)), float(rng.uniform(0.9, 1.9))
    bubble = canvas.dome(canvas.fill(ellipse(5.6, top + 1.0 + ry, rx, ry, 8)), 1.5, 5.0)
    gas = [
        ellipse(float(rng.uniform(-9, 9)), t.height + float(rng.uniform(4, 10)), float(rng.uniform(0.8, 2)), 0.9)
        for _ in range(6)
    ]
    return canvas.blur(bubble + canvas.dome(canvas.fill(*gas), 1.2, 2.2), 0.15)


def _vessels(canvas: Canvas, t: Thorax) -> Array:
    rng = stream(t.body.key, 4)
    h = t.height
    thick: list[tuple[Points, float, float, float]] = []
    for side, sign in SIGN.items():
        root = np.array([sign * 2.9 + t.shift, (0.47 if side == "right" else 0.44) * h])
        for start in (-80, -48, -18, 12, 38, 60, 78):
            # The patient stands: vessels of the lower lobes are larger.
            size = 0.55 + 0.3 * (start > 0) + float(rng.normal(0, 0.05))
            _grow(rng, thick, root, np.radians(start + float(rng.normal(0, 7))), sign, size, h * 0.17, 0)
        hilum = spline(
            points(
                [(sign * 2.6 + t.shift, 0.42 * h), (sign * 3.8 + t.shift, 0.47 * h), (sign * 4.2 + t.shift, 0.6 * h)]
            )
        )
        thick.append((hilum, 1.5, 0.5, 0.9))
    # Thick ones last: the last band counts.
    thick.sort(key=lambda p: p[1])
    return canvas.blur(1.6 * canvas.bands(thick), 0.03)


def _grow(
    rng: np.random.Generator,
    out: list[tuple[Points, float, float, float]],
    root: Points,
    angle: float,
    sign: float,
    size: float,
    length: float,
    depth: int,
) -> None:
    bend = float(rng.normal(0, 0.25))
    steps = np.linspace(0, 1, 6)[:, None]
    heading = angle + bend * steps
    moves = np.hstack([sign * np.cos(heading), np.sin(heading)]) * length / 5
    path = root + np.vstack([[0, 0], np.cumsum(moves[:-1], axis=0)])
    out.append((path, size, 0.72 * size, float(np.clip(1.15 * size, 0.16, 1))))
    if depth < 5:
        for turn in (0.38, -0.38):
            twist = turn * float(rng.uniform(0.4, 1.5))
            _grow(
                rng,
                out,
                path[-1],
                angle + bend + twist,
                sign,
                size * float(rng.uniform(0.6, 0.76)),
                length * float(rng.uniform(0.68, 0.9)),
                depth + 1,
            )
