"""What a running daemon tells Prometheus, and that nobody speaks of numbers that are not there."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.masters import Scratch, assign, put
from tests.cluster.processes import HOST, answers, request, wait_until

pytestmark = pytest.mark.process

ETC = Path(__file__).parent.parent.parent / "etc"
_SERIES = re.compile(r"\b(?:weedtw|process)_[a-z_]+")
_PART = re.compile(r"_(bucket|sum|count|total)$")


def scrape(address: str) -> list[Metric]:
    """Everything that is told there."""
    answer = request("GET", f"{address}/metrics")
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    return list(text_string_to_metric_families(answer.body.decode()))


def value(families: Iterable[Metric], series: str, **labels: str) -> float:
    """The sum of what fits."""
    fitting = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == series and labels.items() <= sample.labels.items()
    ]
    return sum(fitting)


def test_what_both_daemons_tell(scratch: Scratch) -> None:
    daemon = scratch.start(
        f"weedtw server -ip={HOST} -master.port=9333 -volume.port=8080 -dir=./data "
        "-metricsPort=9340 -pulseSeconds=0.2"
    )
    master, volume, extra = (f"{HOST}:{scratch.port(port)}" for port in (9333, 8080, 9340))
    wait_until(lambda: answers(f"{master}/readyz") and answers(f"{volume}/readyz"), "both are ready")
    fids = [put(assign([daemon], collection="counted"), b"x" * 100) for _ in range(4)]
    for headers in ({}, {"X-Weedtw-Path": "klein"}):  # counted alike, on the hot path and on the other one
        before = scrape(volume)
        for fid in fids:
            assert request("GET", f"{volume}/{fid}", headers=headers).status == 200
        assert request("GET", f"{volume}/{fids[0]}0", headers=headers).status == 404
        after = scrape(volume)
        for code, count in (("200", 4), ("404", 1)):
            told = [value(each, "weedtw_http_requests_total", kind="read", code=code) for each in (before, after)]
            assert told[1] - told[0] == count, (headers, code)
        times = [value(each, "weedtw_http_request_seconds_count", kind="read") for each in (before, after)]
        assert times[1] - times[0] == 5

    of_master, of_volume = scrape(master), scrape(volume)
    assert value(of_volume, "weedtw_http_requests_total", kind="write", code="201") == 4
    assert value(of_volume, "weedtw_volume_needles", collection="counted") == 4
    assert value(of_volume, "weedtw_volume_bytes", collection="counted") > 400
    assert value(of_volume, "weedtw_volume_masters_reached") == 1
    assert value(of_volume, "weedtw_http_requests_in_flight") == 1  # this scrape
    assert value(of_master, "weedtw_http_requests_total", kind="assign", code="200") == 4
    assert value(of_master, "weedtw_raft_role", role="leader") == 1
    assert value(of_master, "weedtw_raft_role") == 1
    assert value(of_master, "weedtw_raft_has_leader") == 1
    assert value(of_master, "weedtw_raft_fsyncs_total") > 0
    assert value(of_master, "weedtw_raft_apply_lag") == 0
    # A server that was not heard of for two pulses is away, and on a busy machine that happens.
    wait_until(lambda: value(scrape(master), "weedtw_volumes", collection="counted") > 0, "the volumes are told of")
    wait_until(lambda: 0 < value(scrape(master), "weedtw_heartbeat_age_seconds", server=volume) < 60, "their server")

    joined = scrape(extra)
    assert value(joined, "weedtw_raft_role", daemon="master", role="leader") == 1
    assert value(joined, "weedtw_volume_needles", daemon="volume", collection="counted") == 4
    assert request("GET", f"{extra}/dir/assign").status == 404

    exported = {_PART.sub("", family.name) for family in (*of_master, *of_volume)}
    for name in ("alerts.yml", "grafana.json"):
        spoken_of = {_PART.sub("", series) for series in _SERIES.findall((ETC / name).read_text())}
        assert len(spoken_of) > 10
        assert spoken_of - exported == set(), name
