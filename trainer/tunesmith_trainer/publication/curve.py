"""The training's losses as a picture: SVG made of the log's points. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_WIDTH, _HEIGHT = 640, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 28, 40
# Okabe and Ito's palette, told apart by most people with colour vision deficiency.
_COLOURS = {"loss": "#0072B2", "evalLoss": "#D55E00"}
_LABELS = {"loss": "training", "evalLoss": "held-out"}
_TICKS = 5
# A loss of nothing has no logarithm; below this all losses are one.
_LEAST = 1e-4
# Room above the highest and below the lowest point.
_MARGIN = 1.1
_FONT = 'font-family="sans-serif" font-size="12"'


def loss_curve(log: Sequence[Mapping[str, Any]], title: str) -> str | None:
    """An SVG of training and held-out loss by step; None where the log holds fewer than two points."""
    series = {
        name: [(float(row["step"]), float(row[name])) for row in log if row.get(name) is not None and "step" in row]
        for name in _COLOURS
    }
    points = [point for line in series.values() for point in line]
    if len(points) < 2:  # noqa: PLR2004  # a line needs two
        return None
    steps = (min(x for x, _ in points), max(x for x, _ in points))
    losses = (max(min(y for _, y in points), _LEAST) / _MARGIN, max(_LEAST, *(y for _, y in points)) * _MARGIN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="18" font-size="14">{_escaped(title)}</text>',
        *_axes(steps, losses),
    ]
    for index, (name, line) in enumerate(series.items()):
        if line:
            parts += _line(name, [(_x(x, steps), _y(y, losses)) for x, y in line], index)
    return "\n".join([*parts, "</svg>", ""])


def _x(step: float, steps: tuple[float, float]) -> float:
    span = (steps[1] - steps[0]) or 1.0
    return _LEFT + (step - steps[0]) / span * (_WIDTH - _LEFT - _RIGHT)


def _y(loss: float, losses: tuple[float, float]) -> float:
    """Logarithmic: a loss falls by factors, and what happens near its end is what one looks for."""
    low, high = math.log(losses[0]), math.log(losses[1])
    return _HEIGHT - _BOTTOM - (math.log(max(loss, losses[0])) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def _axes(steps: tuple[float, float], losses: tuple[float, float]) -> list[str]:
    parts = []
    for loss in _round_losses(losses):
        y = _y(loss, losses)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{loss:g}</text>')
    for step in _round_steps(steps):
        x = _x(step, steps)
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{step}</text>')
    parts.append(f'<text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">step</text>')
    return parts


def _round_losses(losses: tuple[float, float]) -> list[float]:
    """1, 2 and 5 times powers of ten within the range."""
    exponents = range(math.floor(math.log10(losses[0])), math.ceil(math.log10(losses[1])) + 1)
    ticks = [float(f"{digit}e{exponent}") for exponent in exponents for digit in (1, 2, 5)]
    return [tick for tick in ticks if losses[0] <= tick <= losses[1]]


def _round_steps(steps: tuple[float, float]) -> list[int]:
    """Multiples of 1, 2 or 5 times a power of ten, six at most."""
    wanted = max((steps[1] - steps[0]) / _TICKS, 1.0)
    power = 10 ** math.floor(math.log10(wanted))
    apart = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= wanted)
    return list(range(math.ceil(steps[0] / apart) * apart, int(steps[1]) + 1, apart))


def _line(name: str, points: Sequence[tuple[float, float]], index: int) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    colour, x = _COLOURS[name], _WIDTH - _RIGHT - 90
    y = _TOP + 12 + index * 16
    return [
        f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>',
        f'<line x1="{x}" x2="{x + 18}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="2"/>',
        f'<text x="{x + 24}" y="{y}">{_LABELS[name]}</text>',
    ]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
