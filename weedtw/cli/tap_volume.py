"""`twist weed-volume`: the volume server as a Twisted plugin."""

from twisted.application.service import IService

from weedtw.cli.plugin import DaemonOptions
from weedtw.cli.services import make_daemon


class Options(DaemonOptions):
    """The options after `twist weed-volume`."""

    program = "volume"


def makeService(options: Options) -> IService:
    """The service that `twist` runs."""
    from twisted.internet import reactor

    return make_daemon("weed-volume", options.loaded, reactor)
