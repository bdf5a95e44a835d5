"""What the lean reactor does with one connection's events, and with its faults."""

import select
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.tcp import Server
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli.lean import _iteration_of


class _Reactor:
    """The parts of EPollReactor that an iteration uses; `events` come with the next one."""

    _POLL_IN = select.EPOLLIN

    def __init__(self) -> None:
        self.events: list[tuple[int, int]] = []
        self.served: list[tuple[Any, int]] = []
        self.ended: list[tuple[Any, Any]] = []
        self._poller = SimpleNamespace(poll=lambda _timeout, _most: self.events)
        self._selectables: dict[int, Any] = {}

    def _doReadOrWrite(self, selectable: Any, _descriptor: int, event: int) -> None:
        self.served.append((selectable, event))

    def _disconnectSelectable(self, selectable: Any, why: Any, is_read: bool) -> None:
        assert is_read
        self.ended.append((selectable, why))


class _Protocol:
    def __init__(self, fault: Exception | None) -> None:
        self.fault = fault
        self.received: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)
        if self.fault is not None:
            raise self.fault


def _connection(data: bytes | OSError = b"", *, end: Exception | None = None, fault: Exception | None = None) -> Any:
    """A TCP connection from which that comes; without any its `doRead` returns `end`.  Its protocol may fail."""

    def recv(size: int) -> bytes:
        assert size == made.bufferSize
        if isinstance(data, OSError):
            raise data
        return data

    made: Any = Server.__new__(Server)
    made.socket = SimpleNamespace(recv=recv)
    made.protocol = _Protocol(fault)
    made.doRead = lambda: end
    return made


class IterationTests(SynchronousTestCase):
    logged: list[LogEvent] = []  # noqa: RUF012 - replaced for each test

    @pytest.fixture(autouse=True)
    def expect_failures(self, logged_failures: list[LogEvent]) -> None:
        self.logged = logged_failures

    def setUp(self) -> None:
        self.reactor = _Reactor()
        self.iterate = _iteration_of(self.reactor)

    def see(self, *events: tuple[int, Any, int]) -> None:
        self.reactor._selectables.update({descriptor: selectable for descriptor, selectable, _ in events})
        self.reactor.events = [(descriptor, event) for descriptor, _, event in events]
        self.iterate(0.0)

    def test_connections_with_bytes_are_read_and_ended_when_they_say_so(self) -> None:
        done, lost = ConnectionDone(), ConnectionLost()
        alive, spurious = _connection(b"some"), _connection(BlockingIOError())
        ended, broken = _connection(end=done), _connection(ConnectionResetError(), end=lost)
        self.see(*((number, made, select.EPOLLIN) for number, made in enumerate((alive, spurious, ended, broken), 3)))
        assert self.reactor.ended == [(ended, done), (broken, lost)]
        assert self.reactor.served == []
        received = [made.protocol.received for made in (alive, spurious, ended, broken)]
        assert received == [[b"some"], [], [], []]

    def test_everything_else_is_left_to_the_reactor(self) -> None:
        connection, other = _connection(b"some"), SimpleNamespace()
        self.see((3, connection, select.EPOLLIN | select.EPOLLHUP), (4, other, select.EPOLLIN))
        assert self.reactor.served == [(connection, select.EPOLLIN | select.EPOLLHUP), (other, select.EPOLLIN)]
        self.reactor.events = [(5, select.EPOLLIN)]  # it has gone meanwhile
        self.iterate(None)
        assert len(self.reactor.served) == 2

    def test_a_fault_ends_that_connection_only(self) -> None:
        fault = ZeroDivisionError()
        broken, sound = _connection(b"some", fault=fault), _connection(end=ConnectionDone())
        self.see((3, broken, select.EPOLLIN), (4, sound, select.EPOLLIN))
        assert [selectable for selectable, _ in self.reactor.ended] == [broken, sound]
        assert self.reactor.ended[0][1] is fault
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1
        self.logged.clear()
