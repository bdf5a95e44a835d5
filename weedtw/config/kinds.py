"""What an option may take: one `Kind` each, a phrase for people and a function from text to value.

Texts come from the command line and, turned back into text, from TOML; so there is one parser for both.
"""

import ipaddress
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs

from weedtw.config.model import Growth, MinFree, join_address

_UNITS = {"ns": "1e-9", "us": "1e-6", "µs": "1e-6", "ms": "1e-3", "s": "1", "m": "60", "h": "3600", "d": "86400"}
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?)B?", re.IGNORECASE)
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_MOST_BYTES = 2**63 - 1


@attrs.frozen
class Kind:
    """`takes` completes the sentence "that is not …"; `parse` raises ValueError for what it does not take.

    A `flag` may stand alone, which means true.
    """

    takes: str
    parse: Callable[[str], Any]
    flag: bool = False


# ------------------------------------------------------------------ numbers


def integer(low: int, high: int, what: str = "a whole number") -> Kind:
    """A whole number from `low` to `high`, both included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(text)
        return int(text)

    return Kind(f"{what} from {low} to {high}", parse)


def number(above: float, high: float) -> Kind:
    """A number over `above` and not over `high`."""

    def parse(text: str) -> float:
        value = float(text)
        if not above < value <= high:  # refuses nan as well
            raise ValueError(text)
        return value

    return Kind(f"a number above {above:g}, at most {high:g}", parse)


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `300ms`, `3s`, `1h30m`, or of a bare number of seconds.

    Raises ValueError.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(f"(?:{_DURATION.pattern})+", text):
        raise ValueError(text)
    total = Decimal(0)  # 50000us is 0.05, not 0.049999999999999996
    for part in _DURATION.findall(text):
        unit = part.lstrip("0123456789.")
        total += Decimal(part[: -len(unit)]) * Decimal(_UNITS[unit])
    return float(total)


def duration(shortest: float, longest: float) -> Kind:
    """A length of time between `shortest` and `longest` seconds."""

    def parse(text: str) -> float:
        value = parse_duration(text)
        if not shortest <= value <= longest:
            raise ValueError(text)
        return value

    return Kind(f"a duration from {spell(shortest)} to {spell(longest)}, such as 300ms, 3s or 1h30m", parse)


def spell(seconds: float) -> str:
    """A length of time as it may be typed: `500ms`, `3s`."""
    for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds * 1000:g}ms"


def _parse_min_free(text: str) -> MinFree:
    found = _SIZE.fullmatch(text.strip().removesuffix("%"))
    if not found or (text.strip().endswith("%") and found[2]):
        raise ValueError(text)
    value, unit = float(found[1]), found[2].upper()
    if value <= 100 and not unit and not text.upper().endswith("B"):
        return MinFree(percent=value)
    size = round(value * (1024 if found[3] else 1000) ** " KMGTP".index(unit or " "))
    if text.strip().endswith("%") or size > _MOST_BYTES:
        raise ValueError(text)
    return MinFree(percent=0.0, bytes=size)


MIN_FREE = Kind("a percentage up to 100 or a size such as 10GiB", _parse_min_free)


def _parse_bool(text: str) -> bool:
    if text.lower() in {"true", "t", "1"}:
        return True
    if text.lower() in {"false", "f", "0"}:
        return False
    raise ValueError(text)


BOOL = Kind("true or false", _parse_bool, flag=True)
PORT = integer(1, 65535, "a port number")

# ------------------------------------------------------------------ texts


def choice(*words: str) -> Kind:
    """One of `words`."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    listed = ", ".join(words[:-1]) + " or " + words[-1] if len(words) > 1 else words[0]
    return Kind(listed, parse)


def _parse_name(text: str) -> str:
    if not text.isprintable() or len(text) > 128 or set(text) & set(" /\\,\"'<>"):
        raise ValueError(text)
    return text


def _parse_path(text: str) -> str:
    if "\0" in text or not text:
        raise ValueError(text)
    return text


NAME = Kind("a name (at most 128 characters, without blanks, quotes, commas and slashes)", _parse_name)
PATH = Kind("the path of a folder", _parse_path)


def split_list(text: str) -> tuple[str, ...]:
    """The parts between commas, blanks around them removed; an empty part raises ValueError."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise ValueError(text)
    return parts


def list_of(kind: Kind, what: str) -> Kind:
    """Values of `kind`, separated by commas."""

    def parse(text: str) -> tuple[Any, ...]:
        return tuple(kind.parse(part) for part in split_list(text))

    return Kind(what, parse)


def _parse_growth(text: str) -> Growth:
    counts = split_list(text)
    if len(counts) != 4:
        raise ValueError(text)
    return Growth(*(integer(1, 1000).parse(count) for count in counts))


GROWTH = Kind("four counts (for 1, 2, 3 and more copies) such as 7,6,3,1", _parse_growth)

# ------------------------------------------------------------------ addresses


def is_host(text: str) -> bool:
    """Whether the text is an IP address or could be a host name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        all_digits = set(text) <= set("0123456789.")  # a mistyped address, not a name
        return bool(_HOST_NAME.fullmatch(text)) and len(text) <= 253 and not all_digits
    return True


def is_wildcard(host: str) -> bool:
    """Whether the text is an address that stands for every interface (`0.0.0.0` or `::`)."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def is_localhost(host: str) -> bool:
    """Whether a host is `localhost`, by name or by its usual addresses; another 127.x.x.x may be another server's."""
    return host.rstrip(".").lower() in {"localhost", "ip6-localhost", "127.0.0.1", "::1"}


def is_loopback(host: str) -> bool:
    """Whether a host can only mean this machine: `localhost`, 127.x.x.x or `::1`."""
    if host.rstrip(".").lower() in {"localhost", "ip6-localhost"}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def split_address(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, `[v6]:port`, or SeaweedFS's `host:port.grpcPort`.

    Raises ValueError.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            raise ValueError(text)
        port_text = rest[1:] if rest else str(default_port)
    elif text.count(":") > 1:
        host, port_text = text, str(default_port)
    else:
        host, colon, port_text = text.partition(":")
        port_text = port_text if colon else str(default_port)
    port_text, dot, grpc = port_text.partition(".")
    if dot:
        PORT.parse(grpc)
    if not is_host(host) or is_wildcard(host):
        raise ValueError(text)
    return host, PORT.parse(port_text)


def _parse_host(text: str) -> str:
    if not is_host(text) or is_wildcard(text):
        raise ValueError(text)
    return text


def _parse_interface(text: str) -> str:
    if not is_host(text):
        raise ValueError(text)
    return text


def _parse_server(text: str) -> str:
    host, port = split_address(text, 9333)
    return join_address(host, port)


def _parse_peers(text: str) -> tuple[str, ...]:
    names = split_list(text)
    if "none" in names and len(names) > 1:
        raise ValueError(text)
    return () if names == ("none",) else tuple(_parse_server(name) for name in names)


def _parse_public_url(text: str) -> str:
    host, port = split_address(text, 80)
    return join_address(host, port) if text.endswith(f":{port}") else text


def _parse_network(text: str) -> str:
    if text.lower() != "localhost":
        ipaddress.ip_network(text, strict=False)
    return text


HOST = Kind("an IP address or host name that others can reach (0.0.0.0 belongs in --ip.bind)", _parse_host)
INTERFACE = Kind("an IP address or host name to listen on, 0.0.0.0 for every interface", _parse_interface)
SERVERS = list_of(Kind("", _parse_server), "a list such as localhost:9333,host2:9333")
PEERS = Kind("a list such as host1:9333,host2:9333, or none", _parse_peers)
PUBLIC_URL = Kind("host:port without http://", _parse_public_url)
WHITE_LIST = list_of(Kind("", _parse_network), "a list of addresses and networks such as 10.0.0.7,192.168.0.0/16")
