"""Preconditions of RFC 9110 §13: entity tags, dates, and which of them decides.  Pure.

    verdict = evaluate(conditions, "GET", Validators(etag='"c99465aa"', last_modified=1_700_000_000))
    if verdict is Verdict.NOT_MODIFIED: …304…

Times are whole seconds since the epoch, UTC.
"""

import calendar
import datetime
import enum
import re
import time
from collections.abc import Callable

import attrs


class Verdict(enum.Enum):
    """What the preconditions of a request come to."""

    PROCEED = "answer as if there were none"
    NOT_MODIFIED = "304"
    FAILED = "412"


@attrs.frozen
class Validators:
    """What tells one state of a file from another; None for what it does not have."""

    etag: str | None  # with its quotes, and W/ before them if it is weak
    last_modified: int | None
    other_etag: str | None = None  # of the same state in a form that whoever asks can use as well


@attrs.frozen
class Conditions:
    """The conditional headers of a request as sent, None for those that were not."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None
    if_range: str | None = None

    @classmethod
    def of(cls, header: Callable[[str], str | None]) -> "Conditions":
        """Take them from a request: `Conditions.of(request.header)`."""
        return cls(
            header("If-Match"),
            header("If-None-Match"),
            header("If-Modified-Since"),
            header("If-Unmodified-Since"),
            header("If-Range"),
        )


def evaluate(conditions: Conditions, method: str, current: Validators | None) -> Verdict:
    """Decide in the order of §13.2.2; `current` is None when there is no such file now.

    If-Modified-Since counts for GET and HEAD only, and only without If-None-Match.
    """
    reading = method in ("GET", "HEAD")
    if conditions.if_match is not None:
        if not _matches(conditions.if_match, current, weakly=False):
            return Verdict.FAILED
    elif conditions.if_unmodified_since is not None:
        since = parse_date(conditions.if_unmodified_since)
        if since is not None and current is not None and _newer(current, since):
            return Verdict.FAILED
    if conditions.if_none_match is not None:
        if _matches(conditions.if_none_match, current, weakly=True):
            return Verdict.NOT_MODIFIED if reading else Verdict.FAILED
    elif conditions.if_modified_since is not None and reading and current is not None:
        since = parse_date(conditions.if_modified_since)
        if since is not None and current.last_modified is not None and current.last_modified <= since:
            return Verdict.NOT_MODIFIED
    return Verdict.PROCEED


def range_applies(conditions: Conditions, current: Validators) -> bool:
    """Whether a Range header is to be heeded: If-Range is absent or names the file as it is now (§13.1.5).

    A weak tag never does.  A date does only when it is the very Last-Modified.
    """
    wanted = conditions.if_range
    if wanted is None:
        return True
    wanted = wanted.strip(" \t")
    if wanted.startswith(('"', "W/")):
        return not wanted.startswith("W/") and wanted == current.etag
    since = parse_date(wanted)
    return since is not None and since == current.last_modified


def _newer(current: Validators, since: int) -> bool:
    return current.last_modified is not None and current.last_modified > since


_TAG = re.compile(r'(W/)?("[^\x00-\x20"\x7f]*")')  # a range up to the last character takes 3 ms to compile
_BETWEEN = re.compile(r"[ \t]*(?:,[ \t]*)*")


def _matches(field: str, current: Validators | None, *, weakly: bool) -> bool:
    """Whether a list of entity tags, or `*`, names the file; what is malformed matches nothing from there on."""
    if current is None:
        return False
    if field.strip(" \t") == "*":
        return True
    if current.etag is None:
        return False
    own = _TAG.fullmatch(current.etag)
    assert own is not None, f"{current.etag!r} is not an entity tag"
    names = {own[2], current.other_etag}
    at = _after_separator(field, 0)
    while at < len(field):
        tag = _TAG.match(field, at)
        if tag is None:
            return False
        if tag[2] in names and (weakly or not (tag[1] or own[1])):
            return True
        at = _after_separator(field, tag.end())
    return False


def _after_separator(field: str, at: int) -> int:
    between = _BETWEEN.match(field, at)
    return between.end() if between else at


# ------------------------------------------------------------------ dates

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CLOCK = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:{'|'.join(_DAYS)}), (?P<day>[0-9]{{2}}) (?P<month>[A-Z][a-z]{{2}}) (?P<year>[0-9]{{4}}) {_CLOCK} GMT",
        rf"[A-Z][a-z]{{5,8}}, (?P<day>[0-9]{{2}})-(?P<month>[A-Z][a-z]{{2}})-(?P<year>[0-9]{{2}}) {_CLOCK} GMT",
        rf"(?:{'|'.join(_DAYS)}) (?P<month>[A-Z][a-z]{{2}}) (?P<day>[ 0-9][0-9]) {_CLOCK} (?P<year>[0-9]{{4}})",
    )
)
_CENTURY_TURNS = 70  # two-digit years below belong to this century, the others to the last


def parse_date(text: str) -> int | None:
    """The time an HTTP date names, in any of the three forms of §5.6.7; None when it is not one."""
    match = next(filter(None, (pattern.fullmatch(text.strip(" \t")) for pattern in _DATES)), None)
    if match is None or match["month"] not in _MONTHS:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year += 2000 if year < _CENTURY_TURNS else 1900
    second = min(int(match["second"]), 59)  # a leap second counts as the one before
    try:
        moment = datetime.datetime(
            year,
            _MONTHS.index(match["month"]) + 1,
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            second,
            tzinfo=datetime.UTC,
        )
    except ValueError:
        return None
    return calendar.timegm(moment.timetuple())


def format_date(seconds: int) -> str:
    """A time as HTTP writes it: `Fri, 13 Feb 2009 23:31:30 GMT`; any locale, years 1 to 9999."""
    at = time.gmtime(seconds)
    day, month = _DAYS[at.tm_wday], _MONTHS[at.tm_mon - 1]
    return f"{day}, {at.tm_mday:02} {month} {at.tm_year:04} {at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} GMT"
