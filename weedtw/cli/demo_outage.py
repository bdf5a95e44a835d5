"""How long nobody gets a file id while a master dies, and whether any id comes twice."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from weedtw.cli.demo_files import REPLICATION, DemoFailed
from weedtw.errors import BadRequest, PeerError
from weedtw.formats.fileid import FileId

if TYPE_CHECKING:
    from weedtw.http.agent import PeerAgent

_BETWEEN: Final = 0.002  # seconds from an answer to the next question; leaves the masters time for each other
_ANSWER_WITHIN: Final = 5.0  # seconds; a master that looks for the leader holds a request for two


@attrs.define(eq=False)
class Asker:
    """A client that asks the masters in turn for one id after the other; who does not answer is passed over."""

    reactor: Any
    peers: "PeerAgent"
    masters: Sequence[str]
    longest: float = 0.0  # seconds from one id to the next
    count: int = 0  # ids that came
    twice: int = 0  # those of them that had come before
    _keys: set[int] = attrs.Factory(set)
    _last: float | None = None
    _stopped: bool = False

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True

    async def run(self) -> None:
        """Ask until `stop`."""
        from twisted.internet.task import deferLater

        for address in itertools.cycle(self.masters):
            if self._stopped:
                return
            try:
                answer = await self.peers.get_json(
                    address, "/dir/assign", {"replication": REPLICATION}, timeout=_ANSWER_WITHIN
                )
                self._take(FileId.parse(str(answer.get("fid"))))
            except PeerError:  # this one is dead, or knows no leader
                pass
            except BadRequest as error:
                raise DemoFailed(f"{address} answered with something that is no file id: {error}") from error
            await deferLater(self.reactor, _BETWEEN)

    def _take(self, fid: FileId) -> None:
        now = self.reactor.seconds()
        if self._last is not None:
            self.longest = max(self.longest, now - self._last)
        self._last = now
        self.count += 1
        self.twice += fid.key in self._keys  # the key alone: no two files share one, in whatever volumes they are
        self._keys.add(fid.key)
