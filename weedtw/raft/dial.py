"""Where another node is: endpoints by address."""

import ipaddress
from collections.abc import Callable

from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IReactorCore, IStreamClientEndpoint

from weedtw.raft.lines import split_address

Connect = Callable[[str], IStreamClientEndpoint]


def plain_connector(reactor: IReactorCore, timeout: float = 5.0) -> Connect:
    """Endpoints by address, over TCP; `timeout` in seconds.  The connector raises `BadRequest` for no address."""

    def connect(address: str) -> IStreamClientEndpoint:
        host, port = split_address(address)
        # A literal needs no resolver, and so no thread of a pool that others may have filled; and it is known to be
        # refused at once, where a name is known only after `attemptDelay` more to have no further address.
        version = ip_version(host)
        if version == 4:
            return TCP4ClientEndpoint(reactor, host, port, timeout=timeout)
        if version == 6:
            return TCP6ClientEndpoint(reactor, host, port, timeout=timeout)
        return HostnameEndpoint(reactor, host, port, timeout=timeout, attemptDelay=0.02)

    return connect


def ip_version(host: str) -> int | None:
    """4 or 6; None for a name."""
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None
