"""HTML pages that say how a server is: notices, facts, tables, links.  Nothing is loaded from elsewhere.

    page = Page("weedtw master", "10.0.0.7:9333", "2026-05-01 03:12:44 UTC", [
        Notice("good", "10.0.0.7:9333 leads in term 4"),
        Facts("Cluster", [("Volumes", 12), ("Disk", Meter("3 of 10 GiB", 0.3))]),
        Table("Servers", ["Address", "Free"], [[Link(a, f"http://{a}/ui/index.html"), free] for a, free in servers]),
    ])
    return page_response(request, page)

The page fetches itself anew every second (`?part=live` is what stands in its middle) and says how old it is.  Without
JavaScript it is a plain page that the browser reloads.  Every text is escaped, so a collection named `<script>` is
shown as just that.
"""

import base64
import functools
import hashlib
import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import attrs

from weedtw import __version__
from weedtw.http.page_parts import CELLS, MIDDLE, SCRIPT, WHOLE
from weedtw.http.requests import Request, query
from weedtw.http.responses import html_response

if TYPE_CHECKING:
    from jinja2 import Template

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    f"script-src 'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
).encode()
_HIGH, _FULL = 0.8, 0.92  # from here on a meter warns, and alarms

Level = Literal["good", "warn", "bad", "dim"]


@functools.cache
def _template(name: str) -> "Template":
    from jinja2 import DictLoader, Environment, StrictUndefined  # noqa: PLC0415 - no daemon needs it to start

    environment = Environment(
        loader=DictLoader({"whole": WHOLE, "middle": MIDDLE, "cells": CELLS}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


# ------------------------------------------------------------------ cells


@attrs.frozen
class Link:
    """A text that leads somewhere; only http, https and paths of this server are linked."""

    text: str
    target: str
    kind: str = attrs.field(default="link", init=False)

    @property
    def href(self) -> str:
        """The target, or "#" when it could be anything but a page."""
        return self.target if self.target.startswith(("http://", "https://", "/")) else "#"


@attrs.frozen
class Mark:
    """A word that is to be seen; `about` is shown when it is pointed at."""

    level: Level
    text: str
    about: str = ""
    kind: str = attrs.field(default="mark", init=False)


@attrs.frozen
class Meter:
    """How much of something is used, as a bar; `share` is from 0 to 1.  One that `alarms` is better not full."""

    text: str
    share: float
    alarms: bool = False
    kind: str = attrs.field(default="meter", init=False)

    @property
    def percent(self) -> str:
        """The width of the bar."""
        return f"{min(max(self.share, 0.0), 1.0) * 100:.1f}"

    @property
    def level(self) -> Level:
        """How bad that is."""
        if self.alarms and self.share >= _FULL:
            return "bad"
        return "warn" if self.alarms and self.share >= _HIGH else "good"


Simple = str | int | float | bool | Link | Mark | Meter
Cell = Simple | tuple[Simple, ...]  # several stand side by side


# ------------------------------------------------------------------ parts


@attrs.frozen
class Notice:
    """What has to be known first."""

    level: Level
    text: str
    kind: str = attrs.field(default="notice", init=False)


@attrs.frozen
class Facts:
    """Names and values under a heading."""

    heading: str
    rows: Sequence[tuple[str, Cell]]
    kind: str = attrs.field(default="facts", init=False)


@attrs.frozen
class Table:
    """Rows under column titles; numbers stand to the right.  `empty` is said when there is no row."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    empty: str = "none"
    kind: str = attrs.field(default="table", init=False)


Part = Notice | Facts | Table


@attrs.frozen
class Page:
    """One page; `as_of` is the time that it tells of."""

    title: str
    subtitle: str
    as_of: str
    parts: Sequence[Part]

    @property
    def level(self) -> Level:
        """The worst of its notices."""
        levels: Sequence[Level] = [part.level for part in self.parts if isinstance(part, Notice)]
        return next((level for level in ("bad", "warn", "good") if level in levels), "dim")

    def render(self) -> bytes:
        """The whole of it, UTF-8."""
        return _template("whole").render(page=self, version=__version__, script=SCRIPT).encode()

    def render_middle(self) -> bytes:
        """What changes."""
        return _template("middle").render(page=self).encode()


def page_response(request: Request, page: Page) -> bytes:
    """Answer a page, or with `?part=live` its middle."""
    request.setHeader(b"Cache-Control", b"no-store")
    wants_middle = query(request).text("part") == "live"
    return html_response(request, page.render_middle() if wants_middle else page.render(), policy=_POLICY)


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
