"""The endpoints of a class, told to Klein when the first request for one of them comes.

    class Api:
        app = Routes()

        @app.route("/dir/status", methods=["GET"])
        @endpoint
        async def dir_status(self, request: Request) -> bytes: …

    site.resource = Api().app.resource()

Written like Klein's own `app.route`.  Klein and werkzeug take a tenth of a second of processor time to import; a
daemon that starts has better things to do: those that wait for it ask on the hot path.  `Warmth` imports them a
little later in a thread, so that consensus need not stand still when the first request for Klein comes.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import attrs
from twisted.internet.interfaces import IDelayedCall
from twisted.web.resource import Resource

from weedtw.http.requests import Request
from weedtw.http.responses import json_errors

if TYPE_CHECKING:
    from klein import Klein
    from klein.resource import KleinResource
    from werkzeug.routing import BaseConverter, Map

LATER = 3.0  # seconds from the start of a daemon until it imports what it has not needed yet

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


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
        return self if instance is None else Bound(self.klein, instance)

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
    instance: object

    def resource(self) -> Resource:
        """What a site serves."""
        return _Endpoints(self)


class _Endpoints(Resource):
    isLeaf = True

    def __init__(self, bound: Bound) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._bound = bound
        self._klein: KleinResource | None = None

    def render(self, request: Request) -> Any:
        """Let Klein answer."""
        if self._klein is None:
            instance = self._bound.instance
            klein = self._bound.klein()
            self._klein = klein.__get__(instance, type(instance)).resource()
        return self._klein.render(request)


def _converter(pattern: str) -> "type[BaseConverter]":
    from werkzeug.routing import BaseConverter  # noqa: PLC0415 - comes with Klein

    return type("Pattern", (BaseConverter,), {"part_isolating": False, "regex": pattern})


def _without_head(app: "Klein", path: str) -> None:
    """Take HEAD, which routing lets in wherever GET is, from a path that changes something."""
    for rule in app.url_map.iter_rules():
        if rule.rule == path and rule.methods is not None and "GET" in rule.methods:
            rule.methods.discard("HEAD")


class Warmth:
    """Imports in a thread, a while after the start, what the first request for Klein would have to wait for."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
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
        self._reactor.callInThread(importlib.import_module, "klein")
