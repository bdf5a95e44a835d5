"""What a master believes of its cluster, as `GET /cluster/members` tells it and as others read it."""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from weedtw import PRODUCT
from weedtw.errors import BadRequest, PeerError, WeedError
from weedtw.http.agent import PeerAgent
from weedtw.master.consensus import RaftLedger
from weedtw.master.flight import outcomes
from weedtw.raft.leader import Leader

JOINING = "JOINING"
ASK_TIMEOUT = 2.0  # seconds


def own_beliefs(ledger: RaftLedger, address: str, reason: str, founding: dict[str, Any] | None) -> dict[str, Any]:
    """Answers `/cluster/members`; `reason` is what this master waits for, `founding` with whom it founds one."""
    common: dict[str, Any] = {
        "cluster": ledger.cluster_id,
        "node": ledger.node_id,
        "address": address,
        "version": PRODUCT,
        "reason": reason,
        "founding": founding,
    }
    status = ledger.status
    if status is None:
        nothing = {"term": 0, "leader": "", "leaderAddress": "", "commit": 0, "applied": 0, "lastIndex": 0}
        never = {"snapshotIndex": 0, "hasLease": False, "stuck": False, "failed": ""}
        return common | {"role": JOINING} | nothing | never | {"members": []}
    return common | {
        "role": status.role.upper().replace("-", "_"),
        "term": status.term,
        "leader": status.leader or "",
        "leaderAddress": ledger.leader_address or "",
        "commit": status.commit,
        "applied": status.applied,
        "lastIndex": status.last_index,
        "snapshotIndex": status.snapshot_index,
        "hasLease": status.has_lease,
        "stuck": status.stuck,
        "failed": status.failed or "",
        "members": _members(ledger),
    }


def _members(ledger: RaftLedger) -> list[dict[str, Any]]:
    node = ledger.node
    assert node is not None  # there is a status
    core = node.core
    connected = node.status().connected | {node.identity.node}
    rows = []
    for id_, member in sorted(core.log.membership.members.items(), key=lambda item: item[1].address):
        progress = core.role.progress.get(id_) if isinstance(core.role, Leader) else None
        rows.append(
            {
                "node": id_,
                "address": ledger.address_of(id_) or member.address,
                "voter": member.voter,
                "connected": id_ in connected,
                "lastContact": round(node.seconds_since(progress.contact), 3) if progress is not None else None,
                "match": progress.match if progress is not None else None,
            }
        )
    return rows


@attrs.frozen
class Belief:
    """The part of another master's beliefs that a master acts on; `asked` is the address that answered."""

    asked: str
    cluster: str
    node: str
    address: str
    term: int
    failed: bool  # it takes no part any more
    leads: bool
    members: frozenset[str]  # node ids
    reached: Mapping[str, str]  # those that it has a connection to, and where
    ballot: int  # of founding, that it has promised to somebody last


async def ask(peers: PeerAgent, address: str) -> Belief:
    """Ask a master what it believes; raises PeerError when it does not answer, or not as a master does."""
    answer = await peers.get_json(address, "/cluster/members", timeout=ASK_TIMEOUT, limit=1 << 20)
    try:
        members = answer.get("members") or ()
        return Belief(
            asked=address,
            cluster=_text(answer, "cluster"),
            node=_text(answer, "node"),
            address=_text(answer, "address"),
            term=int(answer.get("term", 0)),
            failed=bool(answer.get("failed")),
            leads=answer.get("hasLease") is True,
            members=frozenset(_text(member, "node") for member in members),
            reached={_text(m, "node"): _text(m, "address") for m in members if m.get("connected") is True},
            ballot=int((answer.get("founding") or {}).get("ballot", 0)),
        )
    except (BadRequest, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise PeerError(address, f"does not answer as a master of weedtw does ({error})") from error


async def ask_all(peers: PeerAgent, addresses: Iterable[str]) -> list[Belief]:
    """What those believe that answer."""
    found = []
    for outcome in await outcomes(ask(peers, address) for address in dict.fromkeys(addresses)):
        if isinstance(outcome, Belief):
            found.append(outcome)
        elif outcome.check(WeedError) is None:
            outcome.raiseException()
    return found


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > 300:
        raise BadRequest(f"{name} is missing")
    return value
