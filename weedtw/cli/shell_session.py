"""What the commands of `weedtw shell` have in common: how they are typed, and what they work with."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from weedtw.cli.report import Report, say
from weedtw.client.plans import Plan
from weedtw.errors import BadRequest, WeedError
from weedtw.formats.size import format_size

if TYPE_CHECKING:
    from weedtw.client import Client
    from weedtw.client.adminlock import AdminLock
    from weedtw.client.volumes import Volumes

Words = Mapping[str, str]
FLAG: Final = "true"
APPLY: Final = ("apply", "force")
_ALL: Final = ("ALL_COLLECTIONS", "EACH_COLLECTION")


@attrs.frozen
class Command:
    """One command: `options` are those with a value and its form, `flags` those without."""

    run: "Callable[[Session, Words], Awaitable[None]]"
    about: str
    options: Mapping[str, str] = attrs.Factory(dict)
    flags: tuple[str, ...] = ()
    changes: Callable[[Words], bool] = lambda _: False  # whether it needs the lock
    argument: str = ""  # the form of a word without an option, which is then in `""`

    def usage(self, name: str) -> str:
        """How it is typed."""
        words = [name, *(f"-{option}={form}" for option, form in self.options.items())]
        words += [f"[-{flag}]" for flag in self.flags]
        return " ".join([*words, *filter(None, [self.argument])])

    def parse(self, name: str, words: Sequence[str]) -> dict[str, str]:
        """The values by option; raises BadRequest."""
        found: dict[str, str] = {}
        left = list(words)
        while left:
            word = left.pop(0)
            option, equals, value = word.lstrip("-").partition("=")
            if not word.startswith("-"):
                if not self.argument:
                    raise BadRequest(f"{word!r} is not taken; it is typed {self.usage(name)}")
                found[""] = f"{found['']} {word}" if "" in found else word
            elif option in self.flags:
                if value not in {"", "true", "false"}:
                    raise BadRequest(f"-{option} takes no value")
                found[option] = value or FLAG
            elif option in self.options:
                if not equals and not left:
                    raise BadRequest(f"-{option} needs a value: -{option}={self.options[option]}")
                found[option] = value if equals else left.pop(0)
            else:
                raise BadRequest(f"-{option} is not known; it is typed {self.usage(name)}")
        return found


@attrs.define(eq=False)
class Session:
    """What the commands work with."""

    client: "Client"
    volumes: "Volumes"
    lock: "AdminLock"
    report: Report
    commands: Mapping[str, Command]
    takes_lock: bool  # by itself, for as long as the shell runs

    def names(self) -> list[str]:
        """What may be typed, in order."""
        return sorted(self.commands)

    def command(self, name: str) -> Command:
        """The command of that name; raises BadRequest."""
        if name not in self.commands:
            raise BadRequest("no such command; help tells which there are")
        return self.commands[name]

    async def run(self, name: str, words: Sequence[str]) -> None:
        """Run one command; raises WeedError."""
        chosen = self.command(name)
        values = chosen.parse(name, words)
        if chosen.changes(values):
            if self.takes_lock:
                await self.lock.take()
            self.lock.require()
        await chosen.run(self, values)

    async def carry_out(self, plan: Plan, values: Words) -> None:
        """Show a plan; with -apply or -force do it, one step after the other."""
        for remark in plan.remarks:
            self.report.failed("", remark)
        if not plan.steps:
            say("nothing to do")
        for number, step in enumerate(plan.steps, 1):
            if not applies(values):
                say(f"would {step}")
                continue
            self.lock.require()
            say(f"{number}/{len(plan.steps)}: {step}")
            try:
                became = await self.volumes.do(step, self.progress)
            except WeedError as error:
                self.report.failed(f"volume {step.volume_id}", str(error))
            else:
                say(f"{number}/{len(plan.steps)}: volume {step.volume_id} {became} on {step.target}")
        if plan.steps and not applies(values):
            say("nothing was changed; -apply (or -force) does it")

    def progress(self, have: int, size: int) -> None:
        """Tell how far a copy has come."""
        say(f"    {format_size(have)} of {format_size(size)} ({100 * have // max(1, size)}%)")


def applies(values: Words) -> bool:
    """Whether the plan is to be carried out."""
    return any(values.get(flag) == FLAG for flag in APPLY)


def volume_id_of(values: Words, name: str) -> int:
    """The volume that an option names; raises BadRequest."""
    text = values.get(name, "")
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise BadRequest(f"-{name}={text or '?'} is not the id of a volume")
    return int(text)


def server_of(values: Words, name: str) -> str:
    """The `host:port` that an option names; raises BadRequest."""
    from weedtw.client.answers import parse_address

    if not values.get(name):
        raise BadRequest(f"-{name}=host:port is missing")
    return parse_address(values[name])


def collection_of(values: Words) -> str | None:
    """The only collection that is meant; None: all."""
    name = values.get("collection")
    return None if name in _ALL else name


def always(_values: Words) -> bool:
    """For commands that change something in any case."""
    return True
