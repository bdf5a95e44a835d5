"""What is measured, and how wrk is told to ask for it."""

import http.client
import os
import random
import re
import subprocess
from collections.abc import Sequence

import attrs

from bench.data_path_cluster import Running

KB, MB = 1 << 10, 1 << 20
BOUNDARY = "weedtwbenchboundary"

# wrk's script: requests are made beforehand where they repeat, and what was measured is printed in one line.
_SCRIPT = """
local headers = {}
%(header)s
local paths = {}
for line in io.lines("%(paths)s") do paths[#paths + 1] = line end
local body = nil
if "%(body)s" ~= "" then
  local file = io.open("%(body)s", "rb"); body = file:read("*a"); file:close()
end
local made = {}
local count = 0
function init(args)  -- only now does wrk know the Host header
  for i, path in ipairs(paths) do made[i] = wrk.format("%(method)s", path, headers, body) end
end
function request()
  if %(fresh)s then
    count = count + 1
    local path = paths[1 + count %% #paths] .. "_" .. (%(first)d + count)
    return wrk.format("%(method)s", path, headers, body)
  end
  return made[math.random(#made)]
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("FIGURES %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@attrs.frozen
class Case:
    """One thing to measure.  `size` is that of the files, in bytes; `files` how many are asked for at random.

    Of two `servers` each gets half of the files and of the connections, at the same time.
    """

    name: str
    kind: str  # get, put, assign, lookup
    size: int = KB
    files: int = 20_000
    connections: int = 32
    replication: str = "000"
    servers: int = 1


CASES = (
    Case("get", "get"),
    Case("put", "put"),
    Case("put-001", "put", replication="001"),
    Case("get-2", "get", servers=2),
    Case("put-2", "put", servers=2),
    Case("put-001-2", "put", replication="001", servers=2),
    Case("assign", "assign"),
    Case("lookup", "lookup"),
    Case("get-64k", "get", size=64 * KB, files=1000),
    Case("get-8m", "get", size=8 * MB, files=8, connections=4),
)


@attrs.frozen
class Figures:
    """Requests per second, milliseconds, microseconds of processor time a request."""

    rate: float
    p50: float
    p99: float
    cpu: float
    errors: int

    def __str__(self) -> str:
        times = f"p50 {self.p50:6.2f}  p99 {self.p99:6.2f}"
        return f"{self.rate:9,.0f}/s  {times}  CPU {self.cpu:6.1f}  errors {self.errors}"


def prepare(running: Running, cases: Sequence[Case]) -> None:
    """Store the files that will be asked for."""
    for case in cases:
        for server in range(case.servers):
            if case.kind == "get":
                _store(running, case, server)
            elif case.kind == "put":
                _ids(running, case, server)


def measure(running: Running, case: Case, seconds: float) -> Figures:
    """Let wrk ask for so many seconds."""
    asked = [running.master] if case.kind in {"assign", "lookup"} else running.volumes[: case.servers]
    paid_by = running.volumes if case.replication != "000" else asked
    scripts = [_write_script(running, case, server) for server in range(len(asked))]
    connections = case.connections // len(asked)
    before = sum(map(running.cpu_seconds, paid_by))
    started = [
        subprocess.Popen(
            [
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{seconds:g}s",
                "--timeout",
                "20s",
                "-s",
                script,
                f"http://{address}",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for address, script in zip(asked, scripts, strict=True)
    ]
    said = [_figures(each.communicate()[0]) for each in started]
    used = sum(map(running.cpu_seconds, paid_by)) - before
    requests = sum(each[0] for each in said)
    return Figures(
        rate=sum(count / duration * 1e6 for count, duration, *_ in said),
        p50=sum(count * p50 for count, _, p50, *_ in said) / max(1, requests) / 1e3,
        p99=max(p99 for *_, p99, _ in said) / 1e3,
        cpu=used / max(1, requests) * 1e6,
        errors=sum(errors for *_, errors in said),
    )


def _figures(output: str) -> tuple[int, int, int, int, int]:
    """(requests, microseconds, p50 and p99 in microseconds, errors) as the script prints them."""
    found = re.search(r"FIGURES (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if found is None:
        raise SystemExit(f"wrk said:\n{output}")
    requests, duration, p50, p99, errors = map(int, found.groups())
    return requests, duration, p50, p99, errors


_puts = [0]


def _write_script(running: Running, case: Case, server: int) -> str:
    base = _base(running, case, server)
    header = (
        f'headers["X-Weedtw-Path"] = "{running.system.header.partition(": ")[2]}"' if running.system.header else ""
    )
    body, method = "", "GET"
    if case.kind == "put":
        _puts[0] += 1  # each run writes files of its own
        method, body = "POST", base + ".body"
        header += f'\nheaders["Content-Type"] = "multipart/form-data; boundary={BOUNDARY}"'
        with open(body, "wb") as file:
            file.write(_form(random.Random(1).randbytes(case.size)))
    elif case.kind != "get":
        with open(base + ".paths", "w") as lines:
            lines.write("/dir/assign\n" if case.kind == "assign" else f"/dir/lookup?volumeId={_volume(running)}\n")
    words = {
        "header": header,
        "paths": base + ".paths",
        "body": body,
        "method": method,
        "fresh": "true" if case.kind == "put" else "false",
        "first": _puts[0] * 10_000_000,
    }
    with open(base + ".lua", "w") as file:
        file.write(_SCRIPT % words)
    return base + ".lua"


def _volume(running: Running) -> str:
    return str(running.assign("count=1").partition(",")[0])


def _base(running: Running, case: Case, server: int) -> str:
    """How the names of the files begin that wrk is given."""
    return os.path.join(running.folder, f"{case.name}-{server}")


def _store(running: Running, case: Case, server: int) -> None:
    """Put the files of a case on that volume server, and write their paths down."""
    rng = random.Random(case.name)
    count = case.files // case.servers
    fid = running.assign(f"count={count}", server)
    connection = http.client.HTTPConnection(running.volumes[server], timeout=60)
    paths = [f"/{fid}_{number}" for number in range(1, count)]
    for path in paths:
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        connection.request("POST", path, _form(rng.randbytes(case.size)), {"Content-Type": kind})
        response = connection.getresponse()
        response.read()
        if response.status != 201:
            raise SystemExit(f"{running.system.name} answers {response.status} to a file of {case.name}")
    connection.close()
    with open(_base(running, case, server) + ".paths", "w") as lines:
        lines.writelines(path + "\n" for path in paths)


def _ids(running: Running, case: Case, server: int) -> None:
    fid = running.assign(f"replication={case.replication}", server)
    with open(_base(running, case, server) + ".paths", "w") as lines:
        lines.write(f"/{fid}\n")


def _form(content: bytes) -> bytes:
    head = (
        'Content-Disposition: form-data; name="file"; filename="file.bin"\r\nContent-Type: application/octet-stream'
    )
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
