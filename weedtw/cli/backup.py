"""`weedtw backup`: a copy of a volume that is brought up to date each time."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from weedtw.cli.folders import dir_option, held, now_ns
from weedtw.cli.report import Report
from weedtw.cli.session import command, invoke, masters_option, option, run
from weedtw.cli.spelling import Count
from weedtw.errors import BadRequest, PeerError, StorageError
from weedtw.formats.size import format_size

if TYPE_CHECKING:
    from weedtw.client import Client, VolumeTail
    from weedtw.storage.backup import Own

_ABOUT = """Copy a volume from a running server, or bring an earlier copy up to date.

Only what is new is copied, until the volume was vacuumed: then all of it is. An interrupted backup is gone on with by
the next one. The folder can be served by a volume server, or looked into with weedtw verify and weedtw export."""
_KNOWS_NOT = (400, 404, 405)  # what a server answers that has no such endpoint


@command(_ABOUT)
@masters_option("server")
@dir_option("Where the copy is, or is to be.")
@option("volume_id", "volumeId", type=Count(1), required=True, metavar="ID", help="The volume.")
@option("collection", "collection", default="", metavar="NAME", help="Its collection.")
@option(
    "replication", "replication", default="", metavar="XYZ", help="What the copy has, such as 000; else the volume's."
)
@option(
    "ttl", "ttl", default="", help="The time to live that the copy has: 3m, 4h, 5d, 6w, 7M, 8y; else the volume's."
)
def backup(masters: str, folder: str, volume_id: int, collection: str, replication: str, ttl: str) -> int:
    """Copy and say how much."""
    report = Report("weedtw backup")
    own = _own(replication, ttl)

    async def work(client: "Client", report: Report) -> None:
        from weedtw.storage.backup import Tail, back_up
        from weedtw.storage.names import VolumeFiles

        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise StorageError(folder, f"the folder cannot be made: {error.strerror or error}") from error
        files = VolumeFiles(folder, folder, collection, volume_id)
        bar = report.bar(f"volume {volume_id}")

        async def fetch(offset: int) -> Tail:
            tail = await _tail(client, volume_id, offset)
            if tail.collection != collection:
                what = (
                    f"is of collection {tail.collection}; say so with" if tail.collection else "is of none; leave out"
                )
                raise BadRequest(f"volume {volume_id} {what} --collection")
            bar.total(tail.size)
            return Tail(tail.data, tail.size, tail.revision, tail.offset_width)

        with held(folder, [files]):
            done = await back_up(files, fetch, now_ns(), bar.moved, own)
        bar.close()
        what = "copied" if done.anew else "added"
        report.result(f"{files.dat}: {format_size(done.copied)} {what}, {format_size(done.size)} now")

    return run("weedtw backup", masters, report, work)


async def _tail(client: "Client", volume_id: int, offset: int) -> "VolumeTail":
    try:
        return await client.volume_tail(volume_id, offset)
    except PeerError as error:
        if error.status not in _KNOWS_NOT:
            raise
        reason = "gives volumes away in another way than weedtw's servers do; if it is SeaweedFS's, use weed backup"
        raise PeerError(error.address, reason, error.status) from error


def _own(replication: str, ttl: str) -> "Own":
    from weedtw.formats.replication import ReplicaPlacement
    from weedtw.formats.ttl import Ttl
    from weedtw.storage.backup import Own

    try:
        return Own(ReplicaPlacement.parse(replication) if replication else None, Ttl.parse(ttl) if ttl else None)
    except BadRequest as error:
        raise click.UsageError(f"{error}.") from error


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status."""
    return invoke(backup, "weedtw backup", arguments)
