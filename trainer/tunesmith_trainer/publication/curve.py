"""The training's losses as a picture: SVG made of the log's points. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

_WIDTH, _HEIGHT = 640, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 28, 40
# Okabe and Ito's palette, told apart by most people with colour vision deficiency.
_COLOURS = {"loss": "#0072B2", "evalLoss": "#D55E00"}
_LABELS = {"loss": "training", "evalLoss": "held-out"}
_TICKS = 5
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
    losses = (min(0.0, *(y for _, y in points)), max(y for _, y in points) * 1.05)
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
    span = (losses[1] - losses[0]) or 1.0
    return _HEIGHT - _BOTTOM - (loss - losses[0]) / span * (_HEIGHT - _TOP - _BOTTOM)


def _axes(steps: tuple[float, float], losses: tuple[float, float]) -> list[str]:
    parts = []
    for tick in range(_TICKS):
        share = tick / (_TICKS - 1)
        loss = losses[0] + share * (losses[1] - losses[0])
        step = steps[0] + share * (steps[1] - steps[0])
        y, x = _y(loss, losses), _x(step, steps)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{loss:.2f}</text>')
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{step:.0f}</text>')
    parts.append(f'<text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">step</text>')
    return parts


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
