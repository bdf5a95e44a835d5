"""Names of collections.  A name becomes part of file names (`NAME_3.dat`), so it must not leave the folder."""

from typing import Final

from weedtw.errors import BadCollection

MAX_NAME_BYTES: Final = 128  # of UTF-8; leaves room for `_4294967295.dat` within a file name's 255


def check_collection(name: str) -> str:
    """Return `name` if a collection may be called that; raises BadCollection.

    The empty name is the default collection.  Letters, digits and other printable characters are allowed;
    slashes of both kinds, control characters, a dot at the start and two dots in a row are not.
    """
    if "/" in name or "\\" in name:
        raise BadCollection("a slash or backslash in it", name)
    if not name.isprintable():
        raise BadCollection("a character in it that cannot be printed", name)
    if name.startswith(".") or ".." in name:
        raise BadCollection("a dot at the start, or two in a row", name)
    if name != name.strip():
        raise BadCollection("a space at the start or the end", name)
    if len(name.encode()) > MAX_NAME_BYTES:
        raise BadCollection(f"longer than {MAX_NAME_BYTES} bytes", name)
    return name
