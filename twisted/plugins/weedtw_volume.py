"""Lets `twist` find weed-volume without importing any of it."""

from twisted.application.service import ServiceMaker

weed_volume = ServiceMaker(  # type: ignore[no-untyped-call]
    "weedtw volume",
    "weedtw.cli.tap_volume",
    "the volume server of weedtw, an object store compatible with SeaweedFS",
    "weed-volume",
)
