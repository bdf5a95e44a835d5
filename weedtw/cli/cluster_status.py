"""`weedtw cluster status`: what each master believes, and whether they agree."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs

from weedtw.cli.report import Report, printable, say, table, wide_console
from weedtw.cli.session import command, json_option, masters_option, option, run

if TYPE_CHECKING:
    from weedtw.client import Agreement, Belief, Client

_ABOUT = """Show what each master believes.

All masters are asked that those named know of. What they do not agree about stands under the table. The exit status
is 0 when one of them leads and has a majority behind it, else 1."""

_COLUMNS: Final = ("NODE", "ADDRESS", "ROLE", "#TERM", "LEADER", "#LAST CONTACT", "#LOG", "VERSION")


def long_option() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--long`."""
    return option("long", "long", is_flag=True, help="Show node ids in full.")


@command(_ABOUT)
@masters_option()
@long_option()
@json_option("Print everything as one JSON object.")
def status(masters: str, long: bool, as_json: bool) -> int:
    """Ask once and print."""

    async def work(client: "Client", report: Report) -> None:
        await show_status(client, report, long=long)

    return run("weedtw cluster status", masters, Report("weedtw cluster status", as_json, bars=False), work)


async def show_status(client: "Client", report: Report, *, long: bool = False) -> None:
    """Ask, print, and report when nobody leads."""
    found = await client.agreement()
    show_agreement(found, report, long=long)
    if len(found.leaders) > 1:
        report.failed("", "more than one master leads")
    elif found.leader is None:
        report.failed("", "no master leads with a majority behind it")


def show_agreement(found: "Agreement", report: Report, *, long: bool = False) -> None:
    """Print the table, or JSON."""
    if report.as_json:
        say(json.dumps(as_json(found), indent=2))
        return
    title = "Masters"
    if found.reference is not None:
        title += f" of cluster {found.reference.cluster}"
    table(wide_console(), title, _COLUMNS, (_row(one, found, long=long) for one in found.beliefs))
    say()
    say(printable(found.summary()))
    for remark in found.remarks():
        say(printable(remark))


def as_json(found: "Agreement") -> dict[str, Any]:
    """All that is known, for programs."""
    return {
        "cluster": found.reference.cluster if found.reference is not None else "",
        "leader": found.leader.address if found.leader is not None else "",
        "summary": found.summary(),
        "remarks": list(found.remarks()),
        "masters": [attrs.asdict(one) for one in found.beliefs],
    }


def _row(belief: "Belief", found: "Agreement", *, long: bool) -> tuple[str, ...]:
    from weedtw.client.agreement import short

    node = belief.node if long else short(belief.node)
    contact = _last_contact(belief, found)
    if belief.error:
        return node or "?", belief.asked, "does not answer", "", "", contact, "", ""
    return (
        node,
        belief.address,
        _role(belief, found),
        str(belief.term),
        belief.leader_address or (belief.leader if long else short(belief.leader)) or "none",
        contact,
        f"{belief.commit}/{belief.last_index}",
        belief.version,
    )


def _role(belief: "Belief", found: "Agreement") -> str:
    if belief.failed:
        return "stopped"
    leader = found.leader
    if leader is not None and belief.cluster == leader.cluster:
        member = leader.member(belief.node)
        if member is None:
            return "no member"
        if not member.voter and belief.role == "FOLLOWER":
            return "learner"
    return belief.role.lower().replace("_", "-")


def _last_contact(belief: "Belief", found: "Agreement") -> str:
    """When the leader heard of it."""
    leader = found.leader
    member = leader.member(belief.node) if leader is not None else None
    if leader is None or member is None or leader.node == member.node:
        return ""
    return "never" if member.last_contact is None else f"{member.last_contact:.1f} s ago"
