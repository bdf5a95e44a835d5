"""Requests for volumes that are elsewhere: passed on, or their senders sent on, as `--readMode` says.

    local      404: only what is here
    proxy      the request goes on to a server that has the volume, the answer comes back as it is (the default)
    redirect   307 to the public address of a server that has it

Writes and deletes follow the same rule.  A request that was passed on carries a mark (`X-Weedtw-Via`, or
`proxied=true` after a redirect); a server that gets it and does not have the volume either says 404, so that no
request goes in circles.
"""

from http import HTTPStatus

import attrs
from twisted.logger import Logger

from weedtw.config import ReadMode
from weedtw.errors import PeerError, Unavailable, Unreachable, VolumeNotFound
from weedtw.http.agent import PeerAgent, PeerResponse
from weedtw.http.requests import Params, Request
from weedtw.http.responses import redirect_response
from weedtw.volume.locations import Location, Locations

MARK = "X-Weedtw-Via"
READ_TIMEOUT = 15.0  # seconds for the head of an answer, and for each pause in its body
SLOWEST = 1 << 20  # bytes a second: what a peer is expected to take at least

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_OUR_OWN = frozenset({b"date", b"server"})
_REASON = 64 * 1024  # bytes of an answer that says what is wrong


def is_marked(request: Request, query: Params) -> bool:
    """Whether another server has passed this request on already."""
    return request.header(MARK) is not None or query.text("proxied") == "true"


@attrs.frozen(eq=False)
class Proxy:
    """Deals with requests for volumes that this server, `address`, does not hold."""

    log = Logger()

    mode: ReadMode
    address: str
    peers: PeerAgent
    locations: Locations
    scheme: str = "http"  # of the URLs that clients are sent to

    async def answer(self, request: Request, query: Params, volume_id: int, body: memoryview | None) -> bytes | None:
        """Answer from elsewhere; `body` is the request's, None for GET and HEAD.

        Raises VolumeNotFound, Unavailable, and PeerError when the answer breaks off.
        """
        if self.mode == "local" or is_marked(request, query):
            raise VolumeNotFound(volume_id)
        holders = await self._holders(volume_id)
        if self.mode == "redirect":
            joint = "&" if b"?" in request.uri else "?"
            target = f"{self.scheme}://{holders[0].public_url}{request.uri.decode('ascii', 'replace')}"
            target += f"{joint}proxied=true"
            return redirect_response(request, target, status=307)
        response = await self._ask(request, body, volume_id, holders)
        await _pass_on(request, response)
        return None

    async def hand_on(self, request: Request, volume_id: int, address: str) -> None:
        """Let the server at `address` answer a write or delete, whatever `mode` is; raises as `answer` does."""
        response = await self._ask(request, request.body, volume_id, (Location(address, address),))
        await _pass_on(request, response)

    async def _holders(self, volume_id: int) -> tuple[Location, ...]:
        found = await self.locations.find(volume_id)
        holders = tuple(location for location in found if location.url != self.address)
        if not holders:
            raise VolumeNotFound(volume_id)
        return holders

    async def _ask(
        self, request: Request, body: memoryview | None, volume_id: int, holders: tuple[Location, ...]
    ) -> PeerResponse:
        """The answer of the first holder that gives one; what may have been done is not asked of another.

        Of reading that failed another one is asked: the copy may be damaged, and it asks nobody for a marked request.
        """
        buffers = None if body is None else [body]
        timeout = READ_TIMEOUT + (0 if body is None else len(body) / SLOWEST)
        headers = _end_to_end(request)
        headers[MARK] = self.address
        problems: list[str] = []
        for holder in holders:
            try:
                response = await self.peers.request(
                    request.method.decode("ascii"),
                    holder.url,
                    request.uri.decode("ascii"),
                    headers=headers,
                    body=buffers,
                    timeout=timeout,
                )
                if body is not None or response.status != HTTPStatus.INTERNAL_SERVER_ERROR or holder is holders[-1]:
                    return response
                problems.append(f"{holder.url}: {(await response.read(_REASON))[:300].decode('utf-8', 'replace')}")
            except PeerError as error:
                self.locations.forget(volume_id)
                problems.append(str(error))
                if body is not None and not isinstance(error, Unreachable):
                    break
        self.log.warn(
            "volume {volume}: no copy answered {method}: {problems}",
            volume=volume_id,
            method=request.method.decode("ascii"),
            problems="; ".join(problems),
        )
        raise Unavailable(f"no server that holds volume {volume_id} answers now")


def _named(value: str | None) -> frozenset[bytes]:
    return frozenset(token.strip().lower().encode() for token in (value or "").split(","))


def _end_to_end(request: Request) -> dict[str, str]:
    """The headers that are meant for whoever answers in the end."""
    left_out = _HOP_BY_HOP | _named(request.header("Connection"))
    return {
        name.decode("latin-1"): b", ".join(values).decode("utf-8", "replace")
        for name, values in request.requestHeaders.getAllRawHeaders()
        if name.lower() not in left_out
    }


async def _pass_on(request: Request, response: PeerResponse) -> None:
    """Give another server's answer to our client as it is."""
    request.setResponseCode(response.status)
    left_out = (_HOP_BY_HOP - {b"content-length"}) | _OUR_OWN | _named(response.header("Connection"))
    for name, values in response.response.headers.getAllRawHeaders():
        if name.lower() not in left_out:
            request.responseHeaders.setRawHeaders(name, values)
    has_body = request.method != b"HEAD" and response.status not in {204, 304}
    if has_body and response.length is not None:
        request.setHeader(b"Content-Length", b"%d" % response.length)
    await response.relay(request)
