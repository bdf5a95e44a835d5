"""The endpoints of a class, told to Klein when the first request for one of them comes.

    class Api:
        app = Routes()

        @app.route("/dir/status", methods=["GET"])
        @endpoint
        async def dir_status(self, request: Request) -> bytes: …

    site.resource = Api().app.resource()

Written like Klein's own `app.route`.  Klein and werkzeug take more than a tenth of a second of processor time to
import, and those who wait for a cluster's first file id would wait for that on every server of it.  So `Warmth`
imports them a little later, in a thread; until then what stands in no need of a pattern is answered without, by the
same coroutines.
"""

import functools
import importlib
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from weedtw.http.requests import Request
from weedtw.http.responses import json_errors

if TYPE_CHECKING:
    from klein import Klein
    from klein.resource import KleinResource
    from werkzeug.routing import BaseConverter, Map

LATER = 3.0  # seconds from the start of a daemon until it imports what it has not needed yet

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])
_Answer = Callable[[Request], Coroutine[Deferred[Any], Any, bytes | None]]
_imported = threading.Event()  # Klein, as a whole


@attrs.frozen
class Rule:
    """One declared path: its methods (None: all), and whether what lies below belongs to it."""

    path: str
    name: str
    answer: Callable[..., Any] = attrs.field(repr=False)
    methods: frozenset[str] | None
    branch: bool


class Routes:
    """What the paths of one class lead to.  `patterns`: regular expressions, by the names that paths know them by."""

    def __init__(self, patterns: Mapping[str, str] | None = None) -> None:
        self._patterns = dict(patterns or {})
        self._rules: list[Rule] = []
        self._klein: Klein | None = None

    def route(
        self, path: str, *, methods: Sequence[str] | None = None, branch: bool = False, head: bool = True
    ) -> Callable[[_Endpoint], _Endpoint]:
        """Declare what answers `path`, a rule as werkzeug has them; GET includes HEAD unless `head` is False."""
        allowed = frozenset(methods) if methods is not None else None
        if allowed is not None and head and "GET" in allowed:
            allowed |= {"HEAD"}

        def declare(answer: _Endpoint) -> _Endpoint:
            self._rules.append(Rule(path, answer.__name__, answer, allowed, branch))
            return answer

        return declare

    def __iter__(self) -> Iterator[Rule]:
        """What was declared, in that order."""
        return iter(self._rules)

    @overload
    def __get__(self, instance: None, owner: type) -> "Routes": ...

    @overload
    def __get__(self, instance: object, owner: type) -> "Bound": ...

    def __get__(self, instance: object | None, owner: type) -> "Routes | Bound":
        """Of an instance: what serves its endpoints."""
        return self if instance is None else Bound(self.klein, tuple(self._rules), instance)

    @property
    def url_map(self) -> "Map":
        """The rules as werkzeug has them."""
        return self.klein().url_map

    def klein(self) -> "Klein":
        """The application."""
        if self._klein is None:
            self._klein = self._made()
        return self._klein

    def _made(self) -> "Klein":
        from klein import Klein  # noqa: PLC0415 - when it is needed; see above

        _imported.set()
        app = Klein()
        for name, pattern in self._patterns.items():
            app.url_map.converters[name] = _converter(pattern)
        json_errors(app)
        for rule in self._rules:
            app.route(rule.path, methods=rule.methods, branch=rule.branch)(rule.answer)
            if rule.methods is not None and "HEAD" not in rule.methods:
                _without_head(app, rule.path)
        return app


@attrs.frozen
class Bound:
    """The endpoints of one instance."""

    klein: Callable[[], "Klein"]
    rules: tuple[Rule, ...]
    instance: object

    def resource(self) -> Resource:
        """What a site serves."""
        return _Endpoints(self)

    def find(self, path: str, method: str) -> _Answer | None:
        """What answers exactly that path; None when only Klein can tell."""
        for rule in self.rules:
            if rule.branch and path.startswith(rule.path):
                below = rule.answer(self.instance, None)
                return below.bound.find(path[len(rule.path) - 1 :], method) if isinstance(below, _Endpoints) else None
            if rule.path == path and not rule.branch and (rule.methods is None or method in rule.methods):
                return functools.partial(rule.answer, self.instance)
        return None


class _Endpoints(Resource):
    isLeaf = True

    def __init__(self, bound: Bound) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bound = bound
        self._klein: KleinResource | None = None

    def render(self, request: Request) -> Any:
        """Let Klein answer, or while that is not there what Klein would ask."""
        if self._klein is None:
            if not _imported.is_set():
                answer = self.bound.find(request.path.decode("latin-1"), request.method.decode("latin-1"))
                if answer is not None:
                    _run(answer, request)
                    return NOT_DONE_YET
            instance = self.bound.instance
            self._klein = self.bound.klein().__get__(instance, type(instance)).resource()
        return self._klein.render(request)


def _run(answer: _Answer, request: Request) -> None:
    """Answer a request as Klein does: a client that goes away cancels, and what came back is the body."""
    ended: list[object] = []
    request.notifyFinish().addBoth(ended.append)

    def answered(body: bytes | None) -> None:
        if body is not None:
            request.write(body)
        if not ended:
            request.finish()

    def failed(failure: Failure) -> None:
        if not ended:
            request.processingFailed(failure)
        elif failure.check(CancelledError) is None:
            request.log.failure("after {uri} was given up", failure, uri=request.uri)

    running = Deferred.fromCoroutine(answer(request))
    request.notifyFinish().addErrback(lambda _: running.cancel())
    running.addCallbacks(answered, failed)


def _converter(pattern: str) -> "type[BaseConverter]":
    from werkzeug.routing import BaseConverter  # noqa: PLC0415 - comes with Klein

    return type("Pattern", (BaseConverter,), {"part_isolating": False, "regex": pattern})


def _without_head(app: "Klein", path: str) -> None:
    """Take HEAD, which routing lets in wherever GET is, from a path that changes something."""
    for rule in app.url_map.iter_rules():
        if rule.rule == path and rule.methods is not None and "GET" in rule.methods:
            rule.methods.discard("HEAD")


class Warmth:
    """Imports in a thread, a while after the start, what would have to be waited for: Klein, and `more`."""

    def __init__(self, reactor: Any, *more: str) -> None:
        self._reactor = reactor
        self._more = more
        self._waiting: IDelayedCall | None = None

    def start(self) -> None:
        """Import later."""
        self._waiting = self._reactor.callLater(LATER, self._load)

    def stop(self) -> None:
        """Not any more."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()

    def _load(self) -> None:
        self._waiting = None
        self._reactor.callInThread(_import, self._more)


def _import(more: Sequence[str]) -> None:
    importlib.import_module("klein")
    _imported.set()
    for name in more:
        importlib.import_module(name)
