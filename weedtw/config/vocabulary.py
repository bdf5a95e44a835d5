"""Which names each command line knows and what they set; and the nearest name to a mistyped one.

`weedtw server` has both daemons' options under `master.` and `volume.`; what both share has no prefix.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import attrs

from weedtw.config.options import (
    FAMILIES,
    IGNORED,
    LOG,
    MASTER,
    OPTIONS,
    REFUSED,
    SERVER_REFUSED,
    VOLUME,
    Ignored,
    Option,
    Refused,
)

Program = Literal["master", "volume", "server"]
PROGRAMS: tuple[Program, ...] = ("master", "volume", "server")

# names that every command line understands by itself
COMMON = ("config", "config_dir", "help", "version")
# names that `server` has without a prefix
_UNPREFIXED = {
    *("ip", "ip.bind", "whiteList", "dir", "dataCenter", "rack", "idleTimeout", "pulseSeconds"),
    *("cpuprofile", "memprofile", "debug", "debug.port", "metricsIp", "metricsPort", "disableHttp"),
}
# names that `server` has under another name: the master's folder, and one size limit for both
_RENAMED = {(MASTER, "mdir"): "master.dir", (MASTER, "fileSizeLimitMB"): "volume.fileSizeLimitMB"}
# in `server` the volume server goes by its own master and that one's peers
_ABSENT = {(VOLUME, "mserver")}


@attrs.frozen
class Target:
    """An option as one part of a program has it: `section` is master, volume or log."""

    section: str
    option: Option


@attrs.frozen
class Word:
    """A name that may be typed: what it sets, or why it is taken without effect, or why it is refused."""

    name: str
    targets: tuple[Target, ...] = ()
    ignored: Ignored | None = None
    refused: Refused | None = None

    @property
    def flag(self) -> bool:
        """Whether it may stand without a value."""
        if self.targets:
            return self.targets[0].option.kind.flag
        said = self.ignored or self.refused
        return bool(said and said.flag)


@attrs.frozen
class Vocabulary:
    """All names of one program's command line."""

    program: Program
    words: Mapping[str, Word]
    extra: tuple[str, ...] = ()  # names that the command line itself understands, for suggestions

    def nearest(self, name: str) -> str | None:
        """How a mistyped name was probably meant, or None; names that lack only their prefix are all offered."""
        known = [word.name for word in self.words.values() if not word.refused] + list(self.extra)
        prefixed = [
            word for word in known if word.lower() in {f"{MASTER}.{name.lower()}", f"{VOLUME}.{name.lower()}"}
        ]
        if prefixed:
            return " or --".join(prefixed)
        return nearest(name, known)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The name of `known` that is most like `name`, whatever its case, dots and dashes."""
    plain = {_plain(candidate): candidate for candidate in known}
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.6)
    return plain[found[0]] if found else None


def family(name: str) -> str | None:
    """The part of SeaweedFS that weedtw lacks and this option belongs to, such as `filer`; None for others."""
    return FAMILIES.get(name.partition(".")[0])


def vocabulary(program: Program, *, log: bool, extra: tuple[str, ...] = COMMON) -> Vocabulary:
    """All names of a program; `log` says whether it writes its own log (under `twist` it does not)."""
    sections: list[str] = [MASTER, VOLUME] if program == "server" else [program]
    if log:
        sections.append(LOG)
    words: dict[str, Word] = {}
    for section in sections:
        for word in _section_words(section, prefixed=program == "server"):
            before = words.get(word.name)
            targets = before.targets + word.targets if before else word.targets
            words[word.name] = attrs.evolve(word, targets=targets)
    if program == "server":
        words |= {refused.name: Word(refused.name, refused=refused) for refused in SERVER_REFUSED}
    return Vocabulary(program, words, extra)


def _section_words(section: str, *, prefixed: bool) -> Iterator[Word]:
    for option in OPTIONS[section]:
        if prefixed and (section, option.name) in _ABSENT:
            continue
        for name in (option.name, *option.aliases):
            yield Word(_typed(section, name, prefixed=prefixed), (Target(section, option),))
    for ignored in IGNORED[section]:
        yield Word(_typed(section, ignored.name, prefixed=prefixed), ignored=ignored)
    for refused in REFUSED[section]:
        yield Word(_typed(section, refused.name, prefixed=prefixed), refused=refused)


def _typed(section: str, name: str, *, prefixed: bool) -> str:
    if not prefixed or section == LOG or name in _UNPREFIXED or name.startswith(section + "."):
        return name
    return _RENAMED.get((section, name), f"{section}.{name}")


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
