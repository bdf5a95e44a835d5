"""The text behind `--help` of the three daemons, made from the table of options."""

import shutil
import textwrap
from collections.abc import Iterable, Iterator

from weedtw.config.vocabulary import Program, Vocabulary, Word, vocabulary

_ABOUT: dict[Program, str] = {
    "master": "Start a master: it knows which volume lies where and issues the ids of new files.",
    "volume": "Start a volume server: it stores and serves the files.",
    "server": "Start a master and a volume server in one process.",
}
_EXAMPLES: dict[Program, str] = {
    "master": "--port 9333 --mdir ./m",
    "volume": "--port 8080 --dir ./1,./2 --max 7,20 --mserver localhost:9333",
    "server": "--dir ./1 --master.port 9333 --volume.port 8080",
}
_IP = (
    "--ip left out is the address of this machine on the way to the first master or peer elsewhere, and localhost "
    "when there is none. A loopback address listens on the loopback interface only; --ip.bind overrides that. "
)
_FOLDER = "Data lies in the current folder unless told otherwise: SeaweedFS's default, the system's folder for "
_FOLDER += "temporary files, is emptied by many systems when they start. "
_NOTES: dict[Program, str] = {
    "master": _IP + _FOLDER,
    "volume": _IP + _FOLDER,
    "server": _IP + _FOLDER + "--master.dir left out is the first --dir. The volume server reports to the "
    "master beside it and to all others of its cluster.",
}
_SPELLING = (
    "Options may be written --port 9333, --port=9333, -port 9333 or -port=9333. Durations are written 300ms, 3s, "
    "10m or 1h30m."
)


def help_text(program: Program, command: str, *, log: bool, width: int | None = None) -> str:
    """All that `command --help` prints; `command` is how the program was called, `weedtw master` for example."""
    width = width or min(max(shutil.get_terminal_size().columns, 60), 110)
    words = vocabulary(program, log=log)
    parts = [
        f"Usage: {command} [options]\n   e.g. {command} {_EXAMPLES[program]}",
        _ABOUT[program],
        "Options:",
        "\n".join(_option_lines(words, width)),
        textwrap.fill(_SPELLING, width),
        textwrap.fill(_NOTES[program], width),
        "Options of SeaweedFS that are accepted, for the sake of old start scripts, and change nothing:",
        "\n".join(_ignored_lines(words, width)),
    ]
    return "\n\n".join(parts) + "\n"


def _option_lines(words: Vocabulary, width: int) -> Iterator[str]:
    yield from _entry("--config FILE", "read options from a TOML file; the command line wins", width)
    yield from _entry("--config_dir FOLDER", "the same, from weedtw.toml in that folder", width)
    described: set[str] = set()
    for word in words.words.values():
        if not word.targets:
            continue
        target = word.targets[-1]
        subject = f"{target.section}.{target.option.name}"
        if subject in described:  # another name for the option above
            yield from _entry(f"--{word.name}", "another name for the same", width)
            continue
        described.add(subject)
        value = "" if word.flag else " " + _metavar(word)
        default = target.option.default
        note = f" (default {default})" if default and not _unset_by(words, word) else ""
        yield from _entry(f"--{word.name}{value}", target.option.help + note, width)
    yield from _entry("--help, --version", "print this, or the version, and end", width)


def _unset_by(words: Vocabulary, word: Word) -> bool:
    """Whether the table's default is not this program's: `server` puts the master's state beside the data."""
    return words.program == "server" and word.name == "master.dir"


def _metavar(word: Word) -> str:
    name = word.targets[0].option.name.lower()
    for end, shown in (("port", "PORT"), ("dir", "FOLDER"), ("idx", "FOLDER"), ("mb", "MB"), ("seconds", "SECONDS")):
        if name.endswith(end):
            return shown
    return {"ip": "HOST", "ip.bind": "HOST", "publicurl": "HOST:PORT", "peers": "LIST", "mserver": "LIST"}.get(
        name, "VALUE"
    )


def _ignored_lines(words: Vocabulary, width: int) -> Iterable[str]:
    said: dict[str, list[str]] = {}
    for word in words.words.values():
        if word.ignored:
            said.setdefault(word.ignored.why, []).append(f"--{word.name}")
    for why, names in said.items():
        yield from _entry(", ".join(names), why, width)


def _entry(names: str, text: str, width: int) -> Iterator[str]:
    first, indent = f"  {names}", " " * 34
    if len(first) > 32:
        yield from textwrap.wrap(first, width, subsequent_indent="    ")
        first = ""
    yield from textwrap.wrap(text, width, initial_indent=f"{first:<34}", subsequent_indent=indent)
