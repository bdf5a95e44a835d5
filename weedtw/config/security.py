"""`security.toml`, SeaweedFS's own file: the keys of the cluster.

    [jwt.signing]                 key, expires_after_seconds      tokens for writing and deleting
    [jwt.signing.read]            key, expires_after_seconds      tokens for reading
    [guard]                       white_list                      as --whiteList
    [cluster]                     secret                          what daemons have to know; weedtw's own
    [tls]                         ca, cert, key                   PEM files, for TLS on every port; weedtw's own

It is looked for in the folder that -config_dir names, or else where SeaweedFS looks: in the folder of the start, in
~/.seaweedfs, /usr/local/etc/seaweedfs and /etc/seaweedfs.  Tables for parts that weedtw does not have may stand in
it; what would make somebody believe in a protection that is not there is refused.
"""

import os.path
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from weedtw.errors import ConfigError

NAME: Final = "security.toml"
FOLDERS: Final = (".", "~/.seaweedfs", "/usr/local/etc/seaweedfs", "/etc/seaweedfs")
_LARGEST: Final = 1 << 20  # bytes
_SHORT: Final = 32  # bytes that HMAC-SHA256 wants of a key at least
# Tables that are about what weedtw does not have; nothing here is less safe for ignoring them.
_ELSEWHERE: Final = frozenset({"access", "cors", "filer", "filer_signing", "s3", "iam", "admin", "mount", "sse_s3"})
_REFUSED: Final = frozenset({"grpc", "https"})


@attrs.frozen
class TlsFiles:
    """Paths of PEM files.  Commands may go without a certificate of their own: `cert` and `key` are empty then."""

    cert: str
    key: str
    ca: str  # of the authority that signed all certificates of the cluster


@attrs.frozen(kw_only=True)
class SecurityConfig:
    """The keys; an empty one asks for no tokens.  `path` is where they were found."""

    write_key: str = attrs.field(default="", repr=False)
    write_seconds: int = 10  # for which a token is good
    read_key: str = attrs.field(default="", repr=False)
    read_seconds: int = 60
    secret: str = attrs.field(default="", repr=False)  # what all daemons of the cluster know; "": nothing
    white_list: tuple[str, ...] = ()
    tls: TlsFiles | None = None
    path: str = ""
    notes: tuple[str, ...] = ()  # what its owner should know

    @property
    def scheme(self) -> str:
        """Of URLs: http or https."""
        return "http" if self.tls is None else "https"


NO_SECURITY: Final = SecurityConfig()


def find(config_dir: str | None) -> str | None:
    """Where the file is; None when there is none."""
    folders: Iterable[str] = FOLDERS if config_dir is None else (config_dir,)
    paths = (os.path.join(os.path.expanduser(folder), NAME) for folder in folders)
    return next((path for path in paths if os.path.exists(path)), None)


def found() -> SecurityConfig:
    """What a command is to know: the file where SeaweedFS looks for it, if it is there; raises ConfigError."""
    path = find(None)
    return NO_SECURITY if path is None else read(path)


def read(path: str) -> SecurityConfig:
    """The keys in a file; raises ConfigError that names the file and the key."""
    import tomllib  # noqa: PLC0415 - most clusters have no such file

    try:
        with open(path, "rb") as file:
            text = file.read(_LARGEST).decode()
        document = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(path, error.strerror or "cannot be read") from None
    except UnicodeDecodeError:
        raise ConfigError(path, "not UTF-8 text") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(path, f"not TOML: {error}") from None
    return parse(document, path)


def parse(document: Mapping[str, Any], path: str) -> SecurityConfig:
    """As `read`, of what is in the file."""
    for family in _REFUSED & document.keys():
        if _says_something(document[family]):
            reason = (
                "here one certificate is for all that a server does: name its files in a table [tls], with cert, key "
                "and ca, and take this one out"
            )
            raise ConfigError(f"{path}: [{family}]", reason)
    unknown = document.keys() - _REFUSED - _ELSEWHERE - {"jwt", "guard", "cluster", "tls"}
    if unknown:
        raise ConfigError(
            f"{path}: {min(unknown)}",
            "unknown table; known are [jwt.signing], [jwt.signing.read], [guard], [cluster], [tls]",
        )
    jwt = _table(document, "jwt", path)
    for kind in jwt.keys() - _ELSEWHERE - {"signing"}:
        raise ConfigError(f"{path}: [jwt.{kind}]", "unknown table; known are [jwt.signing] and [jwt.signing.read]")
    signing = _table(jwt, "signing", path, "jwt.")
    reading = _table(signing, "read", path, "jwt.signing.")
    writing = {name: value for name, value in signing.items() if name != "read"}
    default = SecurityConfig()
    write_key, write_seconds = _key(writing, f"{path}: [jwt.signing] ", default.write_seconds)
    read_key, read_seconds = _key(reading, f"{path}: [jwt.signing.read] ", default.read_seconds)
    short = [name for name, key in (("jwt.signing", write_key), ("jwt.signing.read", read_key)) if _is_short(key)]
    return SecurityConfig(
        write_key=write_key,
        write_seconds=write_seconds,
        read_key=read_key,
        read_seconds=read_seconds,
        secret=_secret(_table(document, "cluster", path), path),
        white_list=_white_list(_table(document, "guard", path), path),
        tls=_tls(_table(document, "tls", path), path),
        path=path,
        notes=tuple(
            f"{path}: the key of [{name}] has less than {_SHORT} bytes, and may be guessed" for name in short
        ),
    )


def _is_short(key: str) -> bool:
    return 0 < len(key.encode()) < _SHORT


def _says_something(value: object) -> bool:
    return any(map(_says_something, value.values())) if isinstance(value, dict) else bool(value)


def _table(parent: Mapping[str, Any], name: str, path: str, prefix: str = "") -> Mapping[str, Any]:
    table = parent.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {prefix}{name}", f"not a table; write [{prefix}{name}]")
    return table


def _key(table: Mapping[str, Any], where: str, seconds: int) -> tuple[str, int]:
    unknown = table.keys() - {"key", "expires_after_seconds"}
    if unknown:
        raise ConfigError(where + min(unknown), "unknown; known are key and expires_after_seconds")
    key, lasts = table.get("key", ""), table.get("expires_after_seconds", seconds)
    if not isinstance(key, str):
        raise ConfigError(f"{where}key", "not a text")
    if type(lasts) is not int or not 1 <= lasts <= 31_536_000:
        raise ConfigError(f"{where}expires_after_seconds", f"{lasts!r} is not a number of seconds from 1 to 31536000")
    return key, lasts


def _secret(table: Mapping[str, Any], path: str) -> str:
    unknown = table.keys() - {"secret"}
    if unknown:
        raise ConfigError(f"{path}: [cluster] {min(unknown)}", "unknown; known is secret")
    secret = table.get("secret", "")
    if not isinstance(secret, str):
        raise ConfigError(f"{path}: [cluster] secret", "not a text")
    if _is_short(secret):
        raise ConfigError(
            f"{path}: [cluster] secret",
            f"has less than {_SHORT} bytes, and could be guessed; make one with head -c 32 /dev/urandom | base64",
        )
    return secret


def _tls(table: Mapping[str, Any], path: str) -> TlsFiles | None:
    unknown = table.keys() - {"ca", "cert", "key"}
    if unknown:
        raise ConfigError(f"{path}: [tls] {min(unknown)}", "unknown; known are ca, cert and key")
    ca, cert, key = (table.get(name, "") for name in ("ca", "cert", "key"))
    if not all(isinstance(value, str) for value in (ca, cert, key)):
        raise ConfigError(f"{path}: [tls]", "ca, cert and key are paths of files")
    if not (ca or cert or key):
        return None
    if not ca or bool(cert) != bool(key):
        raise ConfigError(f"{path}: [tls]", "ca must be given, and cert and key together (a client needs only ca)")
    folder = os.path.dirname(path)
    return TlsFiles(*(value and os.path.join(folder, os.path.expanduser(value)) for value in (cert, key, ca)))


def _white_list(guard: Mapping[str, Any], path: str) -> tuple[str, ...]:
    said = guard.get("white_list", "")
    entries = said.split(",") if isinstance(said, str) else said
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ConfigError(f"{path}: [guard] white_list", "neither a text nor a list of texts")
    return tuple(entry.strip() for entry in entries if entry.strip())
