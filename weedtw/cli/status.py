"""`weedtw status`: what the masters think of the cluster."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from weedtw.cli.report import Report, printable, say, table, wide_console
from weedtw.cli.session import command, invoke, json_option, masters_option, run
from weedtw.formats.size import format_size

if TYPE_CHECKING:
    from rich.console import Console

    from weedtw.client import Client, ClusterStatus, MasterState, ServerStatus, VolumeStatus

_MOST_REMARKS: Final = 20
_ABOUT = """Show the masters, the volume servers, and the volumes by collection.

The exit status is 1 when a master that is known does not answer, or when none can tell the state of the
cluster."""


def main(arguments: Sequence[str]) -> int:
    """Run the command with the words behind its name; the exit status."""
    return invoke(status, "weedtw status", arguments)


@command(_ABOUT)
@masters_option()
@json_option("Print everything as one JSON object.")
def status(masters: str, as_json: bool) -> int:
    """Ask once and print."""

    async def work(client: "Client", report: Report) -> None:
        found = await client.status()
        if as_json:
            say(json.dumps(_as_json(found), indent=2))
        else:
            _show(wide_console(), found)
        for master in found.masters:
            if master.error:
                report.failed(master.address, master.error)

    return run("weedtw status", masters, Report("weedtw status", as_json, bars=False), work)


def _as_json(found: "ClusterStatus") -> dict[str, Any]:
    shown = attrs.asdict(found)
    for volume, fields in zip(found.volumes, shown["volumes"], strict=True):
        fields["missing_copies"] = volume.missing_copies
    return shown


def _show(console: "Console", found: "ClusterStatus") -> None:
    table(console, "Masters", ("ADDRESS", "STATE"), ((one.address, _state(one)) for one in found.masters))
    say()
    rows = [
        (one.data_center, one.rack, one.url, str(one.volumes), str(one.max_volumes), _page(one))
        for one in sorted(found.servers, key=lambda one: (one.data_center, one.rack, one.url))
    ]
    table(console, "Volume servers", ("DATA CENTER", "RACK", "ADDRESS", "#VOLUMES", "#MAX", "PAGE"), rows)
    say()
    columns = ("COLLECTION", "COPIES", "TTL", "#VOLUMES", "#FILES", "#SIZE", "#DELETED", "#READ-ONLY")
    table(console, "Volumes", columns, _by_collection(found.volumes))
    for remarks in (_of_servers(found), list(_of_volumes(found.volumes))):
        if remarks:
            say()
            say("\n".join(map(printable, remarks[:_MOST_REMARKS])))
        if len(remarks) > _MOST_REMARKS:
            say(f"... and {len(remarks) - _MOST_REMARKS} more such lines; --json lists all")


def _page(server: "ServerStatus") -> str:
    return f"http://{server.public_url}/ui/index.html"


def _state(master: "MasterState") -> str:
    if master.error:
        return "does not answer"
    if master.leads:
        return "leads"
    return f"follows {master.leader}" if master.leader else "knows no leader"


def _by_collection(volumes: "Sequence[VolumeStatus]") -> Iterator[tuple[str, ...]]:
    groups: dict[tuple[str, str, str], list[VolumeStatus]] = {}
    for volume in volumes:
        groups.setdefault((volume.collection, volume.replication, volume.ttl), []).append(volume)
    for (collection, replication, ttl), members in sorted(groups.items()):
        yield (
            collection or "(default)",
            replication,
            ttl or "-",
            str(len(members)),
            str(sum(one.files for one in members)),
            format_size(sum(one.size for one in members)),
            format_size(sum(one.deleted_bytes for one in members)),
            str(sum(one.read_only for one in members)),
        )


def _of_servers(found: "ClusterStatus") -> list[str]:
    return [
        *(f"volume server {address} is away" for address in found.absent),
        *(f"{one.server}: {one.reason}" for one in found.problems),
        *(f"{one.server}: quarantined: {one.reason}" for one in found.quarantined),
    ]


def _of_volumes(volumes: "Sequence[VolumeStatus]") -> Iterator[str]:
    for one in volumes:
        if one.missing_copies:
            held = len(one.servers)
            yield f"volume {one.volume_id} has {held} of {held + one.missing_copies} copies: {', '.join(one.servers)}"
        if one.read_only:
            yield f"volume {one.volume_id} is read-only: {'; '.join(one.reasons)}"
