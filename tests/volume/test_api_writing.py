"""POST, PUT and DELETE of files, on sockets."""

import base64
import gzip
import hashlib
import json
import os
import time
from typing import Any

import pytest
import pytest_twisted

from weedtw.http.conditional import parse_date

FID = "/3,01637037d6"
OTHER_COOKIE = "/3,01637037d7"


@pytest_twisted.async_yield_fixture
async def server(cluster: Any) -> Any:
    (made,) = await cluster.start()
    await cluster.volume(3, [made])
    yield made


@pytest_twisted.ensureDeferred
async def test_what_curl_d_sends_is_stored_as_it_is(cluster: Any, server: Any) -> None:
    """A form parser must not eat it (SeaweedFS stores nothing then)."""
    kind = "application/x-www-form-urlencoded"
    for method in ("POST", "PUT"):
        answer = await cluster.ask(method, server, FID, b"a=1&b=2&" + method.encode(), Content_Type=kind)
        assert (answer.status, answer.json["size"]) == (201, 8 + len(method))
        read = await cluster.get(server, FID)
        assert (read.body, read["Content-Type"]) == (b"a=1&b=2&" + method.encode(), kind)


@pytest_twisted.ensureDeferred
async def test_names_without_paths_and_control_characters(cluster: Any, server: Any) -> None:
    for sent, kept in {
        "../../etc/passwd": "passwd",
        "C:\\\\docs\\\\x.txt": "x.txt",
        "..": "",
        "a\tb\x01c.txt": "abc.txt",
        "日本 語.txt": "日本 語.txt",
        'quote\\".txt': 'quote".txt',
    }.items():
        answer = await cluster.post(server, FID, os.urandom(20), sent, "text/plain")
        assert answer.status == 201, sent
        assert answer.json.get("name", "") == kept, sent
    assert "\r" not in (await cluster.get(server, FID))["Content-Disposition"]


@pytest_twisted.ensureDeferred
async def test_a_name_in_a_header_of_a_put(cluster: Any, server: Any) -> None:
    await cluster.put(server, FID, b"x", "text/x", Content_Disposition="inline; filename*=UTF-8''%E2%82%AC.txt")
    read = await cluster.get(server, FID)
    assert "filename*=UTF-8''%E2%82%AC.txt" in read["Content-Disposition"]
    nasty = "inline; filename*=UTF-8''a%0d%0aX-Evil:%00%20yes%2f..%5cb.txt"
    stored = await cluster.put(server, FID, b"y", "text/x", Content_Disposition=nasty)
    assert (stored.status, stored.json["name"]) == (201, "b.txt")
    broken = "inline; filename*=UTF-8''a%0d%0aX-Evil:%00.txt"
    await cluster.put(server, FID, b"z", "text/x", Content_Disposition=broken)
    read = await cluster.get(server, FID)
    assert (read["Content-Disposition"], read.get("X-Evil")) == ('inline; filename="aX-Evil:.txt"', None)


@pytest_twisted.ensureDeferred
async def test_long_names_are_cut_and_long_types_refused(cluster: Any, server: Any) -> None:
    answer = await cluster.post(server, FID, b"x", "é" * 200 + ".txt", "text/plain")
    assert answer.json["name"] == "é" * 125 + ".txt"
    answer = await cluster.put(server, FID, b"y", "text/" + "x" * 300)
    assert (answer.status, "255" in answer.error) == (400, True)
    assert (await cluster.get(server, FID)).body == b"x"


@pytest_twisted.ensureDeferred
async def test_identical_again_is_204_and_other_metadata_is_not(cluster: Any, server: Any) -> None:
    first = await cluster.post(server, FID, b"same", "a.txt", "text/plain", Seaweed_Tag="1")
    again = await cluster.post(server, FID, b"same", "a.txt", "text/plain", Seaweed_Tag="1")
    assert (first.status, again.status, again.body, again["ETag"]) == (201, 204, b"", first["ETag"])
    for change in (
        {"name": "b.txt", "kind": "text/plain", "Seaweed_Tag": "1"},
        {"name": "b.txt", "kind": "text/html", "Seaweed_Tag": "1"},
        {"name": "b.txt", "kind": "text/html", "Seaweed_Tag": "2"},
        {"name": "b.txt", "kind": "text/html"},
    ):
        assert (await cluster.post(server, FID, b"same", **change)).status == 201, change
        assert (await cluster.post(server, FID, b"same", **change)).status == 204, change
    read = await cluster.get(server, FID)
    assert (read["Content-Type"], read.get("Tag")) == ("text/html", None)
    assert "b.txt" in read["Content-Disposition"]


@pytest_twisted.ensureDeferred
async def test_a_time_given_by_the_client_counts_as_metadata(cluster: Any, server: Any) -> None:
    statuses = [(await cluster.put(server, FID + f"?ts={ts}", b"x", "a/b")).status for ts in (1000, 1000, 2000)]
    assert statuses == [201, 204, 201]
    assert (await cluster.put(server, FID, b"x", "a/b")).status == 204
    assert (await cluster.get(server, FID))["Last-Modified"] == "Thu, 01 Jan 1970 00:33:20 GMT"


@pytest_twisted.ensureDeferred
async def test_in_a_volume_with_a_ttl_identical_is_written_again(cluster: Any, server: Any) -> None:
    await cluster.volume(4, [server], ttl="5m")
    statuses = [(await cluster.put(server, "/4,01637037d6", b"x", "a/b")).status for _ in range(2)]
    assert statuses == [201, 201]


@pytest_twisted.ensureDeferred
async def test_the_cookie_guards_empty_files_too(cluster: Any, server: Any) -> None:
    for body in (b"", b"full"):
        assert (await cluster.put(server, FID, body, "text/plain")).status == 201
        assert (await cluster.get(server, OTHER_COOKIE)).status == 404
        assert (await cluster.head(server, OTHER_COOKIE)).status == 404
        refused = await cluster.put(server, OTHER_COOKIE, b"stolen", "text/plain")
        assert (refused.status, "cookie" in refused.error) == (400, True)
        refused = await cluster.delete(server, OTHER_COOKIE)
        assert (refused.status, "cookie" in refused.error) == (400, True)
        read = await cluster.get(server, FID)
        assert (read.status, read.body, read["Content-Length"]) == (200, body, str(len(body)))


@pytest_twisted.ensureDeferred
async def test_an_empty_file_keeps_what_is_known_about_it(cluster: Any, server: Any) -> None:
    stored = await cluster.post(server, FID, b"", "nothing.txt", "text/x-nothing", Seaweed_Owner="alice")
    assert (stored.status, stored.json["name"], stored.json.get("size", 0)) == (201, "nothing.txt", 0)
    for headers in ({}, {"Accept-Encoding": "gzip"}):
        read = await cluster.get(server, FID, **headers)
        assert (read.status, read["Content-Type"], read["Owner"]) == (200, "text/x-nothing", "alice")
        assert "nothing.txt" in read["Content-Disposition"]
        plain = gzip.decompress(read.body) if "content-encoding" in read.headers else read.body
        assert plain == b""
    again = await cluster.post(server, FID, b"", "nothing.txt", "text/x-nothing", Seaweed_Owner="alice")
    assert again.status == 204
    assert (await cluster.put(server, FID, b"", "text/x-other")).status == 201


@pytest_twisted.ensureDeferred
async def test_gzip_that_is_none_is_refused(cluster: Any, server: Any) -> None:
    for body in (b"plain", b"", gzip.compress(b"x" * 100)[:-3], gzip.compress(b"x") + b"tail"):
        answer = await cluster.put(server, FID, body, "text/plain", Content_Encoding="gzip")
        assert (answer.status, "gzip" in answer.error) == (400, True), body
    answer = await cluster.post(server, FID, b"plain", "a.txt", part={"Content-Encoding": "gzip"})
    assert answer.status == 400
    assert (await cluster.put(server, FID, b"x", "text/plain", Content_Encoding="br")).status == 400
    assert (await cluster.get(server, FID)).status == 404


@pytest_twisted.ensureDeferred
async def test_a_bomb_is_refused(cluster: Any, server: Any) -> None:
    bomb = gzip.compress(bytes(9 << 20), 9)  # over the limit of 8 MiB when unpacked
    answer = await cluster.put(server, FID, bomb, "text/plain", Content_Encoding="gzip")
    assert (answer.status, "limit" in answer.error) == (400, True)


@pytest_twisted.ensureDeferred
async def test_the_limit_of_a_file(cluster: Any, server: Any) -> None:
    limit = 8 << 20
    assert (await cluster.put(server, FID, bytes(limit), "a/b")).json["size"] == limit
    for answer in (
        await cluster.put(server, FID + "_1", bytes(limit + 1), "a/b"),
        await cluster.post(server, FID + "_1", bytes(limit + 1), "x", "a/b"),
        await cluster.post(server, FID + "_1", bytes(limit + (2 << 20)), "x", "a/b"),
    ):
        assert (answer.status, "limit" in answer.error) == (400, True)
    assert (await cluster.post(server, FID + "_1", bytes(limit), "x", "a/b")).status == 201


@pytest_twisted.ensureDeferred
async def test_digests(cluster: Any, server: Any) -> None:
    right = base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    answer = await cluster.put(server, FID, b"hello", "a/b", Content_MD5=right)
    assert (answer["Content-MD5"], answer.json["contentMd5"]) == (right, right)
    answer = await cluster.put(server, FID, b"hell0", "a/b", Content_MD5=right)
    assert (answer.status, "md5" in answer.error.lower()) == (400, True)
    answer = await cluster.put(server, FID, b"other", "a/b")
    assert (answer.get("Content-MD5"), "contentMd5" in answer.json) == (None, False)


@pytest_twisted.ensureDeferred
async def test_a_digest_in_a_form(cluster: Any, server: Any) -> None:
    right = base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    for content, status in ((b"hell0", 400), (b"hello", 201)):
        head = f'Content-Disposition: form-data; name="f"; filename="a.txt"\r\nContent-MD5: {right}\r\n\r\n'
        form = b"--B\r\n" + head.encode() + content + b"\r\n--B--\r\n"
        answer = await cluster.ask("POST", server, FID, form, Content_Type="multipart/form-data; boundary=B")
        assert answer.status == status, answer.body
        assert (await cluster.get(server, FID)).status == (200 if status == 201 else 404)


@pytest_twisted.ensureDeferred
async def test_a_time_of_0_is_none(cluster: Any, server: Any) -> None:
    await cluster.put(server, FID + "?ts=0", b"x", "a/b")
    now = parse_date((await cluster.get(server, FID))["Last-Modified"])
    assert now is not None
    assert abs(now - time.time()) < 600


@pytest_twisted.ensureDeferred
async def test_an_extension_tells_the_type(cluster: Any, server: Any) -> None:
    for path, headers, kind in (
        (".css", {}, "text/css; charset=utf-8"),
        (".css", {"Content_Disposition": 'inline; filename="a.png"'}, "image/png"),
        ("", {"Content_Disposition": 'inline; filename="a.png"'}, "image/png"),
        (".css", {"Content_Type": "a/b"}, "a/b"),
        (".unknown", {}, None),
    ):
        answer = await cluster.ask("PUT", server, FID + path, b"x", **headers)
        assert (answer.status, answer.json.get("mime")) == (201, kind)
        assert (await cluster.get(server, FID))["Content-Type"] == (kind or "application/octet-stream")
        assert (await cluster.delete(server, FID)).status == 202


@pytest_twisted.ensureDeferred
async def test_what_the_answer_says(cluster: Any, server: Any) -> None:
    answer = await cluster.post(server, FID + "?pretty=y", b"text " * 100, "a.txt", "text/plain")
    assert answer.body.startswith(b"{\n")
    assert {**answer.json, "eTag": "?"} == {"name": "a.txt", "size": 500, "eTag": "?", "mime": "text/plain"}
    assert answer["ETag"] == f'"{answer.json["eTag"]}"'
    nameless = await cluster.put(server, FID + "_1", b"x")
    assert set(nameless.json) == {"size", "eTag"}


@pytest_twisted.ensureDeferred
async def test_bad_parameters_are_named(cluster: Any, server: Any) -> None:
    for query, named in {
        "ttl=3q": "ttl",
        "ts=yesterday": "ts",
        "ts=-5": "ts",
        "ts=99999999999999": "ts",
        "fsync=perhaps": "fsync",
        "cm=2x": "cm",
    }.items():
        answer = await cluster.put(server, f"{FID}?{query}", b"x", "a/b")
        assert (answer.status, named in answer.error) == (400, True), query
    assert (await cluster.get(server, FID)).status == 404


@pytest_twisted.ensureDeferred
async def test_bad_forms(cluster: Any, server: Any) -> None:
    form = "multipart/form-data; boundary=x"
    for kind, body in (
        (form, b"no form"),
        (form, b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\ncut off'),
        (form, b""),
        ("multipart/form-data", b"--x--"),
        ("", b"what is this"),
    ):
        headers = {"Content_Type": kind} if kind else {}
        answer = await cluster.ask("POST", server, FID, body, **headers)
        assert (answer.status, bool(answer.error)) == (400, True), kind
    assert (await cluster.get(server, FID)).status == 404


@pytest_twisted.ensureDeferred
async def test_ids_that_are_none(cluster: Any, server: Any) -> None:
    for path in ("/3,zz", "/abc,01637037d6", "/4294967299,01637037d6", "/3,1ffffffffffffffff637037d6", "/", "/x",
                 "/3/", "/0,01637037d6", "/3,01637037d6_99999999999999999999"):  # fmt: skip
        for method in ("PUT", "DELETE", "GET"):
            body = b"x" if method == "PUT" else None
            answer = await cluster.ask(method, server, path, body, **({"Content_Type": "a/b"} if body else {}))
            assert (answer.status, bool(answer.error)) == (400, True), (method, path)


@pytest_twisted.ensureDeferred
async def test_methods_that_a_path_does_not_take(cluster: Any, server: Any) -> None:
    of_files = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
    for method, path, allowed in (
        ("PATCH", FID, of_files),
        ("PATCH", "/", of_files),
        ("POST", "/status", "GET, HEAD"),
        ("DELETE", "/ui/index.html", "GET, HEAD"),
        ("PUT", "/%73tatus", "GET, HEAD"),
        ("GET", "/admin/sync", "POST"),
    ):
        answer = await cluster.ask(method, server, path)
        assert (answer.status, answer["Allow"], method in answer.error) == (405, allowed, True), (method, path)


@pytest_twisted.ensureDeferred
async def test_every_form_of_path_can_be_written_read_and_deleted(cluster: Any, server: Any) -> None:
    forms = ("/3,01637037d6", "/3,01637037d6.jpg", "/3/01637037d6", "/3/01637037d6.jpg", "/3/01637037d6/a%20b.jpg")
    for number, path in enumerate(forms):
        body = b"form %d" % number
        assert (await cluster.put(server, path, body, "a/b")).status == 201, path
        assert [(await cluster.get(server, other)).body for other in forms] == [body] * len(forms)
        assert (await cluster.delete(server, path)).json == {"size": 6}
        assert (await cluster.delete(server, path)).json == {"size": 0}


@pytest_twisted.ensureDeferred
async def test_a_deltas_file_is_another(cluster: Any, server: Any) -> None:
    await cluster.put(server, FID, b"first", "a/b")
    await cluster.put(server, FID + "_1", b"second", "a/b")
    assert (await cluster.get(server, "/3,02637037d6")).body == b"second"
    assert (await cluster.delete(server, FID + "_1")).status == 202
    assert (await cluster.get(server, FID)).body == b"first"


@pytest_twisted.ensureDeferred
async def test_volumes_nobody_has(cluster: Any, server: Any) -> None:
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        body = b"x" if method == "PUT" else None
        answer = await cluster.ask(
            method, server, "/77,01637037d6", body, **({"Content_Type": "a/b"} if body else {})
        )
        assert answer.status == 404, method
        if method != "HEAD":
            assert "77" in answer.error
    assert (await cluster.delete(server, "/77,01637037d6")).json["size"] == 0


@pytest_twisted.ensureDeferred
async def test_deletes_tell_the_size_of_the_content(cluster: Any, server: Any) -> None:
    await cluster.put(server, FID, b"text " * 1000, "text/plain")
    assert (await cluster.delete(server, FID)).json == {"size": 5000}
    deleted = await cluster.get(server, FID + "?readDeleted=true")
    assert (deleted.status, deleted.body) == (200, b"text " * 1000)
    assert (await cluster.get(server, FID)).status == 404
    await cluster.put(server, FID, b"", "text/plain")
    assert (await cluster.delete(server, FID)).status == 202


@pytest_twisted.ensureDeferred
async def test_seaweed_headers_within_bounds(cluster: Any, server: Any) -> None:
    many = {f"Seaweed_N{number}": "x" * 1000 for number in range(80)}
    refused = await cluster.put(server, FID, b"x", "a/b", **many)
    assert refused.status in {400, 431}
    assert refused.error
    await cluster.put(server, FID, b"x", "a/b", Seaweed_Owner="Zoë", Seaweed_Set_Cookie="a=b", Seaweed_Etag="no",
                      Seaweed_Content_Length="5", Seaweed_Transfer_Encoding="chunked")  # fmt: skip
    read = await cluster.get(server, FID)
    assert (read.body, read["Owner"], read["Content-Length"], read.get("Set-Cookie")) == (b"x", "Zoë", "1", None)
    assert read["ETag"] != "no"


@pytest_twisted.ensureDeferred
async def test_fsync_is_asked_of_the_disk(cluster: Any, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    volume = server.store.find(3)
    monkeypatch.setattr(volume.ops, "sync", synced.append)
    await cluster.put(server, FID, b"x", "a/b")
    assert synced == []
    assert (await cluster.put(server, FID + "?fsync=true", b"y", "a/b")).status == 201
    assert synced


@pytest_twisted.ensureDeferred
async def test_a_read_only_volume_says_why(cluster: Any, server: Any) -> None:
    await cluster.put(server, FID, b"x", "a/b")
    await cluster.ask("POST", server, "/admin/volume/readonly?volume=3")
    for answer in (await cluster.put(server, FID, b"y", "a/b"), await cluster.delete(server, FID)):
        assert (answer.status, "read-only" in answer.error) == (409, True)
    assert (await cluster.get(server, FID)).body == b"x"


@pytest_twisted.ensureDeferred
async def test_methods_that_are_none(cluster: Any, server: Any) -> None:
    for method in ("PATCH", "PROPFIND"):
        answer = await cluster.ask(method, server, FID)
        assert (answer.status, method in answer.error) == (405, True)
        assert "PUT" in answer["Allow"]


@pytest_twisted.ensureDeferred
async def test_any_origin_may_ask(cluster: Any, server: Any) -> None:
    asked = await cluster.ask("OPTIONS", server, FID, Origin="http://x", Access_Control_Request_Headers="Seaweed-A")
    assert (asked.status, asked.body, asked["Access-Control-Allow-Origin"]) == (200, b"", "*")
    assert asked["Access-Control-Allow-Headers"] == "Seaweed-A"
    assert "DELETE" in asked["Access-Control-Allow-Methods"]
    for path in (FID, "/status", "/nonsense"):
        answer = await cluster.get(server, path, Origin="http://x")
        assert answer["Access-Control-Allow-Origin"] == "*", path
        assert answer.get("Access-Control-Allow-Credentials") is None
    assert (await cluster.get(server, FID)).get("Access-Control-Allow-Origin") is None


@pytest_twisted.ensureDeferred
async def test_a_ttl_of_its_own(cluster: Any, server: Any) -> None:
    volume = server.store.find(3)
    await cluster.put(server, FID + "?ttl=3m", b"x", "a/b")
    assert str(volume.read(1, 0x637037D6).ttl) == "3m"
    later = volume.clock() + 181
    volume.clock = lambda: later
    assert (await cluster.get(server, FID)).status == 404


@pytest_twisted.ensureDeferred
async def test_every_error_is_json(cluster: Any, server: Any) -> None:
    for path in ("/3,ffff637037d6", "/nonsense", "/3,01637037d6?dl=perhaps", "/%ff"):
        answer = await cluster.get(server, path)
        assert answer.status in {400, 404}, path
        assert json.loads(answer.body)["error"], path
