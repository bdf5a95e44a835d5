"""Lets `twist` find weed-server without importing any of it."""

from twisted.application.service import ServiceMaker

weed_server = ServiceMaker(
    "weedtw server",
    "weedtw.cli.tap_server",
    "weedtw's master and volume server in one process",
    "weed-server",
)
