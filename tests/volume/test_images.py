"""Smaller pictures."""

import io
import os
import zlib
from typing import Any

import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from twisted.trial.unittest import SynchronousTestCase

from weedtw.volume import resize
from weedtw.volume.images import Shape, clip, is_picture, target_size, wanted_shape

FID = "/3,01637037d6"
SIDES = st.integers(1, 5000)


def picture(kind: str, size: tuple[int, int] = (60, 40), mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.effect_noise(size, 80).convert(mode).save(out, kind, **options)
    return out.getvalue()


def shape(text: str) -> Shape:
    parameters = dict(pair.split("=") for pair in text.split("&"))
    found = wanted_shape(lambda name: parameters.get(name, ""))
    assert found is not None
    return found


class ShapeTests(SynchronousTestCase):
    def test_sizes(self) -> None:
        for text, size in {
            "width=30": (30, 20),
            "height=20": (30, 20),
            "width=600": (60, 40),
            "width=30&height=30&mode=fit": (30, 20),
            "width=30&height=30&mode=fill": (30, 30),
            "width=30&height=30": (30, 30),
            "width=20&height=30": (20, 30),
            "width=100&height=20": (60, 20),
            "width=100&height=30&mode=fit": (45, 30),
            "width=100&height=30&mode=fill": (60, 30),
            "width=100&height=100": (60, 40),
            "width=30&mode=fit": (30, 20),
            "width=1": (1, 1),
        }.items():
            self.assertEqual(target_size((60, 40), shape(text))[0], size, text)

    @given(SIDES, SIDES, st.integers(0, 6000), st.integers(0, 6000), st.sampled_from(["", "fit", "fill", "x"]))
    def test_no_side_ever_grows_or_vanishes(self, wide: int, high: int, width: int, height: int, mode: str) -> None:
        (new_wide, new_high), _ = target_size((wide, high), Shape(width, height, mode))
        self.assertTrue(1 <= new_wide <= wide)
        self.assertTrue(1 <= new_high <= high)

    def test_what_is_no_number_is_passed_over(self) -> None:
        for value in ("", "abc", "-3", "0", "1.5", "٣", "99999999999999999999"):
            self.assertIsNone(wanted_shape(lambda name, value=value: value if name == "width" else ""))  # type: ignore[misc]

    def test_cuts(self) -> None:
        self.assertEqual(clip((10, 5, 300, 250), (60, 40)), (10, 5, 60, 40))
        self.assertIsNone(clip((0, 0, 60, 40), (60, 40)))
        self.assertIsNone(clip((60, 0, 70, 40), (60, 40)))
        self.assertIsNone(shape("width=5&crop_x1=30&crop_x2=10&crop_y2=5").crop)
        self.assertEqual(shape("crop_x2=10&crop_y2=10").crop, (0, 0, 10, 10))

    def test_every_shape_has_its_own_tag(self) -> None:
        texts = ["width=3", "height=3", "width=3&height=3", "width=3&height=3&mode=fit", "width=3&height=3&mode=fill",
                 "width=3&crop_x2=4&crop_y2=4", "crop_x2=44&crop_y2=4", "crop_x2=4&crop_y2=44"]  # fmt: skip
        self.assertEqual(len({shape(text).tag for text in texts}), len(texts))

    def test_which_types_are_pictures(self) -> None:
        self.assertTrue(is_picture("Image/PNG; x=y"))
        self.assertFalse(is_picture("image/svg+xml"))


class ResizeTests(SynchronousTestCase):
    def reshaped(self, data: bytes, mime: str, text: str) -> Image.Image:
        made = resize.reshape(data, mime, shape(text))
        assert made is not None
        return Image.open(io.BytesIO(made))

    def test_formats_and_modes_stay(self) -> None:
        for kind, modes in {
            "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
            "JPEG": ("RGB", "L", "CMYK"),
            "GIF": ("P", "L"),
            "WEBP": ("RGB", "RGBA"),
        }.items():
            for mode in modes:
                made = self.reshaped(picture(kind, mode=mode), f"image/{kind.lower()}", "width=30")
                self.assertEqual((made.format, made.size), (kind, (30, 20)), (kind, mode))

    def test_cut_then_made_smaller(self) -> None:
        data = picture("PNG")
        made = self.reshaped(data, "image/png", "crop_x1=10&crop_y1=5&crop_x2=30&crop_y2=25")
        original = Image.open(io.BytesIO(data))
        self.assertEqual((made.size, made.getpixel((0, 0))), ((20, 20), original.getpixel((10, 5))))
        made = self.reshaped(data, "image/png", "crop_x1=10&crop_y1=5&crop_x2=30&crop_y2=25&width=10")
        self.assertEqual(made.size, (10, 10))

    def test_what_needs_nothing_stays(self) -> None:
        self.assertIsNone(resize.reshape(picture("PNG"), "image/png", shape("width=60")))
        self.assertIsNone(resize.reshape(picture("PNG"), "image/png", shape("width=100&height=100")))

    def test_animations_stay(self) -> None:
        frames = [Image.new("L", (60, 40), shade) for shade in (0, 128, 255)]
        out = io.BytesIO()
        frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
        self.assertIsNone(resize.reshape(out.getvalue(), "image/gif", shape("width=30")))

    def test_damage_and_lies_stay(self) -> None:
        whole = picture("PNG", (300, 300))
        for data, mime in (
            (b"", "image/png"),
            (b"no picture", "image/jpeg"),
            (whole[: len(whole) // 2], "image/png"),
            (whole[:40] + os.urandom(200), "image/png"),
            (whole, "image/jpeg"),
        ):
            self.assertIsNone(resize.reshape(data, mime, shape("width=30")))

    def test_a_picture_of_too_many_pixels_is_not_opened(self) -> None:
        def chunk(kind: bytes, data: bytes) -> bytes:
            return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

        side = (9000).to_bytes(4, "big")
        header = chunk(b"IHDR", side + side + bytes([8, 2, 0, 0, 0]))
        bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        self.assertIsNone(resize.reshape(bomb, "image/png", shape("width=30")))

    def test_a_picture_with_an_endless_side_is_not_opened(self) -> None:
        for size in ((1, 65_536), (65_536, 1), (1, 65_535)):
            out = io.BytesIO()
            Image.new("L", size).save(out, "PNG")
            reshaped = resize.reshape(out.getvalue(), "image/png", shape("crop_x1=0&crop_y1=0&crop_x2=1&crop_y2=1"))
            self.assertEqual(reshaped is None, max(size) > resize.MAX_SIDE, size)

    def test_what_pillow_has_no_memory_for_is_served_as_it_is(self) -> None:
        def refuse(*_: Any) -> None:
            raise MemoryError

        self.patch(Image.Image, "resize", refuse)
        self.assertIsNone(resize.reshape(picture("PNG"), "image/png", shape("width=30")))


@pytest_twisted.ensureDeferred
async def test_over_http(cluster: Any) -> None:
    (server,) = await cluster.start()
    await cluster.volume(3, [server])
    data = picture("PNG")
    await cluster.post(server, FID, data, "p.png", "image/png")
    tags = set()
    for query, size in (("", (60, 40)), ("?width=30", (30, 20)), ("?height=10", (15, 10)), ("?width=600", (60, 40))):
        read = await cluster.get(server, FID + query)
        assert (read["Content-Type"], Image.open(io.BytesIO(read.body)).size) == ("image/png", size)
        assert (await cluster.head(server, FID + query))["Content-Length"] == str(len(read.body))
        assert (await cluster.get(server, FID + query, If_None_Match=read["ETag"])).status == 304
        part = await cluster.get(server, FID + query, Range="bytes=1-3")
        assert (part.status, part.body) == (206, b"PNG")
        tags.add(read["ETag"])
    assert len(tags) == 3
    await cluster.put(server, FID, b"damaged", "image/png")
    assert (await cluster.get(server, FID + "?width=30")).body == b"damaged"
    await cluster.put(server, FID, data, "image/png")  # without a name
    assert Image.open(io.BytesIO((await cluster.get(server, FID + "?width=30")).body)).size == (30, 20)


@pytest_twisted.ensureDeferred
async def test_pictures_in_chunks_are_made_smaller_too(cluster: Any) -> None:
    (server,) = await cluster.start()
    await cluster.volume(3, [server])
    data = picture("JPEG")
    half = len(data) // 2
    await cluster.put(server, "/3,02637037d6", data[:half], "a/b")
    await cluster.put(server, "/3,03637037d6", data[half:], "a/b")
    document = (
        b'{"name":"p.jpg","mime":"image/jpeg","size":%d,"chunks":[{"fid":"3,02637037d6","offset":0,"size":%d},'
        b'{"fid":"3,03637037d6","offset":%d,"size":%d}]}' % (len(data), half, half, len(data) - half)
    )
    await cluster.put(server, FID + "?cm=true", document, "application/json")
    read = await cluster.get(server, FID + "?width=30")
    assert Image.open(io.BytesIO(read.body)).size == (30, 20)


@pytest_twisted.ensureDeferred
async def test_without_pillow_pictures_stay_as_they_are(cluster: Any) -> None:
    (server,) = await cluster.start()
    await cluster.volume(3, [server])
    server._api.representer.reshape = None
    data = picture("PNG")
    await cluster.put(server, FID, data, "image/png")
    assert (await cluster.get(server, FID + "?width=30")).body == data
