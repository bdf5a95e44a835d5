"""Smaller pictures on reading: `?width=`, `?height=`, `?mode=fit|fill`, and `crop_x1 crop_y1 crop_x2 crop_y2`.

What a reader wants of a picture, and the size that comes of it.  Pure; `resize.py` does the work with Pillow.
"""

from collections.abc import Callable

import attrs

from weedtw.volume.mimes import essence

FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/jpg": "JPEG", "image/gif": "GIF", "image/webp": "WEBP"}
_LARGEST = 1 << 20  # a side longer than this is as good as none given


@attrs.frozen
class Shape:
    """What a reader wants of a picture, in pixels; 0 is a side that was not given."""

    width: int = 0
    height: int = 0
    mode: str = ""
    crop: tuple[int, int, int, int] | None = None  # left, top, right, bottom

    @property
    def tag(self) -> str:
        """A short text that differs for every shape; the ETag of a reshaped picture ends with it."""
        cut = "" if self.crop is None else "-c" + ".".join(map(str, self.crop))
        mode = self.mode if self.mode in {"fit", "fill"} else ""
        return f"{self.width}x{self.height}{mode}{cut}"


def wanted_shape(parameter: Callable[[str], str]) -> Shape | None:
    """The shape that query parameters ask for; None when they ask for none.  What is no number is passed over."""
    width, height = _pixels(parameter("width")), _pixels(parameter("height"))
    left, top, right, bottom = (_pixels(parameter(f"crop_{edge}")) for edge in ("x1", "y1", "x2", "y2"))
    crop = (left, top, right, bottom) if right > left and bottom > top else None
    if not width and not height and crop is None:
        return None
    return Shape(width=width, height=height, mode=parameter("mode"), crop=crop)


def _pixels(text: str) -> int:
    return min(int(text), _LARGEST) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def is_picture(mime: str) -> bool:
    """Whether content of this media type can be reshaped."""
    return essence(mime) in FORMATS


def clip(crop: tuple[int, int, int, int] | None, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The part of a cut that lies in a picture of `size`; None when there is none, or it is the whole picture."""
    if crop is None:
        return None
    left, top, right, bottom = crop
    right, bottom = min(right, size[0]), min(bottom, size[1])
    if left >= right or top >= bottom or (left, top, right, bottom) == (0, 0, *size):
        return None
    return left, top, right, bottom


def target_size(size: tuple[int, int], shape: Shape) -> tuple[tuple[int, int], bool]:
    """The size to bring a picture of `size` to, and whether to fill it by cutting off what sticks out.

    One side given keeps the proportions.  With both, `fit` keeps them inside the box, `fill` covers the box, a square
    box without a mode is filled too, and anything else is stretched to the box.  No side ever grows.
    """
    wide, high = size
    width, height = min(shape.width or wide, wide), min(shape.height or high, high)
    if not shape.height:
        return (width, max(1, int(high * width / wide + 0.5))), False
    if not shape.width:
        return (max(1, int(wide * height / high + 0.5)), height), False
    if shape.mode == "fit":
        if wide / high > width / height:
            return (width, max(1, int(width * high / wide))), False
        return (max(1, int(height * wide / high)), height), False
    square = shape.width == shape.height and wide != high
    return (width, height), shape.mode == "fill" or square
