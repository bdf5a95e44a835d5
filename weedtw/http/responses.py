"""What both daemons answer: JSON, pages, and the one table from error to status.

An endpoint is a coroutine under `endpoint`; what it returns is the body:

    @app.route("/dir/status", methods=["GET"])
    @endpoint
    async def dir_status(self, request: Request) -> bytes:
        return json_response(request, {"Version": PRODUCT})

Whatever it raises becomes a JSON body `{"error": …}` with the status from `STATUS`.
"""

import functools
import html
import json
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from weedtw import errors
from weedtw.http.requests import Request, query

if TYPE_CHECKING:
    from klein import Klein
    from klein._app import KleinErrorFunction

_log = Logger()

# The one table: the most derived class listed decides.  413 would say TooLarge better, but clients of
# SeaweedFS know a file over the limit as a 400.
STATUS: dict[type[BaseException], int] = {
    errors.BadRequest: 400,
    errors.TooLarge: 400,
    errors.CookieMismatch: 400,
    errors.CollectionNotFound: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.ForeignOrigin: 403,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.NoRoom: 406,
    errors.ReadOnlyVolume: 409,
    errors.VolumeExists: 409,
    errors.NotEmpty: 409,
    errors.ChangeRefused: 409,  # whether it may be possible later stands in its reason
    errors.Locked: 423,
    errors.PreconditionFailed: 412,
    errors.RangeNotSatisfiable: 416,
    errors.StorageError: 500,
    errors.ReplicationFailed: 500,
    errors.WeedError: 500,
    errors.PeerError: 502,
    errors.Unavailable: 503,
    errors.NotLeader: 503,
    errors.TooBusy: 503,
    errors.MaybeCommitted: 503,
    errors.VolumeFull: 507,
}

_PAGE_POLICY = b"default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"

_OF_A_FILE = frozenset({b"Accept-Ranges", b"Cache-Control", b"ETag", b"Expires", b"Last-Modified", b"Location"})

_Self = TypeVar("_Self")
_Arguments = ParamSpec("_Arguments")


def status_of(error: BaseException) -> int:
    """The HTTP status that answers this error; 500 for what is not a WeedError."""
    if isinstance(error, errors.BadMessage):
        return error.status
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def error_value(error: BaseException) -> dict[str, Any]:
    """The JSON object that tells a client of this error; what was not foreseen stays inside."""
    known = isinstance(error, errors.WeedError)
    return {"error": str(error) if known else "internal error; the server's log has the particulars"}


def error_headers(error: BaseException) -> list[tuple[bytes, bytes]]:
    """The headers that belong to this error: Retry-After, Allow, Content-Range."""
    if isinstance(error, errors.Unavailable):
        return [(b"Retry-After", b"%d" % max(1, math.ceil(error.retry_after)))]
    if isinstance(error, errors.NotLeader | errors.TooBusy | errors.MaybeCommitted):
        return [(b"Retry-After", b"1")]
    if isinstance(error, errors.MethodNotAllowed):
        return [(b"Allow", ", ".join(error.allowed).encode("latin-1", "replace"))]
    if isinstance(error, errors.Unauthorized):
        return [(b"WWW-Authenticate", b"Bearer")]
    if isinstance(error, errors.RangeNotSatisfiable):
        return [(b"Content-Range", b"bytes */%d" % error.size)]
    return []


def render_json(value: object, *, pretty: bool = False) -> bytes:
    """UTF-8 JSON on one line, or with `pretty` indented and ended by a newline.

    Raises TypeError or ValueError for what JSON cannot say (bytes, NaN): a fault of the caller.
    """
    if pretty:
        return json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False).encode() + b"\n"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def body_response(request: Request, body: bytes, content_type: str, status: int = 200) -> bytes:
    """Set status, type and length for a whole body, and return it; browsers must not guess its type."""
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", content_type.encode("latin-1", "replace"))
    request.setHeader(b"Content-Length", b"%d" % len(body))
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    return body


def json_response(request: Request, value: object, status: int = 200) -> bytes:
    """Answer `value` as JSON, indented when the query says `pretty=y`; return the body."""
    body = render_json(value, pretty=wants_pretty(request))
    if not request.responseHeaders.hasHeader(b"Cache-Control"):
        request.setHeader(b"Cache-Control", b"no-store")  # an assign must never come from a cache
    return body_response(request, body, "application/json", status)


def html_response(request: Request, page: str | bytes, status: int = 200, *, policy: bytes = _PAGE_POLICY) -> bytes:
    """Answer a page; it may load nothing from elsewhere, and run no script unless `policy` lets it."""
    request.setHeader(b"Content-Security-Policy", policy)
    request.setHeader(b"Referrer-Policy", b"no-referrer")
    body = page.encode() if isinstance(page, str) else page
    return body_response(request, body, "text/html; charset=utf-8", status)


def empty_response(request: Request, status: int = 204) -> bytes:
    """Answer a status without a body (204 for a done deed, 200 for a health check)."""
    request.setResponseCode(status)
    if status != 204:  # which has no length at all
        request.setHeader(b"Content-Length", b"0")
    return b""


def redirect_response(request: Request, location: str, status: int = 308) -> bytes:
    """Send the client to `location`, which must be percent-encoded already."""
    request.setHeader(b"Location", location.encode("ascii", "replace"))
    page = f'<html><body><a href="{html.escape(location)}">moved</a></body></html>\n'
    return html_response(request, page, status)


def error_response(request: Request, error: BaseException) -> bytes:
    """Answer an error as JSON with the status from the table; log it when it was not foreseen."""
    if not isinstance(error, errors.WeedError):
        _log.failure("answering {method} {uri}", _failure(error), method=request.method, uri=request.uri)
    for name in [name for name, _ in request.responseHeaders.getAllRawHeaders()]:
        if name.startswith(b"Content-") or name in _OF_A_FILE:
            request.responseHeaders.removeHeader(name)  # it spoke of the body that is not coming
    for name, value in error_headers(error):
        request.setHeader(name, value)
    return json_response(request, error_value(error), status_of(error))


def _failure(error: BaseException) -> Failure:
    return Failure(error)


def wants_pretty(request: Request) -> bool:
    """Whether the query asks for JSON that people can read; a query that cannot be read asks for nothing."""
    if b"pretty" not in request.uri:
        return False
    try:
        return bool(query(request).text("pretty"))
    except errors.BadRequest:
        return False


def endpoint(
    method: Callable[Concatenate[_Self, Request, _Arguments], Awaitable[bytes | None]],
) -> Callable[Concatenate[_Self, Request, _Arguments], Coroutine[Any, Any, bytes | None]]:
    """Make a coroutine method an endpoint: whatever it raises becomes an answer.

    The method returns the whole body (`json_response` and its siblings made it), or None when it has written
    everything itself; the request is finished for it.  A client that goes away cancels it: what it awaits gets
    CancelledError (see `uninterrupted`).  An error after the first byte of the answer cuts the connection, since
    nothing else tells the client that the body is not whole.
    """

    @functools.wraps(method)
    async def answer(
        self: _Self, request: Request, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> bytes | None:
        try:
            return await method(self, request, *args, **kwargs)
        except CancelledError:
            if request.is_gone:
                raise  # nobody listens
            return _late_or_json(request, errors.Unavailable("the server gave this request up; try again"))
        except Exception as error:  # noqa: BLE001 - the last line of defence; unforeseen ones are logged
            return _late_or_json(request, error)

    return cast(Callable[Concatenate[_Self, Request, _Arguments], Coroutine[Any, Any, bytes | None]], answer)


def _late_or_json(request: Request, error: Exception) -> bytes | None:
    if request.is_gone or request.startedWriting:
        if not request.is_gone or not isinstance(error, errors.WeedError):
            _log.failure("while sending {uri}", _failure(error), uri=request.uri)
        request.abort()
        return None
    return error_response(request, error)


async def uninterrupted(work: Coroutine[Deferred[Any], Any, _Self]) -> _Self:
    """Await `work`, which goes on to its end even if the awaiting request is cancelled (its client left).

    For what must not be left half done, such as a replicated write.  A failure after a cancellation is logged.
    """
    shield: Deferred[_Self] = Deferred(lambda _: None)
    abandoned = False

    def settled(result: _Self | Failure) -> None:
        if not abandoned:
            shield.callback(result)  # a Failure makes it an errback
        elif isinstance(result, Failure) and isinstance(result.value, errors.WeedError):
            _log.warn("after its client had left: {reason}", reason=str(result.value))
        elif isinstance(result, Failure):
            _log.failure("after its client had left", result)

    Deferred.fromCoroutine(work).addBoth(settled)
    try:
        return await shield
    except CancelledError:
        abandoned = True
        raise


def json_errors(app: "Klein") -> None:
    """Make a Klein application answer unknown paths and methods, and what no endpoint caught, as JSON.

    Also turns off its redirects to other spellings of a path: `//dir/status` is a path of its own here.
    """
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = True
    app.url_map.redirect_defaults = False

    def answer(*args: Any) -> bytes:
        """Called with (request, failure), after the instance when the application is bound to one."""
        request: Request = args[-2]
        error: BaseException = args[-1].value
        if request.is_gone:  # nobody listens, and an endpoint that was cancelled is no failure
            if not isinstance(error, CancelledError | errors.WeedError):
                _log.failure("after {uri} was given up", args[-1], uri=request.uri)
            return b""
        return error_response(request, _of_routing(request, error))

    app.handle_errors(Exception)(cast("KleinErrorFunction", answer))


def _of_routing(request: Request, error: BaseException) -> BaseException:
    """What werkzeug raises, in our words; other errors as they are."""
    from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound  # noqa: PLC0415 - comes with Klein, late
    from werkzeug.routing import RequestRedirect  # noqa: PLC0415

    if isinstance(error, MethodNotAllowed):
        allowed = tuple(sorted(error.valid_methods or ()))
        return errors.MethodNotAllowed(request.method.decode("ascii", "replace"), allowed)
    if isinstance(error, NotFound | RequestRedirect):  # the latter would send to a path with a slash behind it
        return errors.PathNotFound(request.path.decode("utf-8", "replace"))
    if isinstance(error, HTTPException):
        return errors.BadMessage(str(error.description), error.code or 500)
    return error
