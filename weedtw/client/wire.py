"""One HTTP exchange with one server, bounded in time and memory, with errors that say what happened.

Content goes through `twisted.web.client` as it is: no redirects, no decompression (a small answer could unfold
into a large one) and no cookies.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import attrs
from twisted.internet import error as connecting
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.client import RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IResponse

from weedtw.client.answers import error_text
from weedtw.client.bodies import FormBody
from weedtw.client.receiver import BodyReceiver, Hangup, Write
from weedtw.errors import AnswerTooLarge, PeerError, Unavailable, Unreachable, WeedError
from weedtw.http.deadline import Deadline

USER_AGENT: Final = "weedtw-client"
SMALL_ANSWER: Final = 64 * 1024 * 1024  # bytes; a `/dir/status` of a large cluster has to fit, a runaway does not
_ERROR_BODY: Final = 64 * 1024  # bytes
_LONGEST_ERROR: Final = 400  # characters of a server's own words that are worth repeating

# What an agent raises when a request fails on its way: not made, not sent, or not answered.
_ON_THE_WAY: Final = (
    connecting.ConnectError,
    connecting.ConnectingCancelledError,
    connecting.ConnectionClosed,
    connecting.DNSLookupError,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
)


@attrs.frozen(eq=False)
class Reply:
    """The head of an answer; its body has to be taken once, by `stream`, `body`, `json`, or `discard`."""

    address: str
    method: str  # of the request
    response: IResponse
    clock: IReactorTime
    idle: float  # seconds without a byte after which the body is given up

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.response.code)

    @property
    def length(self) -> int | None:
        """Length of the content in bytes as announced, None when it was not.

        Twisted keeps the header of a HEAD's answer, which has no body, and takes it away from the others.
        """
        header = self.header("Content-Length")
        if header:
            return int(header) if header.isascii() and header.isdecimal() else None
        if self.response.length is UNKNOWN_LENGTH or self.method == "HEAD":
            return None
        return int(self.response.length)

    def header(self, name: str) -> str:
        """The last header of that name, as text; "" when there is none."""
        values = self.response.headers.getRawHeaders(name.encode("ascii"), [])
        return values[-1].decode("utf-8", "replace") if values else ""

    async def stream(self, write: Write) -> int:
        """Give the body to `write`, piece by piece, and return its length in bytes.

        While an awaitable that `write` returned is pending, nothing more is read from the connection.  Raises
        PeerError when the body ends too soon or stalls, and whatever `write` raises; the connection is closed then.
        """
        receiver = BodyReceiver(self.address, write, self.idle, self.clock)
        self.response.deliverBody(receiver)
        return await receiver.finished

    async def body(self, limit: int) -> bytes:
        """Return the whole body; raises AnswerTooLarge beyond `limit` bytes, and as `stream` does."""
        if self.length is not None and self.length > limit:
            self.discard()
            raise AnswerTooLarge(limit, self.length)
        pieces: list[bytes] = []
        received = 0

        def keep(piece: bytes) -> None:
            nonlocal received
            received += len(piece)
            if received > limit:
                raise AnswerTooLarge(limit)
            pieces.append(piece)

        await self.stream(keep)
        return b"".join(pieces)

    async def json(self, limit: int = SMALL_ANSWER) -> Any:
        """Return the body as JSON, None when it is empty or no JSON; raises as `body` does."""
        text = await self.body(limit)
        try:
            return json.loads(text) if text else None
        except ValueError:
            return None

    def discard(self) -> None:
        """Drop the body and the connection with it."""
        self.response.deliverBody(Hangup())

    async def error(self) -> WeedError:
        """Return what this answer of 400 and above means: Unavailable for a 503, else PeerError with the status."""
        phrase = self.response.phrase.decode("ascii", "replace")
        try:
            said = error_text(await self.json(_ERROR_BODY))
        except (PeerError, AnswerTooLarge):
            said = ""  # the status alone has to do
        said = said or f"{self.status} {phrase}".strip()
        said = " ".join(said.split())[:_LONGEST_ERROR]
        if self.status == 503:
            return Unavailable(f"{self.address}: {said}", _retry_after(self.header("Retry-After")))
        return PeerError(self.address, said, self.status)


@attrs.frozen(eq=False)
class Wire:
    """Sends requests; `answer` and `idle` bound in seconds the wait for an answer and for the next byte."""

    agent: IAgent
    clock: IReactorTime
    answer: float
    idle: float

    async def exchange(
        self,
        method: str,
        address: str,
        path: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: FormBody | None = None,
        within: float | None = None,
    ) -> Reply:
        """Return the answer's head, whatever its status; entries of `query` that are empty are left out.

        The wait for it, of `within` seconds where that is not `answer`, begins again with every piece of `body`
        that is sent.  Raises Unreachable when no connection could be made, PeerError (status None) when no answer
        came, and StorageError when `body` could not be read.
        """
        filled = {name: value for name, value in (query or {}).items() if value}
        url = f"http://{address}{path}" + (f"?{urlencode(filled)}" if filled else "")
        sent = Headers({"User-Agent": [USER_AGENT], "Accept-Encoding": ["identity"]})
        for name, value in (headers or {}).items():
            sent.setRawHeaders(name, [value])
        wait = within or self.answer
        expired = False

        def give_up() -> None:
            nonlocal expired
            expired = True
            requested.cancel()

        deadline = Deadline(self.clock, give_up)
        if body is not None:
            sent.setRawHeaders("Content-Type", [body.content_type])
            body.alive = lambda: deadline.set(wait)
        requested = self.agent.request(method.encode("ascii"), url.encode("ascii"), sent, body)
        deadline.set(wait)
        try:
            response = await requested
        except (CancelledError, *_ON_THE_WAY) as error:
            if expired:
                kind = Unreachable if isinstance(error, connecting.ConnectingCancelledError) else PeerError
                raise kind(address, f"no answer within {wait:g} s") from error
            if _cancelled(error):
                raise CancelledError from error
            raise _described(address, error) from error
        finally:
            deadline.drop()
        return Reply(address, method, response, self.clock, self.idle)

    async def json(
        self, address: str, path: str, query: Mapping[str, str] | None = None, within: float | None = None
    ) -> Any:
        """GET a JSON answer; raises PeerError, Unavailable for a 503, and as `exchange` does.

        `within` is the wait for the answer in seconds, where it is not the usual one.
        """
        reply = await self.exchange("GET", address, path, query, within=within)
        if reply.status >= 300:
            raise await reply.error()
        return await reply.json()


def _reasons(error: BaseException) -> list[BaseException]:
    """The exceptions that an agent's own ones wrap."""
    wrapped = [reason.value for reason in getattr(error, "reasons", None) or () if isinstance(reason, Failure)]
    return [reason for reason in wrapped if reason is not None]


def _cancelled(error: BaseException) -> bool:
    """Whether our caller lost interest, as opposed to something having gone wrong."""
    kinds = (CancelledError, connecting.ConnectingCancelledError)
    return isinstance(error, kinds) or any(isinstance(reason, kinds) for reason in _reasons(error))


def _described(address: str, error: BaseException) -> WeedError:
    """Say in our words why no answer came."""
    for reason in _reasons(error):
        if isinstance(reason, WeedError):
            return reason  # the body's own trouble, such as a file that cannot be read
    if isinstance(error, connecting.ConnectionRefusedError):
        return Unreachable(address, "refuses connections; is it running there?")
    if isinstance(error, connecting.DNSLookupError):
        return Unreachable(address, "there is no host of that name")
    if isinstance(error, connecting.ConnectError):
        return Unreachable(address, "cannot be reached: " + " ".join(str(error).split()).rstrip("."))
    return PeerError(address, "closed the connection instead of answering")


def _retry_after(text: str) -> float:
    """Seconds of a Retry-After header; a second when it gives none (or a date, which our servers never send)."""
    return float(text) if text.isascii() and text.isdecimal() else 1.0


def passes(error: WeedError) -> bool:
    """Whether the same question may be answered a little later: nobody answered, or it said that it cannot now."""
    if isinstance(error, PeerError):
        return error.status in {None, 502, 504}
    return isinstance(error, Unavailable)


def hint(errors: Iterable[WeedError]) -> float:
    """The shortest wait, in seconds, that servers asked for; 0 when none did."""
    return min((error.retry_after for error in errors if isinstance(error, Unavailable)), default=0.0)
