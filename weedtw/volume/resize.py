"""Reshaping pictures with Pillow, an extra; where it is missing, importing this module fails.

Blocking: call it from a thread.  A picture is never made larger than it is, and one of more than MAX_PIXELS, or
with a side over MAX_SIDE, is not opened at all: a few KB of input must not take gigabytes of memory, nor make Pillow
set up millions of lines, which it does without letting other threads run.
"""

import io
import struct

from PIL import Image, ImageOps

from weedtw.volume.images import FORMATS, Shape, clip, target_size
from weedtw.volume.mimes import essence

MAX_PIXELS = 64 * 1024 * 1024  # at four bytes each, what one picture may take in memory
MAX_SIDE = 65_535  # pixels; a JPEG cannot have more

_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    EOFError,
    OverflowError,
    MemoryError,  # Pillow's, for sizes that it cannot reckon with
    struct.error,
    Image.DecompressionBombError,
)


def reshape(data: bytes | memoryview, mime: str, shape: Shape) -> bytes | None:
    """The picture in that shape and in its own format; None when it is to be served as it is.

    That is so when it is small enough already, animated, damaged, or too large to be opened.
    """
    kind = FORMATS[essence(mime)]
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as picture:
            if max(picture.size) > MAX_SIDE or picture.width * picture.height > MAX_PIXELS:
                return None
            if getattr(picture, "n_frames", 1) > 1:
                return None
            return _reshaped(picture, kind, shape)
    except _BROKEN:  # what Pillow raises for damaged pictures; the reader gets the bytes that are there
        return None


def _reshaped(picture: Image.Image, kind: str, shape: Shape) -> bytes | None:
    cut = clip(shape.crop, picture.size)
    shaped = picture if cut is None else picture.crop(cut)
    size, fill = target_size(shaped.size, shape)
    if cut is None and size == picture.size:
        return None
    if shaped.mode in {"P", "1"}:  # no filter can mix the entries of a palette
        shaped = shaped.convert("RGBA" if "transparency" in shaped.info else "RGB")
    if fill:
        shaped = ImageOps.fit(shaped, size, Image.Resampling.LANCZOS)
    elif shaped.size != size:
        shaped = shaped.resize(size, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    if kind in {"JPEG", "WEBP"}:
        shaped.save(out, format=kind, quality=85)
    else:
        shaped.save(out, format=kind)
    return out.getvalue()
