"""Lets `twist` find weed-master without importing any of it."""

from twisted.application.service import ServiceMaker

weed_master = ServiceMaker(
    "weedtw master",
    "weedtw.cli.tap_master",
    "weedtw's master: where the volumes are, and ids for new files",
    "weed-master",
)
