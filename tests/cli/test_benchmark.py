"""`weedtw benchmark`: its words, and real runs against a small cluster."""

import io
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster.processes import LIMIT, WEEDTW, Cluster, wait_until, weedtw_cluster
from weedtw.cli.benchmark import main
from weedtw.cli.benchmark_files import read_list

FIGURES = re.compile(
    r"^(Writes|Reads): 200 in [0-9.]+ s\n  [0-9.]+ requests/s  [0-9.]+ (?:[KMG]i)?B/s  20\d\.\d KiB in all\n"
    r"  mean +[0-9.]+ ms\n(?:  p(?:50|75|90|95|98|99) +[0-9.]+ ms\n){6}  max +[0-9.]+ ms$",
    re.MULTILINE,
)


class WordsTests(SynchronousTestCase):
    """Words that make no sense are one line, and no server is asked."""

    def run_with(self, *words: str) -> tuple[int, str, str]:
        out, error = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(error):
            status = main(words)
        return status, out.getvalue(), error.getvalue()

    def test_misuse(self) -> None:
        for line, said in (
            ("-c=0", "0 is not in the range 1<=x<=10000"),
            ("-c=many", "'many' is not a valid integer"),
            ("-n=0", "0 is not in the range x>=1"),
            ("-size=0", "0 is not in the range"),
            ("-collection=../x", "collection '../x'"),
            ("-replication=1", "replication '1'"),
            ("-deletePercent=101", "101 is not in the range 0<=x<=100"),
            ("-write=perhaps", "'perhaps' is not a valid boolean"),
            ("-write=false -read=false", "Nothing is left to do"),
            ("-writeOnly -readOnly", "Nothing is left to do"),
            ("-readOnly", "--list"),
            ("-write=false --list /nowhere/ids", "/nowhere/ids: No such file or directory"),
            ("-write=false -list=/dev/null", "/dev/null: no ids are in it"),
            ("-readOnly -cleanup -list=ids", "go with writing"),
            ("-readOnly -deletePercent=1 -list=ids", "go with writing"),
            ("--cleanup -collection=", "--cleanup needs a --collection"),
            ("more", "unexpected extra argument"),
        ):
            status, out, error = self.run_with(*line.split())
            self.assertEqual((status, out, error.count("\n")), (2, "", 1), line)
            self.assertIn(said, error)
            self.assertTrue(error.startswith("weedtw benchmark: "), error)

    def test_help_explains_every_option_of_weed_that_is_taken(self) -> None:
        status, out, error = self.run_with("--help")
        self.assertEqual((status, error), (0, ""))
        for name in (
            "c",
            "n",
            "size",
            "collection",
            "replication",
            "master",
            "write",
            "read",
            "deletePercent",
            "list",
        ):
            self.assertIn(f"--{name} ", out)
        for name in ("readOnly", "writeOnly", "readSequentially", "fsync"):
            self.assertIn(f"--{name} ", out)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("benchmark")
    data = [folder / "1", folder / "2"]
    for each in data:
        each.mkdir()
    with weedtw_cluster(folder, data, "-max=60") as running:
        running.put(b"ready")
        yield running


def run(cluster: Cluster, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    whole = [*WEEDTW, "benchmark", f"-master={cluster.master}", *words]
    return subprocess.run(whole, capture_output=True, text=True, timeout=2 * LIMIT, check=False, cwd=folder)


def phases(done: "subprocess.CompletedProcess[str]") -> dict[str, dict[str, float]]:
    return {fields.pop("phase"): fields for fields in map(json.loads, done.stdout.splitlines())}


@pytest.mark.process
def test_writes_and_reads_and_says_how_fast(cluster: Cluster, tmp_path: Path) -> None:
    done = run(cluster, tmp_path, "-n=200", "-c=4", "-list=ids")
    assert done.returncode == 0, done.stderr
    title, *_ = done.stdout.splitlines()
    assert title == ("200 files of 1024 bytes and up to 63 more, 4 at a time, collection benchmark, replication 000")
    assert FIGURES.findall(done.stdout) == ["Writes", "Reads"]
    for line in done.stderr.splitlines():  # as many as there were seconds
        assert re.match(r"(Writes|Reads): \d+ of 200, ", line)
    assert len({str(read_list(str(tmp_path / "ids"))[number]) for number in range(200)}) == 200

    again = run(cluster, tmp_path, "--readOnly", "--list", "ids", "--n", "50", "--c", "3", "--json")
    assert (again.returncode, phases(again)["reads"]["done"]) == (0, 50)

    other = run(cluster, tmp_path, "-write=false", "-list=ids", "-n=20", "-size=2000", "-json")
    assert (other.returncode, phases(other)["reads"]["failed"]) == (1, 20)
    told = [line for line in other.stderr.splitlines() if " is not what was written: " in line]
    assert len(told) == 5  # the rest is counted
    unchecked = run(cluster, tmp_path, "-readOnly", "-list=ids", "-n=20", "-size=2000", "-check=false")
    assert unchecked.returncode == 0


@pytest.mark.process
def test_copies_deletions_and_a_collection_that_goes(cluster: Cluster, tmp_path: Path) -> None:
    words = ["-n=200", "-replication=001", "-collection=brief", "-deletePercent=30", "-fsync", "-list=ids", "-json"]
    done = run(cluster, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    found = phases(done)
    assert list(found) == ["writes", "deletes", "reads"]
    assert (found["writes"]["done"], found["reads"]["done"]) == (200, 200)
    ids = read_list(str(tmp_path / "ids"))
    assert found["deletes"]["done"] == 200 - len(ids)
    assert cluster.get(str(ids[0])).status == 200

    kept = run(cluster, tmp_path, "-n=1", "-collection=brief", "-cleanup")
    assert (kept.returncode, kept.stdout) == (1, "")
    assert kept.stderr == (
        "weedtw benchmark: the collection brief has volumes already: --cleanup would delete them\n"
    )
    assert cluster.get(str(ids[0])).status == 200

    gone = run(cluster, tmp_path, "-n=20", "-collection=briefer", "-cleanup", "-list=others")
    assert gone.returncode == 0, gone.stderr
    status = subprocess.run(
        [*WEEDTW, "status", "--json", "--master", cluster.master], capture_output=True, timeout=LIMIT, check=True
    )
    assert "briefer" not in {volume["collection"] for volume in json.loads(status.stdout)["volumes"]}


@pytest.mark.process
def test_what_was_measured_is_told_on_ctrl_c(cluster: Cluster, tmp_path: Path) -> None:
    words = [*WEEDTW, "benchmark", "--master", cluster.master, "-collection=cut", "-list=ids", "-c=64", "-size=4096"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    ids = tmp_path / "ids"
    try:
        wait_until(lambda: process.poll() is not None or (ids.exists() and ids.stat().st_size), "files are written")
    finally:
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    found = re.search(r"^Writes: (\d+) in [0-9.]+ s\n  [0-9.]+ requests/s", out, re.MULTILINE)
    assert found, out
    assert int(found[1]) == len(read_list(str(ids))) > 0
    assert "Reads" not in out
    assert error.splitlines()[-1] == "weedtw benchmark: interrupted"
