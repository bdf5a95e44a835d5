"""What another master hears from one that belongs to no cluster yet."""

from typing import Any

from twisted.internet.protocol import Protocol

from weedtw.raft.lines import encode_refusal


class NotYet(Protocol):
    """Refuses the connection in the words of the Raft line protocol; the other side tries again."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:  # noqa: ARG002 - whatever it says
        """Say why, and close."""
        self.transport.write(encode_refusal("this master belongs to no cluster yet") + b"\r\n")
        self.transport.loseConnection()
