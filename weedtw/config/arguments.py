"""A command line, in the spelling of Go or of GNU, becomes settings: `-port=1`, `-port 1`, `--port=1`, `--port 1`.

A flag stands alone (`-x`) or with its value behind an equals sign (`-x=false`), never with a second word:
so it is in Go.  The last of two settings of one option counts, as it does there.
"""

from collections.abc import Sequence

import attrs

from weedtw.config.kinds import BOOL
from weedtw.config.options import Option
from weedtw.config.vocabulary import Vocabulary, Word, family
from weedtw.errors import ConfigError


@attrs.frozen
class Setting:
    """The text of an option, and where it was said: `--port`, or a line of a file."""

    text: str
    origin: str


Settings = dict[tuple[str, str], Setting]  # (section, name of the option) -> what was said


@attrs.define
class CommandLine:
    """What a command line says."""

    settings: Settings = attrs.Factory(dict)
    config: str | None = None  # --config
    config_dir: str | None = None  # -config_dir
    asks_help: bool = False
    asks_version: bool = False
    notes: list[str] = attrs.Factory(list)  # options that are taken without effect, and why


def parse_arguments(arguments: Sequence[str], vocabulary: Vocabulary) -> CommandLine:
    """Read all of a command line; raises ConfigError that names the first word which cannot be understood."""
    line = CommandLine()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if len(word) < 2 or not word.startswith("-") or word == "--":
            raise ConfigError(word, f"not an option; options start with a dash, such as --{_hint(word)}")
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        given = value if equals else None
        if name in {"h", "help"}:
            line.asks_help = True
        elif name == "version":
            line.asks_version = True
        elif name in {"config", "config_dir"}:
            setattr(line, name, _value(f"--{name}", given, rest, "the path of a file or folder", vocabulary))
        else:
            _take(line, name, given, rest, vocabulary)
    return line


def _hint(word: str) -> str:
    return f"x={word}" if word in {"true", "false"} else "port=9333"


def _take(line: CommandLine, name: str, given: str | None, rest: list[str], vocabulary: Vocabulary) -> None:
    word = vocabulary.words.get(name)
    if word is None:
        if missing := family(name):
            if given in {"false", "0"}:
                return
            raise ConfigError(f"--{name}", f"weedtw has no {missing}; it is SeaweedFS's master and volume server")
        near = vocabulary.nearest(name)
        raise ConfigError(f"--{name}", "unknown option" + (f"; did you mean --{near}?" if near else ""))
    if word.flag:
        text = "true" if given is None else given
        _bool(name, text)
    else:
        takes = word.targets[0].option.kind.takes if word.targets else "a text"
        text = _value(f"--{name}", given, rest, takes, vocabulary)
    _record(line, word, text)


def _record(line: CommandLine, word: Word, text: str) -> None:
    origin = f"--{word.name}"
    if word.refused and not (word.flag and _bool(word.name, text) == word.refused.passes):
        raise ConfigError(origin, f"not supported: {word.refused.why}")
    if word.ignored:
        line.notes.append(f"{origin} has no effect: {word.ignored.why}")
    for target in word.targets:
        put(line.settings, target.section, target.option, Setting(text, origin))


def put(settings: Settings, section: str, option: Option, setting: Setting) -> None:
    """Add what was said about an option; raises ConfigError when its other name says something else."""
    before = settings.get((section, option.name))
    if before and before.origin != setting.origin and before.text != setting.text:
        raise ConfigError(
            setting.origin, f"{setting.text!r} contradicts {before.origin} {before.text!r}; give one of them"
        )
    settings[section, option.name] = setting


def _value(origin: str, given: str | None, rest: list[str], takes: str, vocabulary: Vocabulary) -> str:
    if given is not None:
        return given
    if not rest:
        raise ConfigError(origin, f"a value is missing; it takes {takes}")
    name = rest[0].lstrip("-").partition("=")[0]
    if rest[0].startswith("-") and (name in vocabulary.words or name in vocabulary.extra):
        raise ConfigError(origin, f"a value is missing, {rest[0]!r} is an option itself; it takes {takes}")
    return rest.pop(0)


def _bool(name: str, text: str) -> bool:
    try:
        return bool(BOOL.parse(text))
    except ValueError:
        raise ConfigError(f"--{name}", f"{text!r} is not {BOOL.takes}") from None
