"""GET and HEAD of files: representations, preconditions, ranges, large files, damage."""

import gzip
import os
from typing import Any

import pytest
import pytest_twisted

from weedtw.formats.needle import Needle
from weedtw.storage.fileops import FileOps

FID = "/3,01637037d6"
KEY, COOKIE = 1, 0x637037D6
TEXT = b"words that repeat and repeat " * 100
TEXT_HTML = "text/html; charset=utf-8"


@pytest_twisted.async_yield_fixture
async def server(cluster: Any) -> Any:
    (made,) = await cluster.start()
    await cluster.volume(3, [made])
    yield made


# ------------------------------------------------------------------ plain and gzip


@pytest_twisted.ensureDeferred
async def test_each_form_has_its_own_tag_and_both_say_vary(cluster: Any, server: Any) -> None:
    stored = await cluster.post(server, FID, TEXT, "a.txt", "text/plain")
    plain = await cluster.get(server, FID)
    packed = await cluster.get(server, FID, Accept_Encoding="gzip")
    assert (plain.body, gzip.decompress(packed.body)) == (TEXT, TEXT)
    assert (plain.get("Content-Encoding"), packed["Content-Encoding"]) == (None, "gzip")
    assert plain["ETag"] == stored["ETag"] != packed["ETag"]
    assert "Accept-Encoding" in plain["Vary"]
    assert "Accept-Encoding" in packed["Vary"]
    assert packed["Content-Length"] == str(len(packed.body))


@pytest_twisted.ensureDeferred
async def test_what_a_client_takes_is_weighed(cluster: Any, server: Any) -> None:
    await cluster.post(server, FID, TEXT, "a.txt", "text/plain")
    for accepted, coding in {
        "gzip;q=0": None,
        "gzip;q=0, *;q=1": None,
        "identity;q=1, gzip;q=0.5": None,
        "br": None,
        "gzip;q=0.1": "gzip",
        "*": "gzip",
        "br, GZIP;q=1.0": "gzip",
    }.items():
        read = await cluster.get(server, FID, Accept_Encoding=accepted)
        assert read.get("Content-Encoding") == coding, accepted


@pytest_twisted.ensureDeferred
async def test_ranges_are_of_the_plain_content_for_everybody(cluster: Any, server: Any) -> None:
    await cluster.post(server, FID, TEXT, "a.txt", "text/plain")
    plain_tag = (await cluster.head(server, FID))["ETag"]
    for accepted in ("identity", "gzip"):
        read = await cluster.get(server, FID, Range="bytes=6-9", Accept_Encoding=accepted)
        assert (read.status, read.body, read.get("Content-Encoding")) == (206, TEXT[6:10], None)
        assert read["Content-Range"] == f"bytes 6-9/{len(TEXT)}"
        assert read["ETag"] == plain_tag


@pytest_twisted.ensureDeferred
async def test_head_tells_the_length_of_what_get_sends(cluster: Any, server: Any) -> None:
    await cluster.post(server, FID, TEXT, "a.txt", "text/plain")
    for accepted in ("identity", "gzip"):
        got, asked = [await cluster.ask(method, server, FID, Accept_Encoding=accepted) for method in ("GET", "HEAD")]
        assert asked.body == b""
        assert {k: v for k, v in got.headers.items() if k != "date"} == {
            k: v for k, v in asked.headers.items() if k != "date"
        }


@pytest_twisted.ensureDeferred
async def test_head_reads_no_data(cluster: Any, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await cluster.put(server, FID, os.urandom(4 << 20), "a/b")
    volume, lengths = server.store.find(3), []

    def pread(_ops: FileOps, fd: int, length: int, offset: int) -> bytes:
        lengths.append(length)
        return os.pread(fd, length, offset)

    monkeypatch.setattr(FileOps, "pread", pread)
    assert volume.has(KEY)
    assert (await cluster.head(server, FID))["Content-Length"] == str(4 << 20)
    assert sum(lengths) < 1000


@pytest_twisted.ensureDeferred
async def test_a_stored_stream_that_unpacks_to_too_much(cluster: Any, server: Any) -> None:
    """It may come from elsewhere; whoever takes gzip gets it, nobody else."""
    bomb = gzip.compress(bytes(9 << 20), 9)
    server.store.find(3).write(Needle(COOKIE, KEY, bomb, mime=b"text/plain", is_gzipped=True))
    for method in ("GET", "HEAD"):
        assert (await cluster.ask(method, server, FID)).status == 500
    assert "limit" in (await cluster.get(server, FID)).error
    assert (await cluster.get(server, FID, Accept_Encoding="gzip")).body == bomb
    assert (await cluster.delete(server, FID)).status == 202


@pytest_twisted.ensureDeferred
async def test_a_stored_stream_that_is_broken(cluster: Any, server: Any) -> None:
    for size in (1000, 3 << 20):
        broken = gzip.compress(os.urandom(size))[:-5]
        server.store.find(3).write(Needle(COOKIE, KEY, broken, is_gzipped=True))
        read = await cluster.get(server, FID)
        assert (read.status, "gzip" in read.error) == (500, True)
        assert (await cluster.delete(server, FID)).status == 202


@pytest_twisted.ensureDeferred
async def test_large_gzip_is_unpacked_on_the_way(cluster: Any, server: Any) -> None:
    noise = os.urandom(6 << 20)
    await cluster.put(server, FID, gzip.compress(noise, 1), "a/b", Content_Encoding="gzip")
    read = await cluster.get(server, FID)
    assert (read.status, read["Content-Length"], read.body == noise) == (200, str(6 << 20), True)
    read = await cluster.get(server, FID, Range="bytes=5000000-5000099")
    assert (read.status, read.body) == (206, noise[5000000:5000100])
    read = await cluster.get(server, FID, Range="bytes=-5")
    assert read.body == noise[-5:]
    many = ",".join(f"{at}-{at}" for at in range(0, 600, 100))
    assert (await cluster.get(server, FID, Range=f"bytes={many}")).status == 200  # each would unpack it anew
    assert (await cluster.get(server, FID, Range="bytes=1-1,5000000-5000001")).status == 206
    compressible = b"0123456789abcdef" * 400_000
    await cluster.put(server, FID, compressible, "text/plain")
    assert (await cluster.get(server, FID)).body == compressible


# ------------------------------------------------------------------ preconditions and ranges


@pytest_twisted.ensureDeferred
async def test_preconditions(cluster: Any, server: Any) -> None:
    await cluster.put(server, FID + "?ts=1234567890", b"abcdef", "text/x")
    tag = (await cluster.head(server, FID))["ETag"]
    for headers, status in (
        ({"If_None_Match": tag}, 304),
        ({"If_None_Match": f'"other", W/{tag}'}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": '"other"'}, 200),
        ({"If_None_Match": '"other"', "If_Modified_Since": "Fri, 13 Feb 2009 23:31:30 GMT"}, 200),
        ({"If_Modified_Since": "Fri, 13 Feb 2009 23:31:30 GMT"}, 304),
        ({"If_Modified_Since": "Fri, 13 Feb 2009 23:31:29 GMT"}, 200),
        ({"If_Match": tag}, 200),
        ({"If_Match": '"other"'}, 412),
        ({"If_Unmodified_Since": "Fri, 13 Feb 2009 23:31:29 GMT"}, 412),
        ({"If_None_Match": tag, "Range": "bytes=0-1"}, 304),
        ({"If_Range": tag, "Range": "bytes=0-1"}, 206),
        ({"If_Range": '"other"', "Range": "bytes=0-1"}, 200),
        ({"If_Range": "Fri, 13 Feb 2009 23:31:30 GMT", "Range": "bytes=0-1"}, 206),
    ):
        answer = await cluster.get(server, FID, **headers)
        assert answer.status == status, headers
        if status == 304:
            assert (answer.body, answer["ETag"], answer.get("Content-Type")) == (b"", tag, None)
        if status == 412:
            assert answer.error


@pytest_twisted.ensureDeferred
async def test_ranges(cluster: Any, server: Any) -> None:
    letters = b"abcdefghijklmnopqrstuvwxyz"
    await cluster.put(server, FID, letters, "text/x")
    for asked, status, body in (
        ("bytes=0-20,5-25", 200, letters),
        ("bytes=", 200, letters),
        ("bytes=-0", 416, None),
        ("lines=1-2", 200, letters),
        ("BYTES=1-2", 206, b"bc"),
        ("bytes=5-2", 416, None),
        ("bytes=26-", 416, None),
        ("bytes=25-99999999999999999999999", 206, b"z"),
    ):
        answer = await cluster.get(server, FID, Range=asked)
        assert answer.status == status, asked
        if body is None:
            assert answer["Content-Range"] == "bytes */26"
            assert answer.error
        else:
            assert answer.body == body, asked
    several = await cluster.get(server, FID, Range="bytes=0-1, -2")
    boundary = several["Content-Type"].partition("boundary=")[2].encode()
    assert several["Content-Length"] == str(len(several.body))
    parts = several.body.split(b"--" + boundary)
    assert [part.rpartition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts[1:-1]] == [b"ab", b"yz"]
    assert (await cluster.head(server, FID, Range="bytes=0-1")).status == 200


@pytest_twisted.ensureDeferred
async def test_ranges_of_an_empty_file(cluster: Any, server: Any) -> None:
    await cluster.put(server, FID, b"", "text/x")
    assert (await cluster.get(server, FID, Range="bytes=0-1")).status == 416
    assert (await cluster.get(server, FID)).body == b""


# ------------------------------------------------------------------ headers


@pytest_twisted.ensureDeferred
async def test_unknown_content_is_octets_and_not_to_be_sniffed(cluster: Any, server: Any) -> None:
    await cluster.put(server, FID, b"<html>hm</html>")
    read = await cluster.get(server, FID)
    assert (read["Content-Type"], read["X-Content-Type-Options"]) == ("application/octet-stream", "nosniff")
    assert read.get("Content-Disposition") is None
    for path, kind in (("/3/01637037d6/page.html", TEXT_HTML), (FID + ".css", "text/css; charset=utf-8")):
        assert (await cluster.get(server, path))["Content-Type"] == kind
    assert (await cluster.get(server, FID + "?dl=true"))["Content-Disposition"] == "attachment"


@pytest_twisted.ensureDeferred
async def test_octets_are_no_type_where_a_name_tells_one(cluster: Any, server: Any) -> None:
    octets = "application/octet-stream"
    await cluster.put(server, FID, b"<p>", octets)
    for path, kind in ((FID, octets), ("/3/01637037d6/page.html", TEXT_HTML), (FID + ".unknown", octets)):
        for _ in range(2):  # the second one may be kept ready
            read = await cluster.get(server, path)
            assert (read["Content-Type"], read["X-Content-Type-Options"]) == (kind, "nosniff")
    await cluster.put(server, FID + "_1", b"<p>", octets, Content_Disposition='inline; filename="a.png"')
    assert (await cluster.get(server, FID + "_1"))["Content-Type"] == "image/png"


@pytest_twisted.ensureDeferred
async def test_for_who_takes_gzip_either_tag_names_a_file_that_is_stored_so(cluster: Any, server: Any) -> None:
    told = (await cluster.post(server, FID, TEXT, "a.txt", "text/plain"))["ETag"]
    packed = (await cluster.get(server, FID, Accept_Encoding="gzip"))["ETag"]
    assert told != packed
    for accepted in ("identity", "gzip"):
        for tag in (told, packed):
            for odd in ({}, {"X_Odd": "1"}):  # on both paths
                is_usable = accepted == "gzip" or tag == told  # the gzip form is none for who does not take it
                held = await cluster.get(server, FID, Accept_Encoding=accepted, If_None_Match=tag, **odd)
                assert held.status == (304 if is_usable else 200)
                assert held["ETag"] == (packed if accepted == "gzip" else told)
                meant = await cluster.get(server, FID, Accept_Encoding=accepted, If_Match=tag, **odd)
                assert meant.status == (200 if is_usable else 412)
        part = await cluster.get(server, FID, Range="bytes=0-1", If_Range=packed)
        assert part.status == 200, "a part of the plain form does not fit to the other"


@pytest_twisted.ensureDeferred
async def test_a_query_cannot_break_the_header(cluster: Any, server: Any) -> None:
    await cluster.put(server, FID, b"x", "a/b")
    query = "Response-Content-Type=text/x%0d%0aX-Evil:%20yes&response-cache-control=no-cache%0a%0ax"
    read = await cluster.get(server, f"{FID}?{query}")
    assert (read.body, read.get("X-Evil")) == (b"x", None)
    assert read["Cache-Control"] == "no-cachex"
    named = await cluster.get(server, "/3/01637037d6/a%0d%0aX-Evil:yes")
    assert named.get("X-Evil") is None


@pytest_twisted.ensureDeferred
async def test_needles_from_elsewhere_with_odd_metadata(cluster: Any, server: Any) -> None:
    volume = server.store.find(3)
    odd = Needle(
        COOKIE,
        KEY,
        b"x",
        name=b"a\r\nX-Evil: yes\xff",
        mime=b"text/plain\r\nX-Evil: yes",
        last_modified=2**40 - 1,
        pairs=b'{"X-Bad\\r\\n": "1", "Ok": "a\\r\\nX-Evil: yes", "": "2"}',
    )
    volume.write(odd)
    read = await cluster.get(server, FID)
    assert (read.status, read.body, read.get("X-Evil"), read.get("Last-Modified")) == (200, b"x", None, None)
    assert read["Ok"] == "aX-Evil: yes"


# ------------------------------------------------------------------ large files and damage


@pytest_twisted.ensureDeferred
async def test_large_files_whole_and_in_parts(cluster: Any, server: Any) -> None:
    for size in ((512 << 10) - 100, 512 << 10, 3_000_001):
        noise = os.urandom(size)
        await cluster.put(server, FID, noise, "a/b")
        assert (await cluster.get(server, FID)).body == noise
        read = await cluster.get(server, FID, Range="bytes=300000-500000,0-0")
        assert noise[300000:500001] in read.body
        assert (await cluster.get(server, FID, Range="bytes=-1")).body == noise[-1:]
        assert (await cluster.get(server, "/3,01637037d7")).status == 404


def flip_a_byte(server: Any, key: int) -> None:
    """Damage the data of a needle on disk."""
    volume = server.store.find(3)
    place = volume.generation.needles.find(key)
    with open(volume.files.dat, "r+b") as file:
        file.seek(place.offset + 20 + place.size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))


@pytest_twisted.ensureDeferred
async def test_damage_to_a_small_file_is_an_error(cluster: Any, server: Any) -> None:
    await cluster.put(server, FID, os.urandom(1000), "a/b")
    flip_a_byte(server, KEY)
    read = await cluster.get(server, FID)
    assert (read.status, "crc" in read.error) == (500, True)


@pytest_twisted.ensureDeferred
async def test_damage_to_a_large_file_cuts_the_connection(cluster: Any, server: Any, logged_failures: Any) -> None:
    await cluster.put(server, FID, os.urandom(3 << 20), "a/b")
    flip_a_byte(server, KEY)
    with pytest.raises(Exception, match="broke off"):
        await cluster.get(server, FID)
    assert len(logged_failures) == 1
    logged_failures.clear()
    assert (await cluster.get(server, FID, Range="bytes=0-9")).status == 206  # of a part nothing can be told


@pytest_twisted.ensureDeferred
async def test_a_file_shorter_than_its_index(cluster: Any, server: Any) -> None:
    for size in (1000, 2 << 20):
        await cluster.put(server, FID, os.urandom(size), "a/b")
        volume = server.store.find(3)
        os.truncate(volume.files.dat, volume.generation.needles.find(KEY).offset + 100)
        assert (await cluster.get(server, FID)).status == 500
        os.truncate(volume.files.dat, volume.generation.dat_size)


@pytest_twisted.ensureDeferred
async def test_a_file_is_read_to_its_end_while_its_volume_is_deleted(cluster: Any, server: Any) -> None:
    noise = os.urandom(7 << 20)
    await cluster.put(server, FID, noise, "a/b")
    response = await cluster.agent.request("GET", server.address, FID)  # the head is there, most of the body is not
    assert (await cluster.ask("POST", server, "/admin/delete_volume?volume=3")).status == 200
    assert await response.read(8 << 20) == noise
    assert (await cluster.get(server, FID)).status == 404
