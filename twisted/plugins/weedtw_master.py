"""Lets `twist` find weed-master without importing any of it."""

from twisted.application.service import ServiceMaker

weed_master = ServiceMaker(  # type: ignore[no-untyped-call]
    "weedtw master",
    "weedtw.cli.tap_master",
    "the master of weedtw, an object store compatible with SeaweedFS",
    "weed-master",
)
