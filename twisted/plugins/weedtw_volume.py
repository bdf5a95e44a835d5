"""Lets `twist` find weed-volume without importing any of it."""

from twisted.application.service import ServiceMaker

weed_volume = ServiceMaker(
    "weedtw volume",
    "weedtw.cli.tap_volume",
    "weedtw's volume server: stores and serves the files",
    "weed-volume",
)
