"""The commands of `weedtw shell`: what each takes, and what it does."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from weedtw.cli.report import Report, printable, say, table, wide_console
from weedtw.client.plans import Plan, plan_balance, plan_repairs, plan_surplus
from weedtw.errors import BadRequest, ChangeRefused, WeedError
from weedtw.formats.size import format_size

if TYPE_CHECKING:
    from weedtw.client import Client
    from weedtw.client.adminlock import AdminLock
    from weedtw.client.volumes import Volumes

Words = Mapping[str, str]
_FLAG: Final = "true"
_APPLY: Final = ("apply", "force")
_ALL: Final = "ALL_COLLECTIONS"


@attrs.frozen
class Command:
    """One command: `options` are those with a value and its form, `flags` those without."""

    run: "Callable[[Session, Words], Awaitable[None]]"
    about: str
    options: Mapping[str, str] = attrs.Factory(dict)
    flags: tuple[str, ...] = ()
    changes: Callable[[Words], bool] = lambda _: False  # whether it needs the lock
    argument: str = ""  # the form of a word without an option, which is then in `""`

    def usage(self, name: str) -> str:
        """How it is typed."""
        words = [name, *(f"-{option}={form}" for option, form in self.options.items())]
        words += [f"[-{flag}]" for flag in self.flags]
        return " ".join([*words, *filter(None, [self.argument])])

    def parse(self, name: str, words: Sequence[str]) -> dict[str, str]:
        """The values by option; raises BadRequest."""
        found: dict[str, str] = {}
        left = list(words)
        while left:
            word = left.pop(0)
            option, equals, value = word.lstrip("-").partition("=")
            if not word.startswith("-"):
                if not self.argument:
                    raise BadRequest(f"{word!r} is not taken; it is typed {self.usage(name)}")
                found[""] = f"{found['']} {word}" if "" in found else word
            elif option in self.flags:
                if value not in {"", "true", "false"}:
                    raise BadRequest(f"-{option} takes no value")
                found[option] = value or _FLAG
            elif option in self.options:
                if not equals and not left:
                    raise BadRequest(f"-{option} needs a value: -{option}={self.options[option]}")
                found[option] = value if equals else left.pop(0)
            else:
                raise BadRequest(f"-{option} is not known; it is typed {self.usage(name)}")
        return found


@attrs.define(eq=False)
class Session:
    """What the commands work with."""

    client: "Client"
    volumes: "Volumes"
    lock: "AdminLock"
    report: Report
    takes_lock: bool  # by itself, for as long as the shell runs

    @staticmethod
    def names() -> list[str]:
        """What may be typed, in order."""
        return sorted(COMMANDS)

    async def run(self, name: str, words: Sequence[str]) -> None:
        """Run one command; raises WeedError."""
        chosen = COMMANDS.get(name)
        if chosen is None:
            raise BadRequest("no such command; help tells which there are")
        values = chosen.parse(name, words)
        if chosen.changes(values):
            if self.takes_lock:
                await self.lock.take()
            self.lock.require()
        await chosen.run(self, values)

    async def carry_out(self, plan: Plan, values: Words) -> None:
        """Show a plan; with -apply or -force do it, one step after the other."""
        for remark in plan.remarks:
            self.report.failed("", remark)
        if not plan.steps:
            say("nothing to do")
        for number, step in enumerate(plan.steps, 1):
            if not _applies(values):
                say(f"would {step}")
                continue
            self.lock.require()
            say(f"{number}/{len(plan.steps)}: {step}")
            try:
                became = await self.volumes.do(step, self.progress)
            except WeedError as error:
                self.report.failed(f"volume {step.volume_id}", str(error))
            else:
                say(f"{number}/{len(plan.steps)}: volume {step.volume_id} {became} on {step.target}")
        if plan.steps and not _applies(values):
            say("nothing was changed; -apply (or -force) does it")

    def progress(self, have: int, size: int) -> None:
        """Tell how far a copy has come."""
        say(f"    {format_size(have)} of {format_size(size)} ({100 * have // max(1, size)}%)")


def _applies(values: Words) -> bool:
    return any(values.get(flag) == _FLAG for flag in _APPLY)


def _number(values: Words, name: str) -> int:
    text = values.get(name, "")
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise BadRequest(f"-{name}={text or '?'} is not the id of a volume")
    return int(text)


def _server(values: Words, name: str) -> str:
    from weedtw.client.answers import parse_address

    if not values.get(name):
        raise BadRequest(f"-{name}=host:port is missing")
    return parse_address(values[name])


def _collection(values: Words) -> str | None:
    name = values.get("collection")
    return None if name in {None, _ALL, "EACH_COLLECTION"} else name


# ------------------------------------------------------------------ volumes


async def _volume_list(session: Session, values: Words) -> None:
    found = await session.volumes.inventory()
    wanted = _collection(values)
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
    only = [_number(values, "volumeId")] if "volumeId" in values else []
    found = await session.volumes.inventory()
    plan = plan_repairs(found, only, _collection(values))
    if values.get("doDelete") != "false":
        plan += plan_surplus(found, only, _collection(values))
    await session.carry_out(plan, values)


async def _balance(session: Session, values: Words) -> None:
    found = await session.volumes.inventory()
    await session.carry_out(plan_balance(found, _collection(values)), values)


async def _move(session: Session, values: Words) -> None:
    volume_id, source, target = _number(values, "volumeId"), _server(values, "source"), _server(values, "target")
    became = await session.volumes.move(volume_id, source, target, session.progress)
    say(f"volume {volume_id} {became} from {source} to {target}")


async def _delete(session: Session, values: Words) -> None:
    volume_id, server = _number(values, "volumeId"), _server(values, "node")
    await session.volumes.delete(volume_id, server)
    say(f"deleted the copy of volume {volume_id} on {server}")


async def _mark(session: Session, values: Words) -> None:
    volume_id, server = _number(values, "volumeId"), _server(values, "node")
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


def _garbage(found: "object") -> int:
    from weedtw.client.inventory import Inventory

    assert isinstance(found, Inventory)
    return sum(copy.deleted_bytes for holder in found.holders for copy in holder.copies.values())


async def _check_disk(session: Session, values: Words) -> None:
    found = await session.volumes.inventory()
    only = [_number(values, "volumeId")] if "volumeId" in values else found.volume_ids()
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
            if _applies(values):
                session.lock.require()
                say(f"volume {volume_id}: {await session.volumes.mend(difference)} files taken over")
                left = (await session.volumes.compare(volume_id, servers[0], other)).count
                if left:
                    session.report.failed(
                        f"volume {volume_id}", f"{left} files still differ; run it again in a moment"
                    )
        if values.get("slow") == _FLAG:
            damaged += await _check_files(session, values, volume_id, servers)
    read = f", {damaged} of their files are damaged" if values.get("slow") == _FLAG else ""
    say(f"compared {compared} pairs of copies, {unlike} differed{read}")
    if (unlike or damaged) and not _applies(values):
        say("nothing was changed; -apply (or -force) mends it")


async def _check_files(session: Session, values: Words, volume_id: int, servers: Sequence[str]) -> int:
    """Have each server read its copy through, and mend what is damaged; how many files were."""
    count = 0
    for server in servers:
        keys = await session.volumes.damaged(volume_id, server)
        if not keys:
            continue
        count += len(keys)
        named = ", ".join(f"{key:x}" for key in keys[:8]) + (", …" if len(keys) > 8 else "")
        say(f"volume {volume_id}: {len(keys)} files are damaged on {server}: {named}")
        if _applies(values):
            session.lock.require()
            others = [other for other in servers if other != server]
            healed = await session.volumes.heal(volume_id, server, keys, others)
            say(f"volume {volume_id}: {healed} files taken from another copy")
            if healed < len(keys):
                left = f"{len(keys) - healed} files are damaged on {server}, and no other copy has them"
                session.report.failed(f"volume {volume_id}", left)
    return count


# ------------------------------------------------------------------ the rest


async def _collection_list(session: Session, _values: Words) -> None:
    found = await session.volumes.inventory()
    names = {copy.collection for holder in found.holders for copy in holder.copies.values()}
    for name in sorted(names):
        ids = {v for holder in found.holders for v, copy in holder.copies.items() if copy.collection == name}
        say(f"{printable(name) or '(default)'}: {len(ids)} volumes")


async def _collection_delete(session: Session, values: Words) -> None:
    name = values.get("collection") or values.get("", "")
    if not name:
        raise BadRequest("-collection=NAME is missing")
    if not _applies(values):
        say(f"would delete collection {printable(name)} with all its files; -apply (or -force) does it")
        return
    await session.volumes.delete_collection(name)
    say(f"deleted collection {printable(name)}")


async def _cluster_status(session: Session, _values: Words) -> None:
    from weedtw.cli.cluster_status import show_agreement

    show_agreement(await session.client.agreement(), session.report, long=False)


async def _cluster_add(session: Session, values: Words) -> None:
    from weedtw.cli.cluster_change import add_master

    await add_master(session.client, session.report, _named(values))


async def _cluster_remove(session: Session, values: Words) -> None:
    from weedtw.cli.cluster_change import remove_master

    await remove_master(session.client, session.report, _named(values), may=lambda _: _applies(values))


async def _cluster_transfer(session: Session, values: Words) -> None:
    from weedtw.cli.cluster_change import transfer_lead

    await transfer_lead(session.client, session.report, values.get("", ""))


async def _cluster_rename(session: Session, values: Words) -> None:
    from weedtw.cli.cluster_change import rename_master

    which, _, address = _named(values).partition(" ")
    if not address:
        raise BadRequest("the new address is missing")
    await rename_master(session.client, session.report, which, address)


def _named(values: Words) -> str:
    if not values.get(""):
        raise BadRequest("the master is missing: its address or node id")
    return values[""]


async def _take_lock(session: Session, _values: Words) -> None:
    await session.lock.take()
    say("the lock is held until unlock, or the end of this shell")


async def _drop_lock(session: Session, _values: Words) -> None:
    if not session.lock.is_held:
        raise ChangeRefused("this shell does not hold the lock")
    await session.lock.release()
    say("the lock is free")


async def _help(_session: Session, values: Words) -> None:
    name = values.get("", "")
    if name:
        chosen = COMMANDS.get(name)
        if chosen is None:
            raise BadRequest(f"{name}: no such command; help tells which there are")
        say(f"{chosen.usage(name)}\n    {chosen.about}")
        return
    for each in sorted(COMMANDS):
        say(f"{each:<24} {COMMANDS[each].about}")
    say(f"{'exit':<24} leave")


def _always(_values: Words) -> bool:
    return True


_PLACED = {"volumeId": "ID", "node": "HOST:PORT"}
_SOME = {"volumeId": "ID", "collection": "NAME"}
COMMANDS: Final[Mapping[str, Command]] = {
    "volume.list": Command(_volume_list, "servers, and every copy of every volume", {"collection": "NAME"}),
    "volume.fix.replication": Command(
        _fix_replication,
        "make the copies that volumes are short of, remove surplus ones; without -apply only say which",
        _SOME,
        (*_APPLY, "doDelete"),
        _applies,
    ),
    "volume.balance": Command(
        _balance,
        "move volumes until servers are as full as each other; without -apply only say which",
        {"collection": "NAME"},
        _APPLY,
        _applies,
    ),
    "volume.move": Command(
        _move,
        "move a copy of a volume from one server to another, under writes",
        {"volumeId": "ID", "source": "HOST:PORT", "target": "HOST:PORT"},
        changes=_always,
    ),
    "volume.delete": Command(_delete, "delete the copy of a volume on one server", _PLACED, changes=_always),
    "volume.mark": Command(
        _mark, "have a copy take no writes, or take them again", _PLACED, ("readonly", "writable"), _always
    ),
    "volume.vacuum": Command(
        _vacuum, "give the room of deleted files back", {"garbageThreshold": "0.3"}, changes=_always
    ),
    "volume.check.disk": Command(
        _check_disk,
        "compare the copies of volumes by their indexes, with -slow read every file too; with -apply mend them",
        {"volumeId": "ID"},
        (*_APPLY, "slow"),
        _applies,
    ),
    "collection.list": Command(_collection_list, "all collections"),
    "collection.delete": Command(
        _collection_delete,
        "delete a collection with all its files; without -apply only say so",
        {"collection": "NAME"},
        _APPLY,
        _applies,
        "[NAME]",
    ),
    "cluster.status": Command(_cluster_status, "what the masters believe, each of them"),
    "cluster.add": Command(_cluster_add, "let a master join", changes=_always, argument="HOST:PORT"),
    "cluster.remove": Command(
        _cluster_remove, "end a master's membership", flags=_APPLY, changes=_always, argument="MASTER"
    ),
    "cluster.transfer": Command(_cluster_transfer, "let another master lead", changes=_always, argument="[MASTER]"),
    "cluster.rename": Command(
        _cluster_rename, "commit another address of a master", changes=_always, argument="MASTER HOST:PORT"
    ),
    "lock": Command(_take_lock, "take the admin lock, which changes need"),
    "unlock": Command(_drop_lock, "let it go"),
    "help": Command(_help, "this, or what one command takes", argument="[COMMAND]"),
}
