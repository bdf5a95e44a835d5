"""The TOML file: `[master]` and `[volume]` hold the options of both daemons, the top what they share.

A key is the option's name, with `ip.bind` written `ipBind`.  Values may be numbers, booleans, texts, or lists
where the option takes a list.  Names that are not known are refused, so that a mistyped one is not lost.
"""

from collections.abc import Mapping
from typing import Any

from weedtw.config.arguments import Setting, Settings, put
from weedtw.config.options import IGNORED, LOG, MASTER, OPTIONS, REFUSED, VOLUME, toml_key
from weedtw.config.vocabulary import nearest
from weedtw.errors import ConfigError

_LARGEST = 1 << 20  # bytes
_MAINTENANCE = "maintenance"  # a table of its own for the options of a master that begin so


def read_file(path: str) -> Settings:
    """All settings of a file, raises ConfigError that names the file and the key."""
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"--config {path}", error.strerror or "cannot be read") from None
    if len(content) > _LARGEST:
        raise ConfigError(f"--config {path}", f"over {_LARGEST} bytes; that is no file of options")
    try:
        return parse_toml(content.decode(), path)
    except UnicodeDecodeError:
        raise ConfigError(f"--config {path}", "not UTF-8 text") from None


def parse_toml(text: str, path: str) -> Settings:
    """All settings of a file's text; `path` is for messages.  Raises ConfigError."""
    import tomllib  # noqa: PLC0415 - most daemons are started without a file

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"--config {path}", f"not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"--config {path}", "nested too deeply; options need one level of tables") from None
    settings: Settings = {}
    top = {key: value for key, value in document.items() if key not in {MASTER, VOLUME, _MAINTENANCE}}
    _read_table(LOG, top, path, settings)
    for section in (MASTER, VOLUME):
        table = document.get(section, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--config {path}", f"{section} is not a table; write [{section}]")
        _read_table(section, table, path, settings)
    rounds = document.get(_MAINTENANCE, {})
    if not isinstance(rounds, dict):
        raise ConfigError(f"--config {path}", f"{_MAINTENANCE} is not a table; write [{_MAINTENANCE}]")
    _read_table(MASTER, {f"{_MAINTENANCE}.{key}": value for key, value in rounds.items()}, path, settings)
    return settings


def _read_table(section: str, table: Mapping[str, Any], path: str, settings: Settings) -> None:
    where = f"{path}: " if section == LOG else f"{path}: [{section}] "
    known = {toml_key(name): option for option in OPTIONS[section] for name in (option.name, *option.aliases)}
    known |= {name: option for option in OPTIONS[section] for name in (option.name, *option.aliases)}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(where + key, _unknown(section, key, list(known)))
        put(settings, section, known[key], Setting(_text(where + key, value), where + key))


def _unknown(section: str, key: str, known: list[str]) -> str:
    for refused in REFUSED[section]:
        if key in {refused.name, toml_key(refused.name)}:
            return f"not supported: {refused.why}"
    for ignored in IGNORED[section]:
        if key in {ignored.name, toml_key(ignored.name)}:
            return f"not needed here: {ignored.why}"
    if section == LOG:
        known = [*known, f"[{MASTER}]", f"[{VOLUME}]"]
    near = nearest(key, known)
    return "unknown key" + (f"; did you mean {near}?" if near else "")


def _text(where: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(part, str | int) and not isinstance(part, bool) for part in value):
        parts = [str(part) for part in value]
        if not any("," in part for part in parts):
            return ",".join(parts)
        raise ConfigError(where, "a comma inside a list's element")
    if isinstance(value, dict):
        raise ConfigError(where, "a table where a value belongs; a dotted name needs quotes or its camelCase form")
    raise ConfigError(where, "a value of a kind that no option takes")
