"""The table of table.py as a small SVG: of each bulk path a bar, and one for each peer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

WIDTH, LABELS, NUMBERS, BAR, GAP = 760, 190, 150, 18, 14
OURS, THEIRS, MARK = "#1f6f5c", "#b9c3c9", "#c0392b"


def drawn(about: Mapping[str, Any]) -> str:
    """The picture. Each group has a scale of its own, so that its longest bar is as long as there is room."""
    body: list[str] = []
    top = 56
    for row in about["rows"]:
        if row["group"] != "create_many" or row["ours"] is None:
            continue
        body += _group(row, top)
        top += (1 + len(_bars(row))) * BAR + GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}" '
        'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="#ffffff"/>\n'
    )
    title = "create_many: microseconds of the client's processor for each command of 600 bytes"
    note = f"{about['date']}, {about['machine']}; best of {about['rounds']}; the red line is the target"
    texts = [_text(12, 20, title, weight="bold"), _text(12, 38, note, fill="#666666")]
    return head + "\n".join([*texts, *body]) + "\n</svg>\n"


def _bars(row: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    found = [("commandstore", row["ours"], OURS)]
    return found + [(label, value, THEIRS) for label, value in row["peers"].items() if value is not None]


def _group(row: Mapping[str, Any], top: int) -> Iterator[str]:
    bars = _bars(row)
    room = WIDTH - LABELS - NUMBERS
    scale = room / max(*(value for _, value, _ in bars), row["target"] or 0)
    yield _text(12, top + 12, row["what"], weight="bold")
    for number, (label, value, colour) in enumerate(bars, start=1):
        y = top + number * BAR
        yield _text(LABELS - 8, y + 12, label, anchor="end")
        long = max(1.0, value * scale)
        yield f'<rect x="{LABELS}" y="{y + 2}" width="{long:.1f}" height="{BAR - 5}" fill="{colour}"/>'
        times = "" if number == 1 else f" ({value / row['ours']:.1f}x)"
        yield _text(LABELS + long + 6, y + 12, f"{value:,.1f}{times}")
    if row["target"]:
        x, y = LABELS + row["target"] * scale, top + BAR
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + BAR - 2}" stroke="{MARK}" stroke-width="2"/>'


def _text(
    x: float, y: float, text: str, *, weight: str = "normal", fill: str = "#222222", anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" font-weight="{weight}" fill="{fill}" text-anchor="{anchor}">{escape(text)}</text>'
    )
