"""Who may do what: a white list of addresses and networks.  An empty list lets everybody in, but no foreign page.

    @app.route("/dir/assign")
    @endpoint
    @guarded
    async def dir_assign(self, request: Request) -> bytes: ...

`guarded` asks the `white_list` attribute of the object the endpoint belongs to, and refuses foreign origins.
"""

import functools
import ipaddress
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import attrs

from weedtw.errors import ConfigError, Forbidden
from weedtw.http.origins import check_origin
from weedtw.http.requests import Request

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


@attrs.frozen
class WhiteList:
    """Addresses and networks that are let in."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> "WhiteList":
        """Entries such as `10.0.0.7`, `10.0.0.0/8`, `fd00::/8` or `localhost`; raises ConfigError."""
        networks: list[Network] = []
        for entry in filter(None, (entry.strip() for entry in entries)):
            if entry.lower() == "localhost":
                networks += _LOOPBACK
                continue
            try:
                networks.append(_plain(ipaddress.ip_network(entry, strict=False)))
            except ValueError as error:
                reason = f"{entry!r} is neither an address nor a network such as 10.0.0.0/8"
                raise ConfigError("whiteList", reason) from error
        return cls(tuple(networks))

    def allows(self, host: str) -> bool:
        """Whether a peer of this address is let in; any is by an empty list, an unreadable one never otherwise."""
        if not self.networks:
            return True
        try:
            peer = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(peer, "ipv4_mapped", None)  # ::ffff:10.0.0.7 is 10.0.0.7 on a dual-stack socket
        return any((mapped or peer) in network for network in self.networks)

    def check(self, request: Request) -> None:
        """Raise Forbidden unless the peer of this request is let in."""
        if not self.allows(request.client_host):
            raise Forbidden(request.client_host)


def _plain(network: Network) -> Network:
    """An IPv4-mapped IPv6 network as the IPv4 network it stands for."""
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.ip_network((mapped, network.prefixlen - 96))


class _HasWhiteList(Protocol):
    @property
    def white_list(self) -> WhiteList: ...


_Self = TypeVar("_Self", bound=_HasWhiteList)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def guarded(
    method: Callable[Concatenate[_Self, Request, _Arguments], Awaitable[_Result]],
) -> Callable[Concatenate[_Self, Request, _Arguments], Coroutine[Any, Any, _Result]]:
    """Let only clients of `self.white_list` reach an endpoint, at no other site's wish; stands under `@endpoint`."""

    @functools.wraps(method)
    async def check_first(
        self: _Self, request: Request, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Result:
        self.white_list.check(request)
        check_origin(request, request.channel.site.names)
        return await method(self, request, *args, **kwargs)

    return cast(Callable[Concatenate[_Self, Request, _Arguments], Coroutine[Any, Any, _Result]], check_first)
