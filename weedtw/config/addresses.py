"""Which address a daemon goes by when it is not told, and which of the masters in `--peers` is this one itself."""

import ipaddress
from collections.abc import Iterable

from weedtw.config import kinds
from weedtw.config.network import Network

DEFAULT_PORT = 9333
# What a name of this machine stands for in its own hosts file; Debian gives the host's own name the last of them.
_OWN_NAMES = {"127.0.0.1", "::1", "127.0.1.1"}


def advertised(towards: Iterable[str], network: Network) -> str:
    """Our address on the way to the first of the others, or `localhost` when they are all here."""
    for address in towards:
        host, _ = kinds.split_address(address, DEFAULT_PORT)
        source = None if kinds.is_loopback(host) else network.source(host)
        if source and not kinds.is_loopback(source):
            return source
    return "localhost"


def interface(ip: str) -> str:
    """Where to listen when `--ip.bind` does not say: where the others come, and nowhere else."""
    return "127.0.0.1" if ip.rstrip(".").lower() == "localhost" else ip


def own_first(peers: Iterable[str], port: int, network: Network) -> list[str]:
    """The same list, with what names an address of this machine and our port in front: the others know us by that."""

    def is_other(peer: str) -> bool:
        host, peer_port = kinds.split_address(peer, DEFAULT_PORT)
        return peer_port != port or network.source(host) not in network.addresses(host)

    return sorted(peers, key=is_other)


def is_self(peer: str, ip: str, port: int, network: Network, *, chosen: bool) -> bool:
    """Whether a master in `--peers` is this one, which has that address and port.

    With an `ip` that somebody has `chosen` another address of this machine may be another master's, also another one
    of the loopback interface.
    """
    host, peer_port = kinds.split_address(peer, DEFAULT_PORT)
    if peer_port != port:
        return False
    if host.lower() == ip.lower():
        return True
    found = set(network.addresses(host))
    if kinds.is_localhost(host) or (not _is_literal(host) and found & _OWN_NAMES):
        return kinds.is_localhost(ip) or not kinds.is_loopback(ip)
    if found & set(network.addresses(ip)):
        return True
    return not chosen and network.source(host) in found


def is_elsewhere(peer: str, network: Network) -> bool:
    """Whether a master may be on another machine: its host is no name for this one."""
    host, _ = kinds.split_address(peer, DEFAULT_PORT)
    if kinds.is_loopback(host):
        return False
    found = network.addresses(host)
    return not found or not all(map(kinds.is_loopback, found))


def is_loopback(peer: str) -> bool:
    """Whether a master is named by an address that only this machine understands."""
    return kinds.is_loopback(kinds.split_address(peer, DEFAULT_PORT)[0])


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
