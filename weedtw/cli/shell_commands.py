"""The commands of `weedtw shell`: what each takes, and what it does."""

from collections.abc import Mapping
from typing import Final

from weedtw.cli.report import printable, say
from weedtw.cli.shell_session import APPLY, Command, Session, Words, always, applies
from weedtw.cli.shell_volumes import VOLUME_COMMANDS
from weedtw.errors import BadRequest, ChangeRefused


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
    if not applies(values):
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

    await remove_master(session.client, session.report, _named(values), may=lambda _: applies(values))


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


async def _help(session: Session, values: Words) -> None:
    name = values.get("", "")
    if name:
        chosen = session.command(name)
        say(f"{chosen.usage(name)}\n    {chosen.about}")
        return
    for each in session.names():
        say(f"{each:<24} {session.commands[each].about}")
    say(f"{'exit':<24} leave")


COMMANDS: Final[Mapping[str, Command]] = {
    **VOLUME_COMMANDS,
    "collection.list": Command(_collection_list, "all collections"),
    "collection.delete": Command(
        _collection_delete,
        "delete a collection with all its files; without -apply only say so",
        {"collection": "NAME"},
        APPLY,
        applies,
        "[NAME]",
    ),
    "cluster.status": Command(_cluster_status, "what the masters believe, each of them"),
    "cluster.add": Command(_cluster_add, "let a master join", changes=always, argument="HOST:PORT"),
    "cluster.remove": Command(
        _cluster_remove, "end a master's membership", flags=APPLY, changes=always, argument="MASTER"
    ),
    "cluster.transfer": Command(_cluster_transfer, "let another master lead", changes=always, argument="[MASTER]"),
    "cluster.rename": Command(
        _cluster_rename, "commit another address of a master", changes=always, argument="MASTER HOST:PORT"
    ),
    "lock": Command(_take_lock, "take the admin lock, which changes need"),
    "unlock": Command(_drop_lock, "let it go"),
    "help": Command(_help, "this, or what one command takes", argument="[COMMAND]"),
}
