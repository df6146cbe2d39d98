"""Draw what bench.py measured beside the goals, as an SVG: usage: chart.py RESULTS.json > bench.svg

A bar ends at the goal's share that the median reaches: 1 is the goal, and more is better, also where less is wanted. A line spans the rounds.
"""

import json
import sys
from xml.sax.saxutils import escape

LABEL, BAR, ROW, MOST = 500, 420, 24, 1.5
REACHED, MISSED, INK = "#3a7d44", "#b3541e", "#333"


def shares(result):
    """The lowest, median and highest of the rounds as a share of the goal."""
    values = [result["min"], result["median"], result["max"]]
    if result["less"]:
        return sorted(min(result["goal"] / value, MOST) if value else MOST for value in values)
    return [min(value / result["goal"], MOST) for value in values]


def bar(result, y):
    low, median, high = shares(result)
    x = [LABEL + BAR * share / MOST for share in (low, median, high)]
    wanted = f'{"at most" if result["less"] else "at least"} {result["goal"]:,}'
    return (f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(result["what"].strip())}</text>'
            f'<rect x="{LABEL}" y="{y + 4}" width="{x[1] - LABEL:.1f}" height="{ROW - 8}" fill="{REACHED if median >= 1 else MISSED}"/>'
            f'<line x1="{x[0]:.1f}" x2="{x[2]:.1f}" y1="{y + ROW / 2}" y2="{y + ROW / 2}" stroke="{INK}"/>'
            f'<text x="{LABEL + BAR + 8}" y="{y + 15}">{result["median"]:,.4g} ({wanted})</text>')


def draw(results):
    rows = [result for result in results if result["goal"]]
    height = ROW * (len(rows) + 1)
    goal = LABEL + BAR / MOST
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL + BAR + 240}" height="{height}" font-family="sans-serif" font-size="12" fill="{INK}">',
                      '<rect width="100%" height="100%" fill="#fff"/>',
                      *(bar(result, ROW * n) for n, result in enumerate(rows)),
                      f'<line x1="{goal}" x2="{goal}" y1="0" y2="{ROW * len(rows)}" stroke="{INK}" stroke-dasharray="3"/>',
                      f'<text x="{goal}" y="{height - 8}" text-anchor="middle">the goal</text>', "</svg>"])


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        print(draw(json.load(file)["results"]))
