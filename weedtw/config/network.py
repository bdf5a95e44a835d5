"""What the machine's own network says: which addresses a name has, and from which of ours it is reached.

Apart from the rest of the room because it asks the operating system; tests put a table in its place.
"""

import socket
from typing import Protocol

import attrs


class Network(Protocol):
    """What the defaults of `--ip` need to know."""

    def addresses(self, host: str) -> tuple[str, ...]:
        """The IP addresses of a name (of an address: itself); empty when nobody knows it."""

    def source(self, host: str) -> str | None:
        """Our own address on the way to a host; None when there is no way."""


@attrs.frozen
class OwnNetwork:
    """The network of this machine.  To look up a name may take the resolver's time-out, so it is done once."""

    _known: dict[str, tuple[str, ...]] = attrs.field(factory=dict, init=False, eq=False, repr=False)

    def addresses(self, host: str) -> tuple[str, ...]:
        """The IP addresses of a name, in the resolver's order."""
        if host not in self._known:
            self._known[host] = self._look_up(host)
        return self._known[host]

    def _look_up(self, host: str) -> tuple[str, ...]:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            return ()
        return tuple(dict.fromkeys(str(place[4][0]) for place in found))

    def source(self, host: str) -> str | None:
        """Our own address on the way to a host: a UDP socket is connected, nothing is sent."""
        for address in self.addresses(host):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            try:
                with socket.socket(family, socket.SOCK_DGRAM) as probe:
                    probe.connect((address, 9))
                    return str(probe.getsockname()[0])
            except OSError:
                continue
        return None
