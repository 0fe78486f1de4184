#!/usr/bin/env python3
"""Draws a captured terminal as SVG: reads what `tmux capture-pane -e -p` prints on stdin, and prints
the picture. Colors are classes, with a dark background in both light and dark pages: the picture is
of a terminal. Usage: picture.py TITLE"""

import html
import re
import sys
import unicodedata

CELL, LINE, SIZE, MARGIN, BAR = 8.4, 19, 14, 16, 34
COLORS = ["#1d1f21", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d0d4da"]
TEXT, BACK, FRAME = "#d0d4da", "#1e2127", "#2b2f37"


def styled(line):
    """Pieces of a line that look the same: (class names, text)."""
    pieces, bold, dim, color = [], False, False, None
    for escape, text in re.findall(r"\x1b\[([0-9;]*)m|([^\x1b]+)", line):
        if text:
            names = ["b"] * bold + ["d"] * dim + ([f"c{color}"] if color is not None else [])
            pieces.append((" ".join(names), text))
            continue
        for code in (int(code or 0) for code in escape.split(";")):
            if code == 0:
                bold, dim, color = False, False, None
            elif code == 1:
                bold = True
            elif code == 2:
                dim = True
            elif code == 22:
                bold, dim = False, False
            elif 30 <= code <= 37:
                color = code - 30
            elif 90 <= code <= 97:
                color = code - 90
            elif code == 39:
                color = None
    return pieces


def width(text):
    """Columns that a text takes on a terminal."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def main():
    lines = [styled(line.rstrip()) for line in sys.stdin.read().rstrip("\n").split("\n")]
    columns = max(width("".join(text for _, text in line)) for line in lines)
    wide, high = columns * CELL + 2 * MARGIN, BAR + len(lines) * LINE + 2 * MARGIN - 6
    title = html.escape(sys.argv[1])
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high}" role="img">',
        f"<title>{title}</title>",
        "<style>",
        f"text {{ font: {SIZE}px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: {TEXT} }}",
        ".b { font-weight: bold } .d { opacity: .6 }",
        *(f".c{number} {{ fill: {color} }}" for number, color in enumerate(COLORS)),
        "</style>",
        f'<rect width="100%" height="100%" rx="8" fill="{BACK}"/>',
        f'<path d="M0 8a8 8 0 0 1 8-8h{wide - 16:.0f}a8 8 0 0 1 8 8v{BAR - 8}H0z" fill="{FRAME}"/>',
        f'<text x="{wide / 2:.0f}" y="22" text-anchor="middle" class="d">{title}</text>',
    ]
    for row, line in enumerate(lines):
        column, y = 0, BAR + MARGIN + 12 + row * LINE
        for names, text in line:
            shown = text.strip(" ")
            if shown:
                x = MARGIN + (column + len(text) - len(text.lstrip(" "))) * CELL
                css = f' class="{names}"' if names else ""
                length = f' textLength="{width(shown) * CELL:.1f}"' if len(shown) > 1 else ""
                out.append(f'<text x="{x:.1f}" y="{y}"{length} xml:space="preserve"{css}>{html.escape(shown)}</text>')
            column += width(text)
    out.append("</svg>")
    print("\n".join(out))


main()
