"""Hosts with a network of their own, made of Linux network namespaces: each has an address, and all ports.

host = network.host(1)                                 at 10.77.0.1, in one Ethernet with the others
host.start("weedtw master -mdir=./1")                  as typed there; the scratch folder is the same for all
with host.inside(): ...                                what this test asks is asked from there
host.cut()                                             its cable is pulled

It takes root and iproute2.  Nothing of it can be seen from outside, and it ends with the test.
"""

import ctypes
import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from tests.cluster.masters import Daemon, Scratch
from tests.cluster.processes import HOST, Answer

CLONE_NEWNET = 0x40000000  # of linux/sched.h
NAMES = Path("/run/netns")  # where iproute2 keeps namespaces
_numbers = itertools.count()


class NoNamespaces(Exception):
    """This machine, or this user, makes no network namespaces; the text says why."""


def ip(words: str) -> None:
    """Run iproute2; raises NoNamespaces."""
    try:
        done = subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NoNamespaces("iproute2 is not installed") from error
    if done.returncode != 0:
        raise NoNamespaces(f"ip {words}: {done.stderr.strip()}")


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise NoNamespaces(f"setns: {os.strerror(ctypes.get_errno())}")


@attrs.frozen
class Host:
    """One host; `namespace` is its name for iproute2."""

    namespace: str
    address: str
    scratch: Scratch

    @contextmanager
    def inside(self) -> Iterator[None]:
        """What this thread starts and connects to meanwhile belongs to this host."""
        with Path("/proc/thread-self/ns/net").open("rb") as outside, (NAMES / self.namespace).open("rb") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(outside.fileno())

    def start(self, line: str) -> Daemon:
        """Type a command here."""
        log = self.scratch.folder / f"{len(self.scratch.daemons)}.log"
        daemon = HostDaemon(line, self.scratch.folder, log, self)
        self.scratch.daemons.append(daemon)
        return daemon

    def cut(self) -> None:
        """Pull its cable."""
        ip(f"-n {self.namespace} link set eth0 down")

    def mend(self) -> None:
        """Plug it in again."""
        ip(f"-n {self.namespace} link set eth0 up")


@attrs.define(eq=False)
class HostDaemon(Daemon):
    """A process on a host, asked from there."""

    host: Host

    @property
    def port(self) -> int:
        """The port that it answers at, with the defaults as there is nobody else."""
        return super().port if re.search(r"port[= ]", self.line) else 8080 if " volume" in self.line else 9333

    @property
    def address(self) -> str:
        """Where to ask it: on the loopback interface, unless it has been told of others, be it earlier."""
        knows_others = re.search(r"10\.77\.|-ip\.bind=0\.0\.0\.0", self.said)
        return f"{self.host.address if knows_others else HOST}:{self.port}"

    def start(self, line: str = "") -> None:
        """See Daemon."""
        with self.host.inside():
            super().start(line)

    def ask(self, target: str, *, method: str = "GET", timeout: float = 60.0) -> Answer | None:
        """See Daemon."""
        with self.host.inside():
            return super().ask(target, method=method, timeout=timeout)


@attrs.define(eq=False)
class Network:
    """Some hosts at one switch, which is a host as well: the tests'."""

    scratch: Scratch
    name: str = attrs.field(factory=lambda: f"weedtw-{os.getpid()}-{next(_numbers)}")
    hosts: dict[int, Host] = attrs.Factory(dict)
    _namespaces: list[str] = attrs.Factory(list)

    def begin(self) -> None:
        """Make the switch; raises NoNamespaces."""
        self._add(self.name)
        ip(f"-n {self.name} link add switch type bridge")
        ip(f"-n {self.name} link set switch up")
        ip(f"-n {self.name} addr add 10.77.0.254/24 dev switch")

    def _add(self, namespace: str) -> None:
        ip(f"netns add {namespace}")
        self._namespaces.append(namespace)
        ip(f"-n {namespace} link set lo up")

    @property
    def switch(self) -> Host:
        """Where the tests ask from."""
        return Host(self.name, "10.77.0.254", self.scratch)

    def host(self, number: int) -> Host:
        """Host 1, 2 …"""
        if number not in self.hosts:
            host = Host(f"{self.name}-{number}", f"10.77.0.{number}", self.scratch)
            self._add(host.namespace)
            ip(f"-n {self.name} link add port{number} type veth peer name eth0 netns {host.namespace}")
            ip(f"-n {self.name} link set port{number} master switch up")
            ip(f"-n {host.namespace} addr add {host.address}/24 dev eth0")
            ip(f"-n {host.namespace} link set eth0 up")
            self.hosts[number] = host
        return self.hosts[number]

    def end(self) -> None:
        """Remove all, after the processes."""
        for namespace in self._namespaces:
            ip(f"netns del {namespace}")
