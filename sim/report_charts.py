"""Charts of the report as inline SVG and HTML; colours are the style sheet's, so they follow light and dark."""

import html
import math


def bars(items: list[tuple[str, float, str, str]]) -> str:
    """Horizontal bars, longest is full width: (name, value, its text, what else there is to say)."""
    top = max((value for _, value, _, _ in items), default=0) or 1
    rows = "".join(
        f'<div class="bar" title="{html.escape(name)}: {html.escape(text)}"><span class="name">{html.escape(name)}</span>'
        f'<span class="track"><span style="width:{max(100 * value / top, 0.4):.2f}%"></span></span>'
        f'<span class="number">{html.escape(text)}</span><span class="more">{html.escape(more)}</span></div>' for name, value, text, more in items)
    return f'<div class="bars">{rows}</div>'


def stacked(items: list[tuple[str, int, str, str]]) -> str:
    """Bars with each one's share of the sum."""
    total = sum(value for _, value, _, _ in items) or 1
    return bars([(name, value, f"{text}  ({100 * value / total:.1f} %)", more) for name, value, text, more in items])


def nice(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover ``low`` ... ``high``, about ``count`` of them."""
    span = max(high - low, 1e-9)
    step = 10 ** math.floor(math.log10(span / count))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= count)
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 10) for n in range(start, stop + 1)]


WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 330, 58, 18, 16, 46


def _short(value: float) -> str:
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def tradeoff(points: list[dict], bound: float, chosen: int) -> str:
    """Loss against cycles: every network measured, the best ones joined, the bound dashed, the one that was taken filled."""
    points = sorted(points, key=lambda p: p["cycles"])
    shown = [p for p in points if p["loss"] <= 4 * bound] or points
    xs = nice(min(p["cycles"] for p in shown) * 0.9, max(p["cycles"] for p in shown) * 1.03)
    ys = nice(min(0, min(p["loss"] for p in shown)), max(bound * 1.2, max(p["loss"] for p in shown)))

    def x(value):
        return LEFT + (value - xs[0]) / (xs[-1] - xs[0]) * (WIDTH - LEFT - RIGHT)

    def y(value):
        return HEIGHT - BOTTOM - (value - ys[0]) / (ys[-1] - ys[0]) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}"/><text x="{LEFT - 8}" y="{y(v) + 4:.1f}" class="end">{v:g}</text>'
             for v in ys]
    parts += [f'<line class="grid" x1="{x(v):.1f}" x2="{x(v):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
              f'<text x="{x(v):.1f}" y="{HEIGHT - BOTTOM + 18}" class="middle">{_short(v)}</text>' for v in xs]
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" class="middle axis">cycles of all layers</text>')
    parts.append(f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" class="middle axis">loss, percentage points</text>')
    parts.append(f'<line class="bound" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(bound):.1f}" y2="{y(bound):.1f}"/>'
                 f'<text x="{WIDTH - RIGHT - 4}" y="{y(bound) - 6:.1f}" class="end bound-text">bound {bound:g}</text>')
    front, best = [], math.inf
    for p in shown:
        if p["loss"] < best:
            best = p["loss"]
            front.append(p)
    path = " ".join(f"{x(p['cycles']):.1f},{y(p['loss']):.1f}" for p in front)
    parts.append(f'<polyline class="line" points="{path}"/>')
    taken = min(shown, key=lambda p: abs(p["cycles"] - chosen))
    for p in sorted(shown, key=lambda p: p is taken):
        parts.append(f'<circle class="{"taken" if p is taken else "point"}" cx="{x(p["cycles"]):.1f}" cy="{y(p["loss"]):.1f}" r="{7 if p is taken else 4.5}">'
                     f'<title>{p["cycles"]:,} cycles, loss {p["loss"]:.2f} points</title></circle>')
    side = "end" if x(taken["cycles"]) > WIDTH / 2 else "start"
    parts.append(f'<text class="{side} taken-text" x="{x(taken["cycles"]) + (-12 if side == "end" else 12):.1f}" y="{y(taken["loss"]) - 12:.1f}">chosen</text>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="loss against cycles">{"".join(parts)}</svg>'
