"""The admin lock of a cluster, held while volumes are moved and repaired."""

from typing import Any, Final

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from weedtw.client.masters import Masters
from weedtw.client.patience import Patience
from weedtw.client.wire import hint, passes
from weedtw.errors import ChangeRefused, PeerError, WeedError

RENEW: Final = 4.0  # seconds; a lock that is not renewed expires after 20
_WITHIN: Final = 5.0  # seconds
_REFUSED: Final = 423  # somebody else holds it


@attrs.define(eq=False)
class AdminLock:
    """Taken by `take`, renewed until `release`; a leader that dies does not end it."""

    masters: Masters
    clock: IReactorTime
    holder: str  # who, for people
    lost: str = ""  # why it is not held any more; "" while it is
    _token: str = ""
    _loop: LoopingCall | None = None
    _renewing: "Deferred[None] | None" = None

    @property
    def is_held(self) -> bool:
        """Whether it was taken, and not lost since."""
        return bool(self._token) and not self.lost

    async def take(self) -> None:
        """Take it; raises ChangeRefused when somebody else has it, Unavailable and PeerError."""
        if self.is_held:
            return
        self._token, self.lost = "", ""
        master, answer = await self._ask("lock", {"holder": self.holder})
        token = answer.get("token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not token:
            raise PeerError(master, "gave the admin lock without a token")
        self._token = token
        self._loop = LoopingCall(self._renew)
        self._loop.clock = self.clock
        self._loop.start(RENEW, now=False)

    async def release(self) -> None:
        """Let it go; raises as `take`."""
        self._stop()
        token, self._token = self._token, ""
        if token and not self.lost:
            await self._ask("unlock", {"token": token})

    def require(self) -> None:
        """Raise ChangeRefused unless it is held."""
        if not self.is_held:
            raise ChangeRefused(self.lost or "this needs the admin lock; type lock first")

    def _renew(self) -> "Deferred[None]":
        """Never fails: that it could not be renewed is told by `lost` when somebody else has it."""

        def failed(failure: Failure) -> None:
            failure.trap(WeedError, CancelledError)
            if isinstance(failure.value, ChangeRefused):
                self.lost = f"the admin lock was lost: {failure.value}"
                self._stop()

        query = {"holder": self.holder, "token": self._token}
        self._renewing = Deferred.fromCoroutine(self._again(query)).addErrback(failed)
        return self._renewing

    def _stop(self) -> None:
        """Renew it no more: where nobody has the lock, a renewal takes it, and nobody would know."""
        loop, self._loop = self._loop, None
        if loop is not None and loop.running:
            loop.stop()
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.cancel()

    async def _again(self, query: dict[str, str]) -> None:
        await self._ask("lock", query)

    async def _ask(self, what: str, query: dict[str, str]) -> tuple[str, Any]:
        """Ask each master, the leader first, again and again while none leads; who answered, and what."""
        patience = Patience(self.clock, self.masters.patience, self.masters.spread)
        while True:
            troubles: list[WeedError] = []
            for master in [*filter(None, [self.masters.leader]), *self.masters.known]:
                try:
                    reply = await self.masters.wire.exchange(
                        "POST", master, f"/cluster/{what}", query, within=_WITHIN
                    )
                    if reply.status >= 300:
                        raise await reply.error()
                    return master, await reply.json()
                except WeedError as error:
                    if isinstance(error, PeerError) and error.status == _REFUSED:
                        raise ChangeRefused(error.reason) from error
                    if not passes(error):
                        raise
                    troubles.append(error)
            if not await patience.wait(hint(troubles)):
                raise troubles[-1]
