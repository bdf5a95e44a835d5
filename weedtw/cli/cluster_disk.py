"""`weedtw cluster show`: what a master keeps in its folder."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from weedtw.cli.report import Report, printable, say, table, wide_console
from weedtw.cli.session import FAILED, command, json_option, option
from weedtw.errors import WeedError

if TYPE_CHECKING:
    from weedtw.master.offline import OnDisk
    from weedtw.topology.state import ClusterState

_SHOW = """Show what a master keeps on its disk.

That is who it is, who belongs to its cluster, and what was decided. Nothing is written, and the master may run
meanwhile."""


@command(_SHOW)
@option("mdir", "mdir", default=".", show_default=True, metavar="FOLDER", help="The master's folder (its --mdir).")
@json_option("Print everything as one JSON object.")
def show(mdir: str, as_json: bool) -> int:
    """Look and print."""
    with Report("weedtw cluster show", as_json, bars=False) as report:
        try:
            from weedtw.master.offline import look

            found = look(mdir)
            if as_json:
                say(json.dumps(_as_json(found), indent=2))
            else:
                show_disk(found)
        except WeedError as error:
            report.failed("", str(error))
    return FAILED if report.failures else 0


def show_disk(found: "OnDisk") -> None:
    """Print what a master keeps."""
    log = (
        f"entries {found.first_index} to {found.last_index}"
        if found.first_index <= found.last_index
        else "no entries"
    )
    vote = "itself" if found.vote == found.identity.node else found.vote or "nobody"
    facts = (
        ("File", found.path),
        ("Cluster", found.identity.cluster),
        ("Node", found.identity.node),
        ("Address", found.member.address if found.member is not None else "none, it is no member"),
        ("Term", f"{found.term}, voted for {vote}"),
        ("Log", f"{log}, the last of term {found.last_term}; snapshot at {found.snapshot_index}"),
        ("Decided", f"up to {found.commit} at least{_undecided(found)}"),
    )
    for name, fact in facts:
        say(f"{name:<9}{printable(fact)}")
    say()
    since = f"since entry {found.membership_index}" if found.membership_index else "from the beginning"
    if found.membership_index > found.commit:
        since += ", which may be decided or not"
    table(wide_console(), f"Members {since}", ("NODE", "ADDRESS", "PART"), _members(found))
    say()
    places = [f"#AT {found.commit}"] if found.commit == found.last_index else [f"#AT {found.commit}", "#AT THE END"]
    states = (found.committed, found.latest)[: len(places)]
    table(wide_console(), "What was agreed on", ("", *places), _agreed_on(states))
    if found.latest.servers:
        say()
        columns = ("DATA CENTER", "RACK", "ADDRESS", "PUBLIC ADDRESS")
        table(wide_console(), "Volume servers", columns, _servers(found.latest))


def _undecided(found: "OnDisk") -> str:
    left = found.last_index - found.commit
    return f"; {left} more {'entry' if left == 1 else 'entries'} may be decided or not" if left else ""


def _members(found: "OnDisk") -> Iterator[tuple[str, ...]]:
    for node, member in sorted(found.membership.members.items(), key=lambda item: item[1].address):
        part = "voter" if member.voter else "learner"
        yield node, member.address, f"{part}, this master" if node == found.identity.node else part


def _agreed_on(states: "Sequence[ClusterState]") -> Iterator[tuple[str, ...]]:
    yield "highest volume id", *(str(state.max_volume_id) for state in states)
    yield "file keys up to", *(str(state.key_high_water) for state in states)
    yield "volumes being made", *(str(len(state.growing)) for state in states)
    yield "volume servers", *(str(len(state.servers)) for state in states)


def _servers(state: "ClusterState") -> Iterator[tuple[str, ...]]:
    for server in sorted(state.servers.values(), key=lambda one: (one.data_center, one.rack, one.address)):
        yield server.data_center, server.rack, server.address, server.public_url


def _as_json(found: "OnDisk") -> dict[str, Any]:
    """All that is known, for programs."""
    return {
        "path": found.path,
        "cluster": found.identity.cluster,
        "node": found.identity.node,
        "address": found.member.address if found.member is not None else "",
        "term": found.term,
        "vote": found.vote,
        "commit": found.commit,
        "snapshot_index": found.snapshot_index,
        "first_index": found.first_index,
        "last_index": found.last_index,
        "last_term": found.last_term,
        "membership_index": found.membership_index,
        "members": [
            {"node": node, "address": member.address, "voter": member.voter}
            for node, member in found.membership.members.items()
        ],
        "committed": _state_as_json(found.committed),
        "latest": _state_as_json(found.latest),
    }


def _state_as_json(state: "ClusterState") -> dict[str, Any]:
    return attrs.asdict(attrs.evolve(state, servers={})) | {"servers": [*map(attrs.asdict, state.servers.values())]}
