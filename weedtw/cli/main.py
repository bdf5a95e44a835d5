"""The `weedtw` command: finds the sub-command, and imports nothing of the others.

A sub-command is a module `weedtw.cli.NAME` with `main(arguments) -> int`: it gets the words behind its name
and returns the exit status.  The three daemons are started by `weedtw.cli.run`.
"""

import gc
import importlib
import sys
from collections.abc import Sequence

from weedtw import __version__
from weedtw.cli.compiled import compiled
from weedtw.cli.report import drop_output
from weedtw.config.options import LOG
from weedtw.config.vocabulary import PROGRAMS, nearest, vocabulary

DAEMONS = {
    "master": "start a master: it knows where the volumes are and issues file ids",
    "volume": "start a volume server: it stores and serves the files",
    "server": "start a master and a volume server in one process",
}
_FILES = {
    "upload": "store files",
    "download": "fetch files by their ids",
    "delete": "delete files by their ids",
}
_CLUSTER = {
    "status": "show what the cluster thinks of itself",
    "cluster": "look after the masters: what each believes, who belongs to them, what is on their disks",
    "shell": "look after volumes: list, repair, balance, move, delete, compare",
    "scaffold": "write a file of keys to begin with: weedtw scaffold security",
    "benchmark": "write and read many small files, and say how fast that was",
}
_FOLDERS = {
    "verify": "check every file in a folder of volumes",
    "fix": "make the index of a volume anew from its data",
    "export": "list the files of a volume, or write them to a tar file",
    "compact": "remove what was deleted from a volume's files",
    "backup": "copy a volume from a running server, and later what was added",
    "inspect": "show what is in a .dat, .idx or .vif file",
}
_SHELL = {"completion": "print a script with which a shell completes commands and options"}
COMMANDS = {**_FILES, **_CLUSTER, **_FOLDERS, **_SHELL}
_OTHERS = {"help": "explain a command: weedtw help volume", "version": "print the version"}
# commands of SeaweedFS that belong to what weedtw is not, or not yet
_ELSEWHERE = "admin autocomplete filer fuse iam master.follower mini mount mq s3 sftp update webdav worker"
_FILE_OPTIONS = ("config", "config_dir")


class _Misused(Exception):
    """The words before the sub-command make no sense; the text says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sub-command that the words name; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        options, command, arguments = _split(words)
        status = _dispatch(options, command, arguments)
        sys.stdout.flush()
        compiled.keep()
    except _Misused as error:
        print(f"weedtw: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `weedtw help | head`: the reader has seen enough
        drop_output()
        return 1
    except OSError as error:
        if error.filename is not None:  # of a file; what is printed has no name
            raise
        drop_output()
        print(f"weedtw: standard output: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before a daemon has its own way to stop
        return 130
    return status


def _dispatch(options: list[str], command: str, arguments: list[str]) -> int:
    if command == "help" and arguments and arguments[0].lstrip("-") == "version":
        command = "version"
    if command == "help" and arguments:
        command, *rest = arguments
        arguments = [*(rest if command in COMMANDS else ()), "--help"]  # weedtw help cluster add
    if command in {"", "help"}:
        print(_overview())
        return 0
    if command == "version":
        print(f"weedtw {__version__}")
        return 0
    for program in PROGRAMS:
        if command == program:
            gc.disable()  # until `lean` turns it on: a daemon needs all that it makes while it starts
            from weedtw.cli.run import run

            return run(program, options + arguments)
    if command not in COMMANDS:
        raise _Misused(_unknown(command))
    if options:
        raise _Misused(f"{options[0]}: an option of {', '.join(PROGRAMS)}; {command} does not take it")
    return int(importlib.import_module(f"weedtw.cli.{command}").main(arguments))


def _split(words: list[str]) -> tuple[list[str], str, list[str]]:
    """The options before the command, the command, and what follows it.

    Those options are the ones that all daemons have; they are handed on as if they stood behind the command.
    """
    log_words = {word.name: word for word in vocabulary("master", log=True).words.values() if _is_log(word.targets)}
    ignored = {word.name: word for word in vocabulary("master", log=True).words.values() if word.ignored}
    options: list[str] = []
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            return options, word, words
        name, equals, _ = word.removeprefix("-").removeprefix("-").partition("=")
        if name in {"h", "help"}:
            return options, "help", []
        if name == "version":
            return options, "version", []
        options.append(word)
        known = log_words.get(name) or ignored.get(name)
        if known is None and name not in _FILE_OPTIONS:
            near = nearest(name, [*log_words, *_FILE_OPTIONS, "help", "version"])
            hint = f"did you mean --{near}?" if near else "options of a command stand behind it"
            raise _Misused(f"--{name}: unknown option before the command; {hint}")
        if not equals and not (known and known.flag):
            if not words:
                raise _Misused(f"--{name}: a value is missing")
            options.append(words.pop(0))
    if options:
        raise _Misused(f"a command is missing, such as {', '.join(PROGRAMS)}; see weedtw help")
    return [], "", []


def _is_log(targets: Sequence[object]) -> bool:
    return any(getattr(target, "section", "") == LOG for target in targets)


def _unknown(command: str) -> str:
    if command in _ELSEWHERE.split() or command.partition(".")[0] in {"filer", "mq", "autocomplete"}:
        return f"{command}: SeaweedFS has this command, weedtw does not; see weedtw help"
    near = nearest(command, [*DAEMONS, *COMMANDS, *_OTHERS])
    return f"{command}: no such command; " + (f"did you mean {near}?" if near else "see weedtw help")


def _overview() -> str:
    lines = ["Usage: weedtw [--config FILE] [--logFormat text|json] [--logLevel LEVEL] COMMAND [options]", ""]
    lines.append(
        "weedtw stores files under short ids and serves them over HTTP, as SeaweedFS's master and volume server do."
    )
    for title, group in (
        ("Daemons", DAEMONS),
        ("Files", _FILES),
        ("Cluster", _CLUSTER),
        ("Folders of volumes", _FOLDERS),
        ("Help", {**_SHELL, **_OTHERS}),
    ):
        lines += ["", f"{title}:", *(f"  {name:<10} {text}" for name, text in group.items())]
    lines += ["", "weedtw help COMMAND explains one of them; weedtw --version prints the version."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
