"""What a client takes: Accept-Encoding with its weights (RFC 9110 §12.5.3).  Pure."""

import re

_CODING = re.compile(
    r"[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*(?:;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?"
)
_ALIASES = {"x-gzip": "gzip", "x-compress": "compress"}


def weights(header: str | None) -> dict[str, float]:
    """The weight of each coding named, in lower case, `*` among them; elements that are malformed are passed over."""
    found: dict[str, float] = {}
    for element in (header or "").split(","):
        coding = _CODING.fullmatch(element)
        if coding:
            name = coding[1].lower()
            found.setdefault(_ALIASES.get(name, name), float(coding[2] or 1))
    return found


def accepts_gzip(header: str | None) -> bool:
    """Whether gzip may be sent: named, or meant by `*`, with a weight above 0 and not below that of plain bytes.

    A client that sends no header gets plain bytes, which every client can read.
    """
    named = weights(header)
    gzip = named.get("gzip", named.get("*", 0.0))
    return gzip > 0 and gzip >= named.get("identity", 0.0)
