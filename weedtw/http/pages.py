"""Small HTML pages that say how a server is: facts, tables, links.  No script, nothing loaded from elsewhere.

    page = render_page("weedtw master", "10.0.0.7:9333", [
        Facts("Cluster", [("Leader", Link("10.0.0.7:9333", "http://10.0.0.7:9333/")), ("Volumes", 12)]),
        Table("Servers", ["Address", "Free"], [[Link(a, f"http://{a}/ui/index.html"), free] for a, free in servers]),
    ])
    return html_response(request, page)

Every text is escaped, so a collection named `<script>` is shown as just that.
"""

import functools
import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from weedtw import __version__

if TYPE_CHECKING:
    from jinja2 import Template

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}{% if subtitle %} · {{ subtitle }}{% endif %}</title>
<link rel="icon" href="/favicon.ico">
<style>
:root { --ink: #1d2a2a; --dim: #5b6b6b; --line: #d5dedd; --paper: #fbfcfc; --band: #eef4f3; --accent: #0a6e63 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dfe8e7; --dim: #93a5a4; --line: #2f3d3c; --paper: #131a1a; --band: #1b2524; --accent: #5cc9ba }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
       font: 15px/1.5 system-ui, sans-serif }
h1 { margin: 0; font-size: 1.5rem } h2 { margin: 2rem 0 .5rem; font-size: 1.1rem }
header p, footer, .none { color: var(--dim); margin: 0 } footer { margin-top: 3rem; font-size: .85rem }
a { color: var(--accent) }
.wide { overflow-x: auto }
table { border-collapse: collapse; min-width: 24rem }
th, td { padding: .3rem .9rem .3rem .4rem; text-align: left; vertical-align: top }
th, td { border-bottom: 1px solid var(--line) }
thead th { background: var(--band); white-space: nowrap } tbody th { font-weight: 500; color: var(--dim) }
td.number { text-align: right; font-variant-numeric: tabular-nums } .facts td.number { text-align: left }
</style>
</head>
<body>
<header><h1>{{ title }}</h1>{% if subtitle %}<p>{{ subtitle }}</p>{% endif %}</header>
<main>
{% for part in parts %}
<section>
<h2>{{ part.heading }}</h2>
{% if part.is_table %}
{% if part.rows %}
<div class="wide"><table>
<thead><tr>{% for column in part.columns %}<th>{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in part.rows %}
<tr>{% for cell in row %}{{ table_cell(cell) }}{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% else %}
<p class="none">none</p>
{% endif %}
{% else %}
<div class="wide"><table class="facts"><tbody>
{% for name, cell in part.rows %}
<tr><th>{{ name }}</th>{{ table_cell(cell) }}</tr>
{% endfor %}
</tbody></table></div>
{% endif %}
</section>
{% endfor %}
</main>
<footer>weedtw {{ version }}</footer>
</body>
</html>
"""

_CELLS = """{% macro table_cell(cell) %}
{%- if cell.href is defined %}<td><a href="{{ cell.href }}">{{ cell.text }}</a></td>
{%- elif cell is number and cell is not boolean %}<td class="number">{{ cell }}</td>
{%- elif cell is boolean %}<td>{{ "yes" if cell else "no" }}</td>
{%- else %}<td>{{ cell }}</td>
{%- endif %}{% endmacro %}
"""


@functools.cache
def _page() -> "Template":
    from jinja2 import DictLoader, Environment, StrictUndefined  # noqa: PLC0415 - no daemon needs it to start

    environment = Environment(
        loader=DictLoader({"page": '{% from "cells" import table_cell %}' + _PAGE, "cells": _CELLS}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("page")


@attrs.frozen
class Link:
    """A text that leads somewhere; only http, https and paths of this server are linked."""

    text: str
    target: str

    @property
    def href(self) -> str:
        """The target, or "#" when it could be anything but a page."""
        return self.target if self.target.startswith(("http://", "https://", "/")) else "#"


Cell = str | int | float | bool | Link


@attrs.frozen
class Facts:
    """Names and values under a heading, all to the left."""

    heading: str
    rows: Sequence[tuple[str, Cell]]
    is_table: bool = attrs.field(default=False, init=False)


@attrs.frozen
class Table:
    """Rows under column titles; numbers stand to the right."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    is_table: bool = attrs.field(default=True, init=False)


def render_page(title: str, subtitle: str, parts: Sequence[Facts | Table]) -> bytes:
    """One page, UTF-8; answer it with `responses.html_response`."""
    return _page().render(title=title, subtitle=subtitle, parts=parts, version=__version__).encode()


# ------------------------------------------------------------------ the icon

_LEAF = (  # 16 × 16: a blade of seagrass; '.' is clear, '#' dark, '+' light
    "................",
    "..........+#....",
    ".........+##....",
    "....+....+##....",
    "...+##..+##.....",
    "...+##..+##.....",
    "....+##.+##..+..",
    "....+##.+##.+##.",
    ".....+##+##+##..",
    ".....+##+##+##..",
    "......+#+#+##...",
    "......+#+#+#....",
    ".......+##+#....",
    "........+##.....",
    "........+##.....",
    ".....++++####...",
)
_COLOURS = {".": b"\x00\x00\x00\x00", "#": b"\x0a\x6e\x63\xff", "+": b"\x5c\xc9\xba\xff"}


def _png(rows: Sequence[str], scale: int) -> bytes:
    """A picture drawn in characters as PNG, each character `scale` pixels wide and high."""
    lines = [b"\0" + b"".join(_COLOURS[c] * scale for c in row) for row in rows for _ in range(scale)]
    header = struct.pack(">IIBBBBB", len(rows[0]) * scale, len(rows) * scale, 8, 6, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(b"".join(lines), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


FAVICON = _png(_LEAF, 2)
FAVICON_TYPE = "image/png"
