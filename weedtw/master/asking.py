"""Asking several volume servers for the same thing."""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from twisted.python.failure import Failure

from weedtw.errors import PeerError
from weedtw.http.agent import PeerAgent
from weedtw.master.flight import outcomes


@attrs.frozen
class Asked:
    """Who answered, and what kept the others from it."""

    answers: Mapping[str, dict[str, Any]]  # by address
    failures: tuple[PeerError, ...]


async def post_to_all(
    peers: PeerAgent,
    addresses: Iterable[str],
    path: str,
    query: Mapping[str, object],
    *,
    timeout: float | None = None,
) -> Asked:
    """POST to all of them at the same time; `timeout` is in seconds.  What fails is in the result, not raised."""
    asked = list(addresses)
    outcome_of = dict(
        zip(
            asked,
            await outcomes(peers.post_json(address, path, query, timeout=timeout) for address in asked),
            strict=True,
        )
    )
    failures: list[PeerError] = []
    for outcome in outcome_of.values():
        if isinstance(outcome, Failure):
            if not isinstance(outcome.value, PeerError):
                outcome.raiseException()
            else:
                failures.append(outcome.value)
    return Asked(
        {address: outcome for address, outcome in outcome_of.items() if not isinstance(outcome, Failure)},
        tuple(failures),
    )
