"""How a master makes decisions last.

A decision is a command of `weedtw.topology.state`.  `submit` gives the command's result once it can no longer be
lost; only then may anybody be told.  `weedtw.master.consensus` is the ledger that masters run on.
"""

from typing import Any, Protocol

from weedtw.topology.state import ClusterState, Command


class Ledger(Protocol):
    """The agreed state of the cluster, and the way to change it."""

    @property
    def node_id(self) -> str:
        """This master's own identity, a UUID that stays for life."""
        ...

    @property
    def cluster_id(self) -> str:
        """The cluster's identity, a UUID; empty while this master belongs to none."""
        ...

    @property
    def state(self) -> ClusterState:
        """The agreed state, as far as this master knows it."""
        ...

    @property
    def is_leader(self) -> bool:
        """Whether this master decides at this moment: it leads, knows all that was decided, and has the lease."""
        ...

    @property
    def has_lead(self) -> bool:
        """Whether this master was elected and knows of no successor; `confirm` tells whether that still holds."""
        ...

    @property
    def leader_address(self) -> str | None:
        """The `host:port` of the master that decides; None when there is none, or it is not known."""
        ...

    @property
    def masters(self) -> tuple[str, ...]:
        """The addresses of all masters of the cluster, in a fixed order; empty while there is no cluster."""
        ...

    async def submit(self, command: Command) -> Any:
        """Make a command last and give its result, as `ClusterState.apply` does.

        Raises what the command raises, and Unavailable when the command was not carried out, or may be only later.
        """
        ...

    async def confirm(self) -> None:
        """Return when this master is proven to lead, by a lease or by an answer of the majority.

        Raises Unavailable when it does not.
        """
        ...
