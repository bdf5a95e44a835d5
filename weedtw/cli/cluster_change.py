"""`weedtw cluster add|remove|transfer|rename`: changing who belongs to the masters, and who of them leads."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import click

from weedtw.cli.asking import confirmed
from weedtw.cli.cluster_status import long_option, show_agreement
from weedtw.cli.report import Report, printable
from weedtw.cli.session import command, json_option, masters_option, option, run

if TYPE_CHECKING:
    from weedtw.client import Agreement, Client

LEADER_WITHIN: Final = 5.0  # seconds; a new leader is there sooner
JOINED_WITHIN: Final = 20.0  # seconds until a newcomer's vote counts; a large log takes longer, and goes on
_SETTLED_WITHIN: Final = 3.0  # seconds until all masters know of a change

_ADD = """Let a master join the cluster.

It must run at ADDRESS (host:port) with an empty folder and wait for a cluster: start it with --peers and the address
of a master. It gets its vote when it has caught up."""
_REMOVE = """End a master's membership.

It is named by its node id, the beginning of that, or its address. Removing the leader hands the lead over. When the
masters that are left would not be able to decide anything, that is said and has to be confirmed."""
_TRANSFER = """Let another master lead.

That is the one that is named by its node id, the beginning of that, or its address; or else the one whose log is
longest."""
_RENAME = """Change a member's address.

By NEWADDRESS (host:port) the others reach it then. A master that starts with another --ip or --port does that by
itself, as long as it can reach the leader."""

_WHICH: Final = "NODE|ADDRESS"

Change = Callable[["Client", "Agreement"], Awaitable[None]]


def _command(about: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command with the options that all changes have."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        for decorator in (json_option("Print the masters as one JSON object."), long_option(), masters_option()):
            function = decorator(function)
        return command(about)(function)

    return decorate


@_command(_ADD)
@click.argument("address")
def add(address: str, masters: str, long: bool, as_json: bool) -> int:
    """Ask the leader to invite it, and wait until it votes."""

    async def work(client: "Client", report: Report) -> None:
        await add_master(client, report, address, long=long)

    return _run("add", masters, as_json, work)


@_command(_REMOVE)
@click.argument("which", metavar=_WHICH)
@option("yes", "yes", is_flag=True, help="Do not ask.")
def remove(which: str, yes: bool, masters: str, long: bool, as_json: bool) -> int:
    """Look what would be left, and ask the leader."""

    async def work(client: "Client", report: Report) -> None:
        await remove_master(client, report, which, long=long, may=lambda danger: yes or _may(danger))

    return _run("remove", masters, as_json, work)


@_command(_TRANSFER)
@click.argument("which", metavar=f"[{_WHICH}]", default="")
def transfer(which: str, masters: str, long: bool, as_json: bool) -> int:
    """Ask the leader."""

    async def work(client: "Client", report: Report) -> None:
        await transfer_lead(client, report, which, long=long)

    return _run("transfer", masters, as_json, work)


@_command(_RENAME)
@click.argument("which", metavar=_WHICH)
@click.argument("address", metavar="NEWADDRESS")
def rename(which: str, address: str, masters: str, long: bool, as_json: bool) -> int:
    """Ask the leader."""

    async def work(client: "Client", report: Report) -> None:
        await rename_master(client, report, which, address, long=long)

    return _run("rename", masters, as_json, work)


def _run(name: str, masters: str, as_json: bool, work: Callable[["Client", Report], Awaitable[None]]) -> int:
    program = f"weedtw cluster {name}"
    return run(program, masters, Report(program, as_json, bars=False), work)


def _may(danger: str) -> bool:
    click.echo(printable(danger), err=True)
    return confirmed("Remove it nevertheless?")


# ------------------------------------------------------------------ what they do


async def add_master(
    client: "Client", report: Report, address: str, *, long: bool = False, patience: float = JOINED_WITHIN
) -> None:
    """Invite the master that waits at `address`; it comes by itself then."""
    before = await _led(client)
    speaks = before.spokesman
    members = {member.node for member in speaks.members}
    await client.change_masters(speaks.asked, "add", {"address": address})

    def votes(found: "Agreement") -> bool:
        return found.leader is not None and bool(found.leader.voters - members)

    hints = [address, *(member.address for member in speaks.members)]
    found = await client.agreement(hints, votes, patience)
    show_agreement(found, report, long=long)
    if not votes(found):
        own = next((one for one in found.told if address in {one.asked, one.address}), None)
        reason = f": {own.reason}" if own is not None and own.reason else ""
        report.failed(address, f"was asked to join, and has no vote yet{reason}; weedtw cluster status tells more")


async def remove_master(
    client: "Client", report: Report, which: str, *, may: Callable[[str], bool], long: bool = False
) -> None:
    """End a membership; `may` is asked when that would cost the majority."""
    before = await _led(client)
    member = before.find(which)
    danger = before.danger_without(member)
    if danger:
        if not may(danger):
            report.failed(which, "was not removed")
            return
        before = await _led(client)  # it may have taken long to answer
    await client.change_masters(before.spokesman.asked, "remove", {"node": member.node})

    def gone(found: "Agreement") -> bool:
        return found.leader is not None and found.leader.member(member.node) is None and not found.disagreements()

    await _show_after(client, report, before, gone, long=long)


async def transfer_lead(client: "Client", report: Report, which: str, *, long: bool = False) -> None:
    """Let another master lead."""
    before = await _led(client)
    speaks = before.spokesman
    target = before.find(which).node if which else ""
    await client.change_masters(speaks.asked, "transfer", {"to": target})

    def led_by_it(found: "Agreement") -> bool:
        return (
            found.leader is not None
            and found.leader.node in {target or found.leader.node}
            and not found.disagreements()
        )

    await _show_after(client, report, before, led_by_it, long=long)


async def rename_master(client: "Client", report: Report, which: str, address: str, *, long: bool = False) -> None:
    """Change a member's address."""
    before = await _led(client)
    member = before.find(which)
    await client.change_masters(before.spokesman.asked, "rename", {"node": member.node, "address": address})
    await _show_after(client, report, before, lambda found: not found.disagreements(), long=long)


async def _led(client: "Client") -> "Agreement":
    """What the masters believe once one of them leads."""
    return await client.agreement(until=lambda found: found.leader is not None, patience=LEADER_WITHIN)


async def _show_after(
    client: "Client", report: Report, before: "Agreement", holds: Callable[["Agreement"], bool], *, long: bool
) -> None:
    """Print the masters once all know of the change, or after a while nevertheless."""
    hints = [member.address for member in before.spokesman.members]
    show_agreement(await client.agreement(hints, holds, _SETTLED_WITHIN), report, long=long)
