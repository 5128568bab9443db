"""Chart of a metric over the label fraction, as inline SVG with a label at each line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from medvlp.benchmarks.results import Benchmark
from medvlp.benchmarks.scores import Score, metric_name

WIDTH, HEIGHT = 840, 420
LEFT, RIGHT, TOP, BOTTOM = 44, 240, 14, 36
# Left end of the labels; leader lines join them to the curves.
EDGE = WIDTH - RIGHT + 50
# Pixels between the baselines of two labels, and between two series at one fraction.
SPACING, DODGE = 14, 5


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        name: Its label.
        title: Text that a pointer over the line shows.
        points: Values in percent, by label fraction in percent.
        scores: Scores with their intervals, by label fraction; empty for published results.
        dashed: Whether the protocol differs from that of the other lines.
    """

    name: str
    title: str
    points: Mapping[float, float]
    scores: Mapping[float, Score]
    dashed: bool = False


class Axes:
    """Axes of the chart: they map label fractions and values to coordinates."""

    def __init__(self, series: Sequence[Series]) -> None:
        self.fractions = sorted({fraction for line in series for fraction in line.points})
        values = [value for line in series for value in line.points.values()]
        bounds = [bound for line in series for s in line.scores.values() for bound in (s.low, s.high)]
        values += [bound for bound in bounds if bound is not None]
        low, high = min(values), max(values)
        self.step = next(step for step in (0.5, 1, 2, 5, 10, 20) if (high - low) / step <= 8 or step == 20)
        self.low = min(max(0.0, math.floor(low / self.step) * self.step), 100 - self.step)
        self.high = min(100.0, max(math.ceil(high / self.step) * self.step, self.low + self.step))

    def x(self, fraction: float) -> float:
        """Return the x coordinate of a label fraction; the axis is logarithmic."""
        first, last = math.log(self.fractions[0]), math.log(self.fractions[-1])
        share = (math.log(fraction) - first) / (last - first) if last > first else 0.5
        return LEFT + 24 + share * (WIDTH - LEFT - RIGHT - 36)

    def y(self, value: float) -> float:
        """Return the y coordinate of a value."""
        return TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)

    def ticks(self) -> list[float]:
        """Return the values of the grid."""
        count = round((self.high - self.low) / self.step)
        return [self.low + i * self.step for i in range(count + 1)]


def chart(benchmark: Benchmark, metric: str) -> str:
    """Return the SVG of a metric; a synthetic benchmark has no published lines, because its data differ."""
    ours = [
        Series(row.label, row.label, {f: score.mean for f, score in row.scores[metric].items()}, row.scores[metric])
        for row in benchmark.rows
        if metric in row.scores
    ]
    others = [] if benchmark.synthetic else published_series(benchmark, metric)
    axes = Axes([*ours, *others])
    parts = [_grid(axes)]
    parts += [_published(axes, line) for line in others]
    parts += [_ours(axes, line, i, len(ours)) for i, line in enumerate(ours)]
    parts.append(_labels(axes, ours, others))
    what = escape(f"{benchmark.title}: {metric_name(metric)} in percent against the share of labels")
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{what}">{"".join(parts)}</svg>'


def published_series(benchmark: Benchmark, metric: str) -> list[Series]:
    """Return the published lines without ablations; equal values from several sources make one line."""
    sources: dict[tuple[tuple[float, float], ...], list[tuple[str, str, bool]]] = {}
    for row in benchmark.published:
        if row.metric == metric and not row.ablation:
            dashed = row.protocol == "full fine-tuning"
            sources.setdefault(tuple(row.values.items()), []).append((row.method, row.source, dashed))
    names = [" / ".join(dict.fromkeys(method for method, *_ in rows)) for rows in sources.values()]
    lines = []
    for name, (points, rows) in zip(names, sources.items(), strict=True):
        label = name if names.count(name) == 1 else f"{name}, {rows[0][1]}"
        values = " / ".join(f"{value:.1f}" for _, value in points)
        title = f"{', '.join(f'{other} ({where})' for other, where, _ in rows)}: {values}"
        lines.append(Series(label, title, dict(points), {}, all(dashed for *_, dashed in rows)))
    return lines


def _grid(axes: Axes) -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for value in axes.ticks():
        y = axes.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for fraction in axes.fractions:
        x = axes.x(fraction)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{fraction:g} %</text>')
    parts.append(f'<text class="tick" x="{EDGE + 6}" y="{bottom + 20}">of the labels</text>')
    return "".join(parts)


def _path(axes: Axes, line: Series, shift: float = 0) -> str:
    places = [f"{axes.x(f) + shift:.1f} {axes.y(line.points[f]):.1f}" for f in sorted(line.points)]
    return f'<path d="M{" L".join(places)}"/>'


def _published(axes: Axes, line: Series) -> str:
    dots = "".join(f'<circle cx="{axes.x(f):.1f}" cy="{axes.y(v):.1f}" r="2"/>' for f, v in line.points.items())
    dashed = " dashed" if line.dashed else ""
    return f'<g class="published{dashed}"><title>{escape(line.title)}</title>{_path(axes, line)}{dots}</g>'


def _ours(axes: Axes, line: Series, number: int, count: int) -> str:
    shift = (number - (count - 1) / 2) * DODGE
    parts = [_path(axes, line, shift)]
    for fraction, score in line.scores.items():
        x, y = axes.x(fraction) + shift, axes.y(score.mean)
        parts.append(f"<g><title>{escape(f'{line.title}, {fraction:g} %: {score}')}</title>")
        if score.low is not None and score.high is not None:
            parts.append(f'<path d="M{x:.1f} {axes.y(score.low):.1f} V{axes.y(score.high):.1f}"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/></g>')
    return f'<g class="ours {colour(number)}">{"".join(parts)}</g>'


def colour(number: int) -> str:
    """Return the CSS class of a series' colour, one of six."""
    return f"c{number % 6}"


def _labels(axes: Axes, ours: Sequence[Series], others: Sequence[Series]) -> str:
    """Label the ends of the lines; lines beyond the last label that fits show their names on hover only."""
    kept = [*ours, *others][: int((HEIGHT - TOP - BOTTOM) // SPACING)]
    ends = [_end(axes, line) for line in kept]
    parts = []
    for i, (line, (x, y), place) in enumerate(zip(kept, ends, spread([y for _, y in ends]), strict=True)):
        kind = f" {colour(i)}" if i < len(ours) else ""
        path = f"M{x + 6:.1f} {y:.1f} L{EDGE - 4} {place:.1f} H{EDGE + 2}"
        parts.append(f'<path class="leader{kind}" d="{path}"/>')
        parts.append(f'<text class="label{kind}" x="{EDGE + 6}" y="{place + 4:.1f}">{escape(line.name)}</text>')
    return "".join(parts)


def _end(axes: Axes, line: Series) -> tuple[float, float]:
    fraction = max(line.points)
    return axes.x(fraction), axes.y(line.points[fraction])


def spread(heights: Sequence[float]) -> list[float]:
    """Return heights at least one line of text apart and inside the picture, each moved as little as possible."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    # Each group holds labels that touch, and lies at the mean of their wanted heights; stored as number and sum.
    groups: list[tuple[int, float]] = []
    for rank, i in enumerate(order):
        count, total = 1, heights[i] - rank * SPACING
        while groups and groups[-1][1] / groups[-1][0] > total / count:
            before = groups.pop()
            count, total = count + before[0], total + before[1]
        groups.append((count, total))
    shifted = [total / count for count, total in groups for _ in range(count)]
    lowest = HEIGHT - BOTTOM - (len(order) - 1) * SPACING
    placed = [0.0] * len(order)
    for rank, (i, value) in enumerate(zip(order, shifted, strict=True)):
        placed[i] = min(max(value, TOP), lowest) + rank * SPACING
    return placed
