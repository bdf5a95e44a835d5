"""How an agent connects: a refusal is known at once, and whoever gives up is believed.

Twisted's endpoint for names, which agents use for addresses too, reports a refusal a third of a second late, when it
has made sure that there is no further address to try.  And when it is cancelled while the name is looked up, it says
that there is no such name; whoever tries again then goes on after he was told to stop.
"""

from typing import Any

import attrs
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from weedtw.config.security import NO_SECURITY, SecurityConfig
from weedtw.http.ways import connector
from weedtw.raft.dial import Connect


@implementer(IAgentEndpointFactory)
class Dialling:
    """Makes the endpoints of an agent for `http:`; `timeout` in seconds."""

    def __init__(self, reactor: Any, timeout: float, security: SecurityConfig = NO_SECURITY) -> None:
        """Connections are made by `reactor`."""
        self._connect: Connect = connector(reactor, security, timeout)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """The server that a URL names; raises BadRequest for what is no `host:port`."""
        return Cancellable(self._connect(uri.netloc.decode("ascii")), uri)


@implementer(IStreamClientEndpoint)
@attrs.frozen(eq=False)
class Cancellable:
    """An endpoint that fails with ConnectingCancelledError whenever it was cancelled."""

    endpoint: IStreamClientEndpoint
    uri: URI

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect, or fail as the endpoint does."""
        attempt = self.endpoint.connect(protocolFactory)
        is_given_up = False

        def give_up(_: Deferred[IProtocol]) -> None:
            nonlocal is_given_up
            is_given_up = True
            attempt.cancel()

        def failed(failure: Failure) -> Failure:
            if is_given_up:
                return Failure(ConnectingCancelledError(HostnameAddress(self.uri.host, self.uri.port)))
            return failure

        connected: Deferred[IProtocol] = Deferred(give_up)
        attempt.addErrback(failed)
        attempt.chainDeferred(connected)
        return connected
