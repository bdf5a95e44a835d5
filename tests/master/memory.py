"""A ledger in memory: it decides at once, when it is told to, or not at all."""

from typing import Any

from twisted.internet.defer import Deferred

from weedtw.errors import Unavailable, Undecided, WeedError
from weedtw.topology.state import ClusterState, Command

CLUSTER = "0b1e0000-0000-4000-8000-000000000001"


class MemoryLedger:
    """Leads from the start.  With `slow`, commands and questions wait until `store_all` or `fail_all`."""

    def __init__(self, state: ClusterState | None = None, *, slow: bool = False, address: str = "m:9333") -> None:
        self.node_id = f"node of {address}"
        self.cluster_id = CLUSTER
        self.state = state or ClusterState()
        self.address = address
        self.masters: tuple[str, ...] = (address,)
        self.slow = slow
        self.has_lease = True
        self.is_broken = False  # its disk has failed
        self.waiting: list[tuple[Command | None, Deferred[Any]]] = []  # None: a question who leads
        self.commands: list[Command] = []  # those that were carried out
        self._leads = True
        self._successor: str | None = None

    @property
    def has_lead(self) -> bool:
        return self._leads and not self.is_broken

    @property
    def is_leader(self) -> bool:
        return self.has_lead and self.has_lease

    @property
    def leader_address(self) -> str | None:
        if self.is_broken:
            return None
        return self.address if self._leads else self._successor

    async def submit(self, command: Command) -> Any:
        return await self._wait(command)

    async def confirm(self) -> None:
        if not self.is_leader:
            await self._wait(None)

    async def _wait(self, command: Command | None) -> Any:
        if not self.has_lead:
            raise self._refusal()
        waiter: Deferred[Any] = Deferred()
        self.waiting.append((command, waiter))
        if not self.slow:
            self.store_all()
        return await waiter

    def _refusal(self) -> Unavailable:
        if self.is_broken:
            return Unavailable("this master cannot store its decisions any more: the disk is broken")
        return Undecided("this master does not lead any more; ask again")

    # ------------------------------------------------------------------ what the test decides

    def store_all(self) -> None:
        """All that waits is decided."""
        waiting, self.waiting = self.waiting, []
        for command, waiter in waiting:
            if command is None:
                waiter.callback(None)
                continue
            try:
                self.state, result = self.state.apply(command)
            except WeedError as refusal:
                waiter.errback(refusal)
                continue
            self.commands.append(command)
            waiter.callback(result)

    def fail_all(self) -> None:
        """Nothing that waits will be decided."""
        waiting, self.waiting = self.waiting, []
        for _, waiter in waiting:
            waiter.errback(Unavailable("no decision was reached"))

    def break_down(self) -> None:
        """The disk fails, for good."""
        self.is_broken = True
        self.fail_all()

    def lose_lead(self, successor: str | None = None) -> None:
        """Another master leads, or nobody."""
        self._leads, self._successor = False, successor
        self.fail_all()

    def gain_lead(self, *, lease: bool = True) -> None:
        """This master is elected."""
        self._leads, self._successor, self.has_lease = True, None, lease
