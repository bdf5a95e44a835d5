"""Sending on the spot: to the socket itself, without the reactor, while nothing waits before it in the transport.

A transport's `write` has the reactor watch the socket and sends from there: two calls into the kernel more for each
answer.  Nearly always the socket takes an answer at once.
"""

import os
import socket
from typing import Any

from twisted.internet.tcp import Connection


def can_send(transport: Any) -> bool:
    """Whether this is a plain TCP connection of Twisted's: nothing stands between it and the socket."""
    return isinstance(transport, Connection) and not getattr(transport, "TLS", False)


def send(transport: Any, data: bytes | memoryview) -> bytes:
    """Send what the socket takes now, in order; return the rest, which is to be written to the transport.

    The transport must be one that `can_send`, and not be closing.  It finds out by itself if it is broken.
    """
    sent = send_some(transport, data)
    return b"" if sent == len(data) else bytes(data[sent:])


def send_some(transport: Any, data: bytes | memoryview) -> int:
    """The same, but only how many bytes those were: the rest stays with the caller."""
    if transport.dataBuffer or transport._tempDataBuffer or not transport.connected:
        return 0
    handle: socket.socket = transport.socket
    try:
        return handle.send(data)
    except OSError:  # full, or broken
        return 0


def send_file(transport: Any, data: bytes | memoryview, fd: int, offset: int) -> int:
    """As `send_some`, where `data` is what the open file has at that offset, and is in the page cache.

    So the kernel need not copy it into the socket: the client's side reads it from where it lies.
    """
    if transport.dataBuffer or transport._tempDataBuffer or not transport.connected:
        return 0
    try:
        sent = os.sendfile(transport.socket.fileno(), fd, offset, len(data))
    except BlockingIOError:
        return 0
    except OSError:  # broken; or a file system that cannot do it
        sent = 0
    return sent or send_some(transport, data)


def await_room(transport: Any) -> None:
    """Have the transport tell its producer, which is a streaming one, to resume once all is sent and the socket takes
    more: as if it had paused the producer itself.
    """
    transport.producerPaused = True
    transport.startWriting()
