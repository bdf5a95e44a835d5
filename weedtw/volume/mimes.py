"""Media types by extension, the same on every host, and which types are worth compressing.  Pure.

The tables of the operating system are left out on purpose: two copies of a file must get one type.
"""

import mimetypes
import os.path

OCTET_STREAM = "application/octet-stream"

_ADDED = {  # what Python's own table lacks, or has changed between its versions
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".md": "text/markdown",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".ttf": "font/ttf",
    ".otf": "font/otf",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".toml": "application/toml",
    ".wasm": "application/wasm",
    ".gz": "application/gzip",
    ".bz2": "application/x-bzip2",
    ".xz": "application/x-xz",
    ".zst": "application/zstd",
    ".7z": "application/x-7z-compressed",
    ".ogg": "audio/ogg",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mkv": "video/x-matroska",
    ".log": "text/plain",
    ".ini": "text/plain",
    ".conf": "text/plain",
    ".ics": "text/calendar",
    ".go": "text/x-go",
    ".java": "text/x-java",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".epub": "application/epub+zip",
    ".rtf": "application/rtf",
    ".sql": "application/sql",
    ".geojson": "application/geo+json",
    ".jar": "application/java-archive",
    ".apk": "application/vnd.android.package-archive",
    ".rar": "application/vnd.rar",
    ".tgz": "application/gzip",
    ".iso": "application/x-iso9660-image",
    ".psd": "image/vnd.adobe.photoshop",
    ".heic": "image/heic",
    ".jxl": "image/jxl",
    ".wav": "audio/wav",
    ".m4v": "video/x-m4v",
    ".ts": "video/mp2t",
    ".ico": "image/x-icon",
}


def _table() -> dict[str, str]:
    builtin = mimetypes.MimeTypes(filenames=())
    return {**builtin.types_map[True], **_ADDED}


_BY_EXTENSION = _table()
_WAVES = frozenset({"audio/wav", "audio/wave", "audio/x-wav", "audio/vnd.wave"})
_SNIFFED = 512  # bytes looked at to tell text from other content
_NOT_TEXT = frozenset(range(32)) - {8, 9, 10, 12, 13, 27}  # control characters that no text holds


def essence(mime: str) -> str:
    """The type and subtype in lower case, without parameters: `text/html` of `Text/HTML; charset=x`."""
    return mime.partition(";")[0].strip().lower()


def type_of_name(name: str) -> str:
    """The media type that a file name's extension stands for; "" when it is unknown.  Texts are taken for UTF-8."""
    kind = _BY_EXTENSION.get(os.path.splitext(name)[1].lower(), "")
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def is_compressible(mime: str, data: bytes | memoryview) -> bool:
    """Whether content of this type tends to shrink; without a type the first bytes decide."""
    kind = essence(mime)
    if not kind or kind == OCTET_STREAM:
        return not kind and looks_like_text(data)
    if kind.startswith("text/"):
        return True
    if kind.startswith("application/") or kind == "image/svg+xml":
        return kind.endswith(("xml", "script"))
    return kind in _WAVES


def looks_like_text(data: bytes | memoryview) -> bool:
    """Whether the first bytes are UTF-8 without control characters; False for no bytes at all."""
    start = bytes(data[:_SNIFFED])
    if not start or not _NOT_TEXT.isdisjoint(start):
        return False
    try:
        start.decode()
    except UnicodeDecodeError as error:  # the cut may have gone through the last character
        return len(data) > _SNIFFED and error.start > _SNIFFED - 4
    return True
