"""The log for programs: one JSON object a line, with the text as people would read it and the fields it is made of.

    {"time": "2026-11-23T08:09:17.512Z", "level": "info", "namespace": "weedtw.master.heartbeats.Heartbeats",
     "message": "volume server a:8080 has left: it stops", "fields": {"address": "a:8080"}}

`traceback` is there when a failure was logged.
"""

import json
from datetime import UTC, datetime
from typing import Any, TextIO

from twisted.logger import FileLogObserver, LogEvent, formatEvent

_OF_TWISTED = frozenset(("format", "isError", "message", "system", "time", "why", "failure"))  # of its older log


def json_observer(out: TextIO) -> FileLogObserver:
    """What writes events to `out`."""
    return FileLogObserver(out, line_of)


def line_of(event: LogEvent) -> str:
    """One event as a line; never raises, whatever the fields are."""
    level, failure = event.get("log_level"), event.get("log_failure")
    when = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    said: dict[str, Any] = {
        "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level.name if level is not None else "info",
        "namespace": str(event.get("log_namespace") or ""),
        "message": formatEvent(event),
    }
    fields = {name: _plain(value) for name, value in event.items() if _is_field(name)}
    if fields:
        said["fields"] = fields
    if failure is not None:
        said["message"] = said["message"] or str(failure.value)
        said["traceback"] = failure.getTraceback()
    return json.dumps(said) + "\n"


def _is_field(name: str) -> bool:
    return not name.startswith("log_") and name not in _OF_TWISTED


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # JSON has no NaN
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a log line must not fail for what it speaks of
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
