"""The admin lock: whoever holds it may move, delete and repair volumes, one at a time in a cluster.

Who holds it is decided among the masters, so a failover changes nothing.  When it was last renewed only the leader
knows; one that comes to lead gives the holder the whole time anew.
"""

import uuid

import attrs

from weedtw.errors import ChangeRefused, Locked
from weedtw.master.cluster import Cluster
from weedtw.topology.state import AdminLock, TakeLock

EXPIRES: float = 20.0  # seconds after the last renewal, from which on somebody else may take it
LONGEST_HOLDER = 200  # characters


@attrs.define(eq=False)
class AdminLocks:
    """Gives the lock, as far as this master leads."""

    cluster: Cluster
    _token: str = ""  # the one that `_until` is about
    _until: float = 0.0  # when it expires, on the clock

    @property
    def held(self) -> AdminLock:
        """Who has it; nobody when the token is empty."""
        return self.cluster.ledger.state.lock

    @property
    def left(self) -> float:
        """Seconds until it expires, 0 when it has or nobody holds it."""
        token = self.held.token
        if not token:
            return 0.0
        if token != self._token:  # taken while another master led
            self._renew(token)
        return max(0.0, self._until - self.cluster.clock.seconds())

    async def take(self, holder: str, token: str = "") -> str:
        """Take it, or renew it with the token that was given for it; the token.

        Raises Locked when somebody else has it, Unavailable when that cannot be decided now.
        """
        held, left = self.held, self.left
        if held.token and held.token == token:
            self._renew(token)
            return token
        if held.token and left > 0:
            raise Locked(held.holder, left)
        wanted = TakeLock(token or uuid.uuid4().hex, holder[:LONGEST_HOLDER], held.token)
        decided: AdminLock = await self.cluster.ledger.submit(wanted)
        if decided.token != wanted.token:
            raise Locked(decided.holder, EXPIRES)
        self._renew(wanted.token)
        return wanted.token

    async def release(self, token: str) -> None:
        """Let it go; nothing happens when nobody holds it.  Raises Locked when somebody else does."""
        held = self.held
        if held.token and held.token != token:
            raise Locked(held.holder, self.left)
        if held.token:
            await self.cluster.ledger.submit(TakeLock("", "", token))

    def require(self, token: str) -> None:
        """Raise ChangeRefused or Locked unless that token holds it."""
        held = self.held
        if held.token and held.token != token:
            raise Locked(held.holder, self.left)
        if not token or not held.token:
            raise ChangeRefused("this needs the admin lock; take it first (POST /cluster/lock)")

    def _renew(self, token: str) -> None:
        self._token, self._until = token, self.cluster.clock.seconds() + EXPIRES
