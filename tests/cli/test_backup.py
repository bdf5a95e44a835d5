"""`weedtw backup`: what is said when the server does not give what was asked for."""

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli import backup
from weedtw.client.answers import VolumeTail
from weedtw.errors import PeerError


@attrs.define
class Server:
    """Stands for a client and what it talks to."""

    answer: VolumeTail | PeerError

    async def volume_tail(self, volume_id: int, offset: int) -> VolumeTail:
        """Answer always the same."""
        del volume_id, offset
        if isinstance(self.answer, PeerError):
            raise self.answer
        return self.answer


def asked(answer: VolumeTail | PeerError) -> "Deferred[VolumeTail]":
    server: Any = Server(answer)
    return Deferred.fromCoroutine(backup._tail(server, 1, 0))


class TailTests(SynchronousTestCase):
    def test_a_server_of_the_original(self) -> None:
        for status in (400, 404, 405):
            error = self.failureResultOf(asked(PeerError("h:8080", "Bad Request", status)), PeerError).value
            self.assertTrue(str(error).startswith("h:8080: gives volumes away in another way"))
            self.assertTrue(str(error).endswith("use weed backup"))

    def test_another_error_is_told_as_it_is(self) -> None:
        error = self.failureResultOf(asked(PeerError("h:8080", "the disk fails", 500)), PeerError).value
        self.assertEqual(str(error), "h:8080: the disk fails")

    def test_an_answer(self) -> None:
        tail = VolumeTail(b"data", 4, 0, 4, "")
        self.assertEqual(self.successResultOf(asked(tail)), tail)
