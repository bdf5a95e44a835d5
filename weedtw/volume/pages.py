"""The volume server's page for people: what `/status` says, and whether the masters know of it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from weedtw.formats.size import format_size
from weedtw.http.pages import Cell, Facts, Mark, Meter, Notice, Page, Part, Simple, Table

_CROWDED = 0.9  # of the size limit, as the masters have it
_MOST_LISTED = 500  # volumes; /status has all


def server_page(
    address: str,
    value: Mapping[str, Any],
    *,
    facts: Sequence[tuple[str, Cell]],
    missing: str,
    size_limit: int,
    seconds: float,
) -> Page:
    """The page: `value` is what /status answers, `missing` why no master knows of it, `seconds` the time of day."""
    volumes = value["Volumes"]
    parts: list[Part] = [
        Notice("bad", f"Not in service: {missing}.") if missing else Notice("good", "In service: a master knows it."),
        *_notices(value),
        Facts("Server", [*facts, *_sums(volumes)]),
        _folders(value["DiskStatuses"]),
        _collections(volumes),
        _volumes(volumes, size_limit),
    ]
    if "Problems" in value:
        problems = [[problem["Id"], problem["Path"], problem["Reason"]] for problem in value["Problems"]]
        parts.append(Table("Not served", ["Id", "File", "Reason"], problems))
    as_of = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Page("weedtw volume server", address, as_of, parts)


def _notices(value: Mapping[str, Any]) -> list[Notice]:
    notices = [
        Notice("bad", f"{disk['dir']}: {disk['Error']}.") for disk in value["DiskStatuses"] if disk.get("Error")
    ]
    unserved = len(value.get("Problems", ()))
    if unserved:
        notices.append(Notice("bad", f"{unserved} of the files here cannot be served: see below."))
    read_only = sum(1 for volume in value["Volumes"] if volume["ReadOnly"])
    if read_only:
        notices.append(Notice("warn", f"{read_only} of {len(value['Volumes'])} volumes here are read-only."))
    return notices


def _sums(volumes: Sequence[Mapping[str, Any]]) -> list[tuple[str, Cell]]:
    return [
        ("Volumes", len(volumes)),
        ("Files", sum(volume["FileCount"] - volume["DeleteCount"] for volume in volumes)),
        ("Their size", format_size(sum(volume["Size"] for volume in volumes))),
        ("Garbage in it", format_size(sum(volume["DeletedByteCount"] for volume in volumes))),
    ]


def _folders(disks: Sequence[Mapping[str, Any]]) -> Table:
    rows: list[list[Cell]] = []
    for disk in disks:
        used = 1 - disk["percent_free"] / 100 if disk["all"] else 0.0
        state: Cell = Meter(f"{disk['percent_free']:.1f} % free", used, alarms=True)
        if disk.get("Error"):
            state = Mark("bad", disk["Error"])
        rows.append([disk["dir"], format_size(disk["all"]), format_size(disk["free"]), state])
    return Table("Folders", ["Folder", "Size", "Free", "Use"], rows)


def _collections(volumes: Sequence[Mapping[str, Any]]) -> Table:
    by_name: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for volume in volumes:
        by_name[volume["Collection"]].append(volume)
    rows: list[list[Cell]] = [
        [
            name or "(default)",
            len(held),
            sum(volume["FileCount"] - volume["DeleteCount"] for volume in held),
            format_size(sum(volume["Size"] for volume in held)),
            sum(1 for volume in held if volume["ReadOnly"]),
        ]
        for name, held in sorted(by_name.items())
    ]
    return Table("Collections", ["Collection", "Volumes", "Files", "Size", "Read-only"], rows)


def _volumes(volumes: Sequence[Mapping[str, Any]], size_limit: int) -> Table:
    rows: list[list[Cell]] = []
    ordered = sorted(volumes, key=lambda volume: (not volume["ReadOnly"], volume["Id"]))
    for volume in ordered[:_MOST_LISTED]:
        size = volume["Size"]
        marks: list[Simple] = []
        if volume["ReadOnly"]:
            marks.append(Mark("warn", f"read-only: {volume.get('ReadOnlyReason') or 'marked so'}"))
        if size >= size_limit:
            marks.append(Mark("dim", "full"))
        elif size >= size_limit * _CROWDED:
            marks.append(Mark("warn", "crowded"))
        rows.append(
            [
                volume["Id"],
                volume["Collection"] or "(default)",
                tuple(marks) or Mark("good", "writable"),
                Meter(f"{format_size(size)} of {format_size(size_limit)}", size / size_limit),
                volume["FileCount"],
                volume["DeleteCount"],
                format_size(volume["DeletedByteCount"]),
            ]
        )
    more = "" if len(rows) == len(volumes) else f" ({len(rows)} of {len(volumes)}; /status has all)"
    columns = ["Id", "Collection", "State", "Size", "Files", "Deleted", "Garbage"]
    return Table(f"Volumes{more}", columns, rows)
