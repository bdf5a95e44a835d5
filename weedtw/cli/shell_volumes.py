"""The commands of `weedtw shell` for volumes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from weedtw.cli.report import printable, say, table, wide_console
from weedtw.cli.shell_session import (
    APPLY,
    FLAG,
    Command,
    Session,
    Words,
    always,
    applies,
    collection_of,
    server_of,
    volume_id_of,
)
from weedtw.client.plans import plan_balance, plan_repairs, plan_surplus
from weedtw.errors import BadRequest
from weedtw.formats.size import format_size

if TYPE_CHECKING:
    from weedtw.client.inventory import Inventory


async def _volume_list(session: Session, values: Words) -> None:
    found = await session.volumes.inventory()
    wanted = collection_of(values)
    rows: list[tuple[str, ...]] = []
    for holder in found.holders:
        for volume_id, copy in sorted(holder.copies.items()):
            if wanted in {None, copy.collection}:
                state = (
                    "quarantined"
                    if (volume_id, holder.url) in found.quarantined
                    else "read-only"
                    if copy.read_only
                    else ""
                )
                short = copy.replication.copies - len(found.copies_of(volume_id))
                state = ", ".join(filter(None, [state, f"short of {short}" if short > 0 else ""]))
                numbers = (format_size(copy.size), str(copy.files), format_size(copy.deleted_bytes))
                rows.append((str(volume_id), copy.collection, str(copy.replication), holder.url, *numbers, state))
    console = wide_console()
    columns = ("DATA CENTER", "RACK", "ADDRESS", "#VOLUMES", "#MAX")
    rows.sort(key=lambda row: (int(row[0]), row[3]))
    servers = [(h.data_center, h.rack, h.url, str(len(h.copies)), str(h.max_volumes)) for h in found.holders]
    table(console, "Volume servers", columns, servers)
    for address in found.absent:
        say(f"volume server {printable(address)} is away")
    say()
    wide = ("#ID", "COLLECTION", "COPIES", "SERVER", "#SIZE", "#FILES", "#DELETED", "STATE")
    table(console, "Volumes", wide, rows)


async def _fix_replication(session: Session, values: Words) -> None:
    only = [volume_id_of(values, "volumeId")] if "volumeId" in values else []
    found = await session.volumes.inventory()
    plan = plan_repairs(found, only, collection_of(values))
    if values.get("doDelete") != "false":
        plan += plan_surplus(found, only, collection_of(values))
    await session.carry_out(plan, values)


async def _balance(session: Session, values: Words) -> None:
    found = await session.volumes.inventory()
    await session.carry_out(plan_balance(found, collection_of(values)), values)


async def _move(session: Session, values: Words) -> None:
    volume_id = volume_id_of(values, "volumeId")
    source, target = server_of(values, "source"), server_of(values, "target")
    became = await session.volumes.move(volume_id, source, target, session.progress)
    say(f"volume {volume_id} {became} from {source} to {target}")


async def _delete(session: Session, values: Words) -> None:
    volume_id, server = volume_id_of(values, "volumeId"), server_of(values, "node")
    await session.volumes.delete(volume_id, server)
    say(f"deleted the copy of volume {volume_id} on {server}")


async def _mark(session: Session, values: Words) -> None:
    volume_id, server = volume_id_of(values, "volumeId"), server_of(values, "node")
    if ("readonly" in values) == ("writable" in values):
        raise BadRequest("either -readonly or -writable has to be given")
    await session.volumes.mark(volume_id, server, writable="writable" in values)
    say(f"volume {volume_id} on {server} is {'writable' if 'writable' in values else 'read-only'}")


async def _vacuum(session: Session, values: Words) -> None:
    text = values.get("garbageThreshold", "0.3")
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise BadRequest(f"-garbageThreshold={text} is not a number from 0 to 1")
    before = await session.volumes.inventory()
    await session.volumes.vacuum(threshold)
    was = format_size(_garbage(before))
    say(f"vacuumed what had more than {threshold:.0%} garbage; before, {was} were deleted files")


def _garbage(found: "Inventory") -> int:
    return sum(copy.deleted_bytes for holder in found.holders for copy in holder.copies.values())


async def _check_disk(session: Session, values: Words) -> None:
    found = await session.volumes.inventory()
    only = [volume_id_of(values, "volumeId")] if "volumeId" in values else found.volume_ids()
    compared = unlike = 0
    damaged = 0
    for volume_id in only:
        servers = sorted(holder.url for holder, _ in found.copies_of(volume_id))
        for other in servers[1:]:
            difference = await session.volumes.compare(volume_id, servers[0], other)
            compared += 1
            if not difference.count:
                continue
            unlike += 1
            say(
                f"volume {volume_id}: {difference.only_first} files only on {difference.first}, "
                f"{difference.only_second} only on {difference.second}, {difference.unlike} are not the same"
            )
            if applies(values):
                session.lock.require()
                say(f"volume {volume_id}: {await session.volumes.mend(difference)} files taken over")
                left = (await session.volumes.compare(volume_id, servers[0], other)).count
                if left:
                    session.report.failed(
                        f"volume {volume_id}", f"{left} files still differ; run it again in a moment"
                    )
        if values.get("slow") == FLAG:
            damaged += await _check_files(session, values, volume_id, servers)
    read = f", {damaged} of their files are damaged" if values.get("slow") == FLAG else ""
    say(f"compared {compared} pairs of copies, {unlike} differed{read}")
    if (unlike or damaged) and not applies(values):
        say("nothing was changed; -apply (or -force) mends it")


async def _check_files(session: Session, values: Words, volume_id: int, servers: Sequence[str]) -> int:
    """Have each server read its copy through, and mend what is damaged; how many files were."""
    count = 0
    for server in servers:
        keys = await session.volumes.copies.damaged(server, volume_id)
        if not keys:
            continue
        count += len(keys)
        named = ", ".join(f"{key:x}" for key in keys[:8]) + (", …" if len(keys) > 8 else "")
        say(f"volume {volume_id}: {len(keys)} files are damaged on {server}: {named}")
        if applies(values):
            session.lock.require()
            others = [other for other in servers if other != server]
            healed = await session.volumes.heal(volume_id, server, keys, others)
            say(f"volume {volume_id}: {healed} files taken from another copy")
            if healed < len(keys):
                left = f"{len(keys) - healed} files are damaged on {server}, and no other copy has them"
                session.report.failed(f"volume {volume_id}", left)
    return count


_PLACED = {"volumeId": "ID", "node": "HOST:PORT"}
_SOME = {"volumeId": "ID", "collection": "NAME"}
VOLUME_COMMANDS: Final[Mapping[str, Command]] = {
    "volume.list": Command(_volume_list, "servers, and every copy of every volume", {"collection": "NAME"}),
    "volume.fix.replication": Command(
        _fix_replication,
        "make the copies that volumes are short of, remove surplus ones; without -apply only say which",
        _SOME,
        (*APPLY, "doDelete"),
        applies,
    ),
    "volume.balance": Command(
        _balance,
        "move volumes until servers are as full as each other; without -apply only say which",
        {"collection": "NAME"},
        APPLY,
        applies,
    ),
    "volume.move": Command(
        _move,
        "move a copy of a volume from one server to another, under writes",
        {"volumeId": "ID", "source": "HOST:PORT", "target": "HOST:PORT"},
        changes=always,
    ),
    "volume.delete": Command(_delete, "delete the copy of a volume on one server", _PLACED, changes=always),
    "volume.mark": Command(
        _mark, "have a copy take no writes, or take them again", _PLACED, ("readonly", "writable"), always
    ),
    "volume.vacuum": Command(
        _vacuum, "give the room of deleted files back", {"garbageThreshold": "0.3"}, changes=always
    ),
    "volume.check.disk": Command(
        _check_disk,
        "compare the copies of volumes by their indexes, with -slow read every file too; with -apply mend them",
        {"volumeId": "ID"},
        (*APPLY, "slow"),
        applies,
    ),
}
