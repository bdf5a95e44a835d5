"""`twist weed-server`: master and volume server in one process as a Twisted plugin."""

from twisted.application.service import IService

from weedtw.cli.plugin import DaemonOptions
from weedtw.cli.services import make_daemon


class Options(DaemonOptions):
    """The options after `twist weed-server`."""

    program = "server"


def makeService(options: Options) -> IService:
    """The service that `twist` runs."""
    from twisted.internet import reactor

    return make_daemon("weed-server", options.loaded, reactor)
