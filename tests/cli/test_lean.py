"""What the lean reactor does with one connection's events, and with its faults."""

import select
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
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


def _connection(outcome: Any) -> Any:
    """A TCP connection whose `doRead` returns or raises that."""

    def read() -> Any:
        if isinstance(outcome, ZeroDivisionError):
            raise outcome
        return outcome

    made: Any = Server.__new__(Server)
    made.doRead = read
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
        done = ConnectionDone()
        ended = _connection(done)
        self.see((3, _connection(None), select.EPOLLIN), (4, ended, select.EPOLLIN))
        assert self.reactor.ended == [(ended, done)]
        assert self.reactor.served == []

    def test_everything_else_is_left_to_the_reactor(self) -> None:
        connection, other = _connection(None), SimpleNamespace()
        self.see((3, connection, select.EPOLLIN | select.EPOLLHUP), (4, other, select.EPOLLIN))
        assert self.reactor.served == [(connection, select.EPOLLIN | select.EPOLLHUP), (other, select.EPOLLIN)]
        self.reactor.events = [(5, select.EPOLLIN)]  # it has gone meanwhile
        self.iterate(None)
        assert len(self.reactor.served) == 2

    def test_a_fault_ends_that_connection_only(self) -> None:
        fault = ZeroDivisionError()
        broken, sound = _connection(fault), _connection(ConnectionDone())
        self.see((3, broken, select.EPOLLIN), (4, sound, select.EPOLLIN))
        assert [selectable for selectable, _ in self.reactor.ended] == [broken, sound]
        assert self.reactor.ended[0][1] is fault
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1
        self.logged.clear()
