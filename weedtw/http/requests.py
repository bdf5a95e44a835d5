"""One request: what Klein gets, how its body is held, and how its parameters are read.

`query(request)` reads the parameters of the URL.  `params(request)` adds those of a form in the body, for endpoints
that take no files: a file's body is never taken for a form.
"""

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

import attrs
from twisted.internet import address
from twisted.internet.interfaces import IProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server

from weedtw import __version__
from weedtw.errors import BadMessage, BadRequest, PathNotFound, WeedError
from weedtw.http.multipart import form_fields
from weedtw.http.spool import Spool

if TYPE_CHECKING:
    from weedtw.http.http11 import HttpChannel

SERVER = f"weedtw/{__version__}".encode()
FORM_LIMIT = 64 * 1024  # bytes of a form with parameters
FIELD_LIMIT = 200  # parameters in a query or form


class Request(server.Request):
    """A request whose body has come in whole and lies in `content`; made by the channel."""

    log = Logger()
    defaultContentType = None  # an answer without a type says nothing about its type
    channel: "HttpChannel"
    content: Spool
    is_gone = False  # the client has closed, or the answer was cut off: nothing can be sent any more
    began = 0.0  # on the reactor's clock
    _announced: int | None = None  # Content-Length of the answer, once its head is out
    _given = 0  # bytes of body handed to write()

    @property
    def body(self) -> memoryview:
        """The whole body, contiguous and read-only."""
        return self.content.view()

    @property
    def client_host(self) -> str:
        """The address of the peer, "" when it has none."""
        peer = self.client
        return peer.host if isinstance(peer, address.IPv4Address | address.IPv6Address) else ""

    def header(self, name: str) -> str | None:
        """The value of a header, repeated ones joined by commas; None when it was not sent."""
        values = self.requestHeaders.getRawHeaders(name.encode("latin-1"))
        return b", ".join(values).decode("utf-8", "replace") if values else None

    def set_line(self, method: bytes, target: bytes, version: bytes) -> None:
        """Called by the channel with the request line, before the body is there."""
        self.method, self.uri, self.clientproto = method, target, version
        self.path = target.partition(b"?")[0]
        self.args = {}  # see params() and query()

    def discard(self) -> None:
        """Called by the channel for a request that is refused before it is answered."""
        self.is_gone = True
        if self.content is not None:  # a refusal may come before there is one
            self.content.close()

    def setHeader(self, name: str | bytes, value: str | bytes) -> None:
        """Set a header of the answer; CR and LF in the value become spaces."""
        self.responseHeaders.setRawHeaders(name, [value])

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Let a push producer (`streaming`) follow what the client takes; stop it at once when that has gone."""
        if self.is_gone:
            producer.stopProducing()
            return
        super().registerProducer(producer, streaming)  # type: ignore[no-untyped-call]

    def unregisterProducer(self) -> None:
        """The producer has no more."""
        if self.is_gone:
            return
        super().unregisterProducer()  # type: ignore[no-untyped-call]

    def process(self) -> None:
        """Find the resource and let it answer."""
        self.site = self.channel.site
        self.began = self.site.reactor.seconds()
        self.setHeader(b"Server", SERVER)
        self.setHeader(b"Date", self.channel.site.date())
        if self.path == b"*":  # OPTIONS of the server as a whole; no other method gets here
            self.setResponseCode(204)
            self.finish()
            return
        try:
            self.prepath = []
            self.postpath = _segments(self.path)
            self.render(self.site.getResourceFor(self))  # type: ignore[no-untyped-call]
        except WeedError as error:
            self._answer(error)
        except Exception as error:  # noqa: BLE001 - what a resource does wrong fails its own request only
            self._answer(error)

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer 500 without telling the client what went wrong inside."""
        self._answer(reason.value or RuntimeError("no reason given"))
        return reason

    def getRequestHostname(self) -> bytes:
        """A constant: nothing here depends on the Host that a client claims."""
        return b"localhost"

    def write(self, data: bytes | memoryview) -> None:
        """Send a part of the body; more than was announced is a fault and cuts the connection.

        A view may be used for something else as soon as this returns.
        """
        if self.is_gone:
            return
        self._given += len(data)
        if not self.startedWriting:
            if self.code == 204:
                self.responseHeaders.removeHeader(b"Content-Length")  # RFC 9110 §8.6
            lengths = self.responseHeaders.getRawHeaders(b"Content-Length")
            has_body = self.method != b"HEAD" and self.code != 304
            self._announced = int(lengths[0]) if lengths and has_body else None
        if self._announced is not None and self._given > self._announced:
            self._cut_for_length()
            return
        if self._announced is None:
            data = bytes(data)  # Twisted frames it
        super().write(data)  # type: ignore[no-untyped-call]

    def write_some(self, data: bytes | memoryview) -> int:
        """As `write`, but only as much as the client takes now; how many bytes that were.

        If that is not all the producer was paused: the rest is to be given again when it is resumed.
        """
        if not self.startedWriting or self._announced is None or self._given + len(data) > self._announced:
            self.write(data)
            return len(data)
        if self.is_gone:
            return len(data)
        sent: int = self.channel.write_some(data)
        self._given += sent
        return sent

    def finish(self) -> None:
        """End the answer; a body shorter than announced cuts the connection, so that the client can tell."""
        if self.is_gone:
            return
        if not self.startedWriting:
            self.write(b"")
        if self._announced is not None and self._given < self._announced:
            self._cut_for_length()
            return
        super().finish()  # type: ignore[no-untyped-call]

    def abort(self) -> None:
        """Cut the connection at once: the only way left to say that a body under way is not whole."""
        if not self.is_gone:
            self.is_gone = True
            self.channel.abort()

    def break_off(self, error: WeedError) -> None:
        """End an answer that cannot be finished, so that the client gets what was made of it, and no more.

        It sees from the length that this is not the whole; where none was announced the connection is cut.
        """
        if self.is_gone:
            return
        self.log.warn(
            "{method} {uri} is broken off after {given} bytes: {reason}",
            method=self.method,
            uri=self.uri,
            given=self._given,
            reason=str(error),
        )
        if self._announced is None or self._given >= self._announced:
            self.abort()
        else:
            self.is_gone = True
            self.channel.break_off()

    def connectionLost(self, reason: Failure) -> None:
        """The client has gone; whoever waits on `notifyFinish` is told."""
        self.is_gone = True
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def _cut_for_length(self) -> None:
        self.log.error(
            "{method} {uri} announced {announced} bytes and gave {given}: connection cut",
            method=self.method,
            uri=self.uri,
            announced=self._announced,
            given=self._given,
        )
        self.abort()

    def _answer(self, error: BaseException) -> None:
        from weedtw.http.responses import error_response  # noqa: PLC0415 - it needs this class

        if self.is_gone or self.startedWriting:
            self.abort()
            return
        self.write(error_response(self, error))
        self.finish()


def _segments(path: bytes) -> list[bytes]:
    """The percent-decoded parts of a path; raises BadRequest unless they are UTF-8, PathNotFound for `//…`."""
    if path.startswith(b"//"):
        raise PathNotFound(path.decode("utf-8", "replace"))
    parts = [unquote_to_bytes(part) for part in path[1:].split(b"/")]
    try:
        b"".join(parts).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("the path is not UTF-8") from error
    return parts


# ------------------------------------------------------------------ parameters

_URL_ENCODED = "application/x-www-form-urlencoded"
_FORMS = frozenset({_URL_ENCODED, "multipart/form-data"})
_TRUE = frozenset({"true", "1", "yes", "y", "on", "t"})
_FALSE = frozenset({"false", "0", "no", "n", "off", "f", ""})


@attrs.frozen
class Params:
    """Parameters by name; of a name that is repeated the first counts.  Getters raise BadRequest naming it."""

    values: dict[str, str]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str, default: str = "") -> str:
        """The parameter as it is."""
        return self.values.get(name, default)

    def required(self, name: str) -> str:
        """The parameter, which must be there and not empty."""
        value = self.values.get(name, "")
        if not value:
            raise BadRequest(f"the parameter {name} is missing")
        return value

    def integer(self, name: str, default: int, *, least: int = 0, most: int = 2**63 - 1) -> int:
        """A decimal number within [least, most]; the default, whatever it is, when missing or empty."""
        text = self.values.get(name, "")
        return self._integer(name, text, least, most) if text else default

    def required_integer(self, name: str, *, least: int = 0, most: int = 2**63 - 1) -> int:
        """A decimal number within [least, most] that must be there."""
        return self._integer(name, self.required(name), least, most)

    def number(self, name: str, default: float, *, least: float = 0.0, most: float = float("inf")) -> float:
        """A number that may have a fraction, within [least, most]; the default when missing or empty."""
        text = self.values.get(name, "")
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            raise BadRequest(f"{name}={text[:40]!r} is not a number") from None
        if not least <= value <= most:
            raise BadRequest(f"{name}={text[:40]!r} is not within {least:g} and {most:g}")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false, in any of the usual spellings; present and empty is false."""
        text = self.values.get(name)
        if text is None:
            return default
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise BadRequest(f"{name}={text[:40]!r} is neither true nor false")

    def _integer(self, name: str, text: str, least: int, most: int) -> int:
        digits = text[1:] if text.startswith("-") else text
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
            raise BadRequest(f"{name}={text[:40]!r} is not a whole number")
        value = int(text)
        if not least <= value <= most:
            raise BadRequest(f"{name}={text} is not within {least} and {most}")
        return value


def parse_params(*encoded: str) -> Params:
    """Parameters of `a=b&c=d` texts; those of an earlier text win.  Raises BadRequest."""
    values: dict[str, str] = {}
    for text in encoded:
        try:
            pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FIELD_LIMIT)
        except UnicodeDecodeError:
            raise BadRequest("the parameters are not UTF-8") from None
        except ValueError:
            raise BadRequest(f"more than {FIELD_LIMIT} parameters") from None
        for name, value in pairs:
            values.setdefault(name, value)
    return Params(values)


def query(request: Request) -> Params:
    """The parameters of the URL alone."""
    return parse_params(_text(request.uri.partition(b"?")[2]))


def params(request: Request) -> Params:
    """The parameters of the URL and of a form in the body.  For endpoints that take no files.

    As with SeaweedFS, an url-encoded form wins over the URL, and the URL over multipart/form-data.
    """
    in_url = _text(request.uri.partition(b"?")[2])
    content_type = request.header("Content-Type") or ""
    kind = content_type.partition(";")[0].strip().lower()
    size = request.content.size
    if kind not in _FORMS or not size:
        return parse_params(in_url)
    if size > FORM_LIMIT:
        raise BadMessage(f"a form of {size} bytes is over the limit of {FORM_LIMIT}", 413)
    if kind == _URL_ENCODED:
        return parse_params(_text(bytes(request.body)), in_url)
    fields = form_fields(request.body, content_type)
    if len(fields) > FIELD_LIMIT:
        raise BadRequest(f"more than {FIELD_LIMIT} parameters")
    return Params(dict(reversed(fields)) | parse_params(in_url).values)  # reversed: the first of each name counts


def _text(encoded: bytes) -> str:
    try:
        return encoded.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest("the parameters are not UTF-8") from None
