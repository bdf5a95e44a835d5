"""`weedtw inspect`: what is in a .dat, .idx or .vif file, piece by piece."""

import json
import os
import time
from collections.abc import Iterator, Sequence

import click

from weedtw.cli.folders import carry_out, now_ns
from weedtw.cli.report import Report, printable, say
from weedtw.cli.session import command, invoke, json_option, option
from weedtw.cli.spelling import Count
from weedtw.errors import BadRequest, Damaged

_ABOUT = """Show what is in a file of a volume, one line for each record, row or fact.

FILE ends in .dat, .idx or .vif. Nothing is changed."""

Row = dict[str, object]


@command(_ABOUT)
@click.argument("path", metavar="FILE")
@option("limit", "limit", type=Count(0), help="Show so many lines at most; 0 are all.")
@json_option("Print one JSON object a line.")
def inspect(path: str, limit: int | None, as_json: bool) -> int:
    """Read and print."""
    report = Report("weedtw inspect", as_json, bars=False)

    def work() -> None:
        for number, row in enumerate(_rows(path)):
            if limit and number > limit:
                break
            if as_json:
                say(json.dumps(row))
            else:
                say("  ".join(f"{name} {printable(str(value))}" for name, value in row.items() if value != ""))
            if row.get("wrong"):
                report.failures += 1

    return carry_out(report, work)


def _rows(path: str) -> Iterator[Row]:
    from weedtw.storage.audit import reading

    with reading(path):
        yield from _rows_of(path)


def _rows_of(path: str) -> Iterator[Row]:
    if path.endswith(".dat"):
        return _of_data(path)
    if path.endswith(".idx"):
        return _of_index(path)
    if path.endswith(".vif"):
        return _of_info(path)
    raise BadRequest(f"{path}: only .dat, .idx and .vif files can be looked into")


def _of_data(path: str) -> Iterator[Row]:
    from weedtw.formats.needle import unpack
    from weedtw.storage.audit import open_to_read, pieces, read_superblock
    from weedtw.storage.scan import Gap, Scanner

    dat = open_to_read(path)
    superblock = read_superblock(dat)
    yield {
        "superblock": f"version {superblock.version}",
        "replication": str(superblock.replication),
        "ttl": str(superblock.ttl) or "none",
        "revision": superblock.compaction_revision,
        "bytes": dat.size(),
    }
    scanner = Scanner(dat, dat.size(), superblock.version, now_ns=now_ns())
    for piece in pieces(scanner, superblock.size):
        if isinstance(piece, Gap):
            what = "nought" if scanner.is_nought(piece.start, piece.end) else "no record"
            yield {"at": piece.start, "wrong": f"{piece.end - piece.start} bytes are {what}"}
            continue
        row: Row = {
            "at": piece.offset,
            "key": f"{piece.key:x}",
            "cookie": f"{piece.cookie:08x}",
            "what": piece.meaning.value,
            "length": piece.length,
        }
        record = memoryview(scanner.read(piece.offset, piece.length))
        try:
            needle = unpack(record, superblock.version, path=path)
        except Damaged as error:
            yield row | {"wrong": error.reason}
            continue
        yield row | {
            "size": len(needle.data),
            "name": needle.name.decode("utf-8", "replace"),
            "mime": needle.mime.decode("utf-8", "replace"),
            "modified": _time(needle.last_modified or 0),
            "appended": _time(piece.append_at_ns // 10**9),
            "flags": " ".join(_flags(needle)),
        }


def _flags(needle: object) -> Iterator[str]:
    for attribute, word in (("is_gzipped", "gzip"), ("is_manifest", "manifest"), ("ttl", "ttl"), ("pairs", "pairs")):
        if getattr(needle, attribute):
            yield word


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else ""


def _of_index(path: str) -> Iterator[Row]:
    from weedtw.formats.idx import ROW_SIZES, guess_offset_width, unpack_rows

    with open(path, "rb") as file:
        data = file.read()
    dat = path.removesuffix(".idx") + ".dat"
    dat_size = os.path.getsize(dat) if os.path.exists(dat) else 1 << 62
    width = guess_offset_width(data, dat_size)
    odd = len(data) % ROW_SIZES[width]
    rows = unpack_rows(data[: len(data) - odd], width, path=path)
    yield {"index": f"{len(rows.keys)} rows", "offsets of": f"{width} bytes"}
    for key, offset, size in zip(rows.keys.tolist(), rows.offsets.tolist(), rows.sizes.tolist(), strict=True):
        yield {"key": f"{key:x}", "at": offset, "size": size if size >= 0 else "deleted"}
    if odd:
        yield {"at": len(data) - odd, "wrong": f"{odd} bytes are no whole row"}


def _of_info(path: str) -> Iterator[Row]:
    from weedtw.formats.vif import VolumeInfo

    with open(path, "rb") as file:
        text = file.read(1 << 20)
    yield {"info": json.loads(VolumeInfo.parse(text, path=path).render())}


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status."""
    return invoke(inspect, "weedtw inspect", arguments)
