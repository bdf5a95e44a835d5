"""The pages in a real browser: live, through the death of the leader, and never older than they seem."""

import re

import pytest

from tests.cluster.browser import Tab, browsing
from tests.cluster.masters import Scratch, assign, wait_for_leader
from tests.cluster.processes import HOST, wait_until
from tests.cluster.test_ids import three_masters

pytestmark = pytest.mark.process

LEADS = re.compile(r"(\S+:\d+) leads in term (\d+)\.")


def leads(tab: Tab) -> tuple[str, int]:
    """Who leads, and in which term, as the page says; ("", 0) for nobody."""
    found = LEADS.search(tab.text)
    return (found[1], int(found[2])) if found else ("", 0)


def age(tab: Tab) -> str:
    return str(tab.value("document.getElementById('live').textContent"))


def test_a_failover_is_seen_on_an_open_page(scratch: Scratch) -> None:
    masters = three_masters(scratch, volumes=2)
    leader = wait_for_leader(masters)
    assign(masters)
    other, watched = [master for master in masters if master is not leader]
    with browsing(scratch.folder) as browser:
        page = browser.open(f"http://{watched.address}/")
        wait_until(lambda: leads(page)[0] == leader.address, "the page says who leads")
        wait_until(lambda: "live · " in age(page), "the page is live")
        _, term = leads(page)
        page.value("window.opened = 'before'")

        leader.kill()
        wait_until(lambda: leads(page)[1] > term, "the page says who leads now")
        assert leads(page)[0] in {other.address, watched.address}
        wait_until(lambda: f"Masters that do not answer: {leader.address}." in page.text, "the dead one is missed")

        other.kill()
        wait_until(lambda: "No leader: " in page.text, "the page says that nobody leads")
        assert page.value("document.title").startswith("⚠")
        assert "1 of 3 masters can be reached" in page.text
        assert not page.value("document.body.classList.contains('stale')")  # the page is as new as ever
        numbers = watched.ask("/metrics")
        assert numbers is not None
        assert "\nweedtw_raft_has_leader 0.0\n" in numbers.body.decode()

        watched.freeze()
        wait_until(lambda: age(page).startswith("NOT LIVE"), "the page says that it is old")
        assert f"{watched.address} does not answer" in page.value("document.getElementById('stale').textContent")
        watched.thaw()
        wait_until(lambda: age(page).startswith("live"), "the page is live again")

        leader.start()
        wait_until(lambda: leads(page)[0] != "", "the page says who leads again")
        assert page.value("window.opened") == "before"  # nobody has loaded it anew
        assert browser.complaints == []
        assert {url.split("/")[2] for url in browser.asked if url.startswith("http")} == {watched.address}


def test_both_pages_on_a_phone_in_the_dark_and_without_a_script(scratch: Scratch) -> None:
    masters = three_masters(scratch, volumes=2)
    leader = wait_for_leader(masters)
    assign(masters)
    servers = [f"{HOST}:{server.port}" for server in scratch.daemons if "volume" in server.line.split()]
    assert len(servers) == 2
    with browsing(scratch.folder) as browser:
        for address, said in ((leader.address, "leads in term"), (servers[0], "In service")):
            page = browser.open(f"http://{address}/", script=False)
            wait_until(lambda page=page, said=said: said in page.text, f"{address} has a page")  # type: ignore[misc]
            wait_until(lambda page=page: re.search(r"as of \d{4}-", page.text), "it says of when it is")  # type: ignore[misc]
            assert page.value("document.querySelectorAll('table tbody tr').length") > 5
            for scheme, dark in (("light", False), ("dark", True)):
                page.prefer(scheme)
                colour = page.value("getComputedStyle(document.body).backgroundColor")
                assert (sum(map(int, re.findall(r"\d+", colour))) < 3 * 64) is dark
            page.resize(360, 740, phone=True)
            assert page.value("document.documentElement.scrollWidth") <= 360
            too_wide = "[...document.querySelectorAll('.wide')].filter(each => each.scrollWidth > each.clientWidth)"
            assert page.value(f"{too_wide}.length") == 0  # nothing has to be pushed aside
        assert browser.complaints == []
