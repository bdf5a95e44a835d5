"""File ids: the text that names one file in the cluster, and the URL paths that carry it.

    3,01637037d6        volume 3, key 0x01, cookie 0x637037d6
    3,01637037d6_2      the same with key 0x03: `_N` adds N, for ids that came from `assign?count=`

The volume is decimal.  The hexadecimal part is the key (8 bytes, leading zero bytes left out) followed by
the cookie (4 bytes, always whole), so 9 to 24 digits; any case is read, lower case is written.
"""

import os.path
import re
from typing import Final, Self

import attrs

from weedtw.errors import BadFileId

MAX_VOLUME_ID: Final = 2**32 - 1
MAX_KEY: Final = 2**64 - 1
MAX_COOKIE: Final = 2**32 - 1

_COOKIE_DIGITS: Final = 8
_NEEDLE_ID: Final = re.compile(r"([0-9a-fA-F]{9,24})(?:_([0-9]{1,20}))?", re.ASCII)
_VOLUME_ID: Final = re.compile(r"[0-9]{1,10}", re.ASCII)


def format_needle_id(key: int, cookie: int) -> str:
    """Key and cookie as hexadecimal digits: whole bytes, at least one byte of key, all four of the cookie."""
    digits = f"{key:x}{cookie:08x}"
    return "0" + digits if len(digits) % 2 else digits


def parse_needle_id(text: str) -> tuple[int, int]:
    """Return (key, cookie) of a needle id such as `01637037d6` or `01637037d6_2`.

    Raises BadFileId when it is no such text, or when `_N` carries the key beyond 64 bits.
    """
    match = _NEEDLE_ID.fullmatch(text)
    if match is None:
        raise BadFileId("key and cookie are 9 to 24 hexadecimal digits, with `_N` behind them or not", text)
    digits, delta = match.groups()
    key = int(digits[:-_COOKIE_DIGITS], 16) + int(delta or 0)
    if key > MAX_KEY:
        raise BadFileId("the key is beyond 64 bits", text)
    return key, int(digits[-_COOKIE_DIGITS:], 16)


def parse_volume_id(text: str) -> int:
    """Return the volume id in decimal `text`; raises BadFileId when it is none, zero, or beyond 32 bits."""
    if _VOLUME_ID.fullmatch(text) is None:
        raise BadFileId("the volume id is not a decimal number of 32 bits", text)
    volume_id = int(text)
    if not 1 <= volume_id <= MAX_VOLUME_ID:
        raise BadFileId(f"the volume id is not within 1 and {MAX_VOLUME_ID}", text)
    return volume_id


@attrs.frozen
class FileId:
    """The name of a file: which volume, which key in it, and the cookie that keeps ids from being guessed."""

    volume_id: int  # 1 to 2**32 - 1
    key: int  # 64 bits
    cookie: int  # 32 bits

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `VOLUME,KEYCOOKIE` with `_N` behind it or not; raises BadFileId, which holds the whole text."""
        volume, comma, needle = text.partition(",")
        if not comma:
            raise BadFileId("there is no comma between volume and key", text)
        return cls._of_parts(volume, needle, text)

    @classmethod
    def _of_parts(cls, volume: str, needle: str, whole: str) -> Self:
        try:
            volume_id = parse_volume_id(volume)
            key, cookie = parse_needle_id(needle)
        except BadFileId as error:
            raise BadFileId(error.reason, whole) from None
        return cls(volume_id, key, cookie)

    @property
    def needle(self) -> str:
        """Key and cookie in hexadecimal, without the volume."""
        return format_needle_id(self.key, self.cookie)

    def __str__(self) -> str:
        return f"{self.volume_id},{self.needle}"


@attrs.frozen
class FilePath:
    """What a URL path says: the file, and what the client would like to call it."""

    file_id: FileId
    extension: str = ""  # of the last part of the path: ".jpg", or ""
    filename: str = ""  # the last part of /VOLUME/NEEDLE/NAME, else ""


def parse_path(path: str) -> FilePath:
    """Take apart a URL-decoded path; raises BadFileId.

    The forms are `/V,N`, `/V,N.ext`, `/V/N`, `/V/N.ext` and `/V/N/name.ext`, where V is a volume id and
    N a needle id.
    """
    parts = path.split("/")
    if parts[0] != "":
        raise BadFileId("the path does not start with a slash", path)
    filename = ""
    if len(parts) == 2:
        volume, comma, last = parts[1].partition(",")
        if not comma:
            raise BadFileId("there is no comma between volume and key", path)
    elif len(parts) == 3:
        volume, last = parts[1:]
    elif len(parts) == 4:
        volume, last, filename = parts[1:]
    else:
        raise BadFileId("the path has too many parts", path)
    needle, dot, _ = last.partition(".")
    if dot and len(parts) == 4:
        raise BadFileId("an extension belongs to the last part of the path", path)
    return FilePath(FileId._of_parts(volume, needle, path), _extension(filename or last), filename)


def looks_like_file_path(path: str) -> bool:
    """Whether a path means a file, so that a bad one is a wrong id and not an unknown page.

    True for one part with a comma in it, and for two or three parts of which the first is a number.
    """
    parts = path.split("/")
    if len(parts) == 2:
        return "," in parts[1]
    return len(parts) in {3, 4} and parts[1].isdecimal()


def _extension(name: str) -> str:
    extension = os.path.splitext(name)[1]
    return "" if extension == "." else extension
