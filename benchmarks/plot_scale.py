"""The plot of docs/scale.md, from what `bench_scale.py` printed.

python benchmarks/bench_scale.py --sizes 1000 10000 100000 1000000 --kinds exact 1bit > scale.log
python benchmarks/plot_scale.py scale.log docs/scale.svg
"""

from __future__ import annotations

import itertools
import json
import math
import re
import sys
from pathlib import Path

LINES = {
    ("exact", "one_cpu_ms"): ("exact, one query", "#b33", "", -9),
    ("exact", "batch_cpu_ms"): ("exact, a query of 100 at once", "#b33", "6 4", 16),
    ("1bit", "one_cpu_ms"): ("1bit, one query", "#236", "", -9),
    ("1bit", "batch_cpu_ms"): ("1bit, a query of 100 at once", "#236", "6 4", 17),
    ("add", "ms"): ("adding one photo's row and code", "#283", "2 4", -9),
    ("remove", "ms"): ("removing one", "#886", "2 4", 17),
}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 430, 64, 220, 24, 54

Points = dict[tuple[str, str], list[tuple[int, float]]]


def read(text: str, dims: int) -> Points:
    """Points of each line."""
    points: Points = {key: [] for key in LINES}
    rows = 0
    for line in text.splitlines():
        if start := re.match(r"(\d+) x (\d+):", line):
            rows = int(start[1]) if int(start[2]) == dims else 0
        elif rows and (made := re.match(r" +(exact|1bit) (\{.*\})", line)):
            figures = json.loads(made[2])
            for kind, name in LINES:
                if kind == made[1]:
                    points[kind, name].append((rows, figures[name]))
        elif rows and (changed := re.search(r"add one.*cpu ([\d.]+)\).*remove.*cpu ([\d.]+)\)", line)):
            points["add", "ms"].append((rows, float(changed[1])))
            points["remove", "ms"].append((rows, float(changed[2])))
    return points


def draw(points: Points) -> str:
    """The picture, as SVG: both axes logarithmic."""
    values = [value for line in points.values() for _, value in line]
    counts = [count for line in points.values() for count, _ in line]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    first, last = math.log10(min(counts)), math.log10(max(counts))

    def x(count: float) -> float:
        return LEFT + (math.log10(count) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(value) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    ]
    for power in range(low, high + 1):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(10**power):.1f}" y2="{y(10**power):.1f}" '
            f'stroke="#ddd"/><text x="{LEFT - 8}" y="{y(10**power) + 4:.1f}" text-anchor="end">'
            f"{10.0**power:g}</text>"
        )
    for count in sorted(set(counts)):
        parts.append(
            f'<text x="{x(count):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{count:,}</text>'
        )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">photos in the map, '
        f'512 numbers each</text><text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">'
        f"milliseconds of processor time</text>"
    )
    ends = []
    for key, line in points.items():
        name, colour, dash, _ = LINES[key]
        if not line:
            continue
        path = " ".join(f"{x(count):.1f},{y(value):.1f}" for count, value in sorted(line))
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/>'
        )
        parts += [
            f'<circle cx="{x(count):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>'
            for count, value in line
        ]
        ends.append([y(max(line)[1]) + 4, name, colour])
    ends.sort()
    for above, below in itertools.pairwise(ends):  # names do not cover each other
        below[0] = max(below[0], above[0] + 15)
    parts += [
        f'<text x="{WIDTH - RIGHT + 10}" y="{height:.1f}" fill="{colour}">{name}</text>'
        for height, name, colour in ends
    ]
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    source, out = sys.argv[1:3]
    Path(out).write_text(draw(read(Path(source).read_text(), 512)))


if __name__ == "__main__":
    main()
