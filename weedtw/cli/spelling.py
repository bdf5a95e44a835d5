"""A command line in the spelling of Go or of GNU, put as click reads it: `--name=value`, and `--flag` alone.

click takes `-volumId=3` for a bundle of options of one letter, `-o=x.tar` for the file `=x.tar`, and knows no
`-json=false`.  Here an option is a word behind one dash or two, as the daemons read it (`weedtw.config.arguments`).
"""

from collections.abc import Sequence
from typing import Any

import click

from weedtw.config.kinds import BOOL
from weedtw.config.vocabulary import nearest


class Switch(click.types.BoolParamType):
    """True or false, and true when it stands alone: an option that can be turned off as well, as `-name=false`."""


class Count(click.IntRange):
    """A whole number, which an error calls one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; what is none, or too small, is refused."""
        try:
            number = int(value)
        except ValueError:
            number = None
        if number is None or number < (self.min or 0):
            self.fail(f"{value!r} is not a whole number from {self.min or 0} on", param, ctx)
        return number


def plain(words: Sequence[str], made: click.Command) -> list[str]:
    """The words as click reads them; raises UsageError that names the first option which is not understood."""
    context = click.Context(made, **made.context_settings)
    known = {
        spelling.lstrip("-"): parameter
        for parameter in made.get_params(context)
        if isinstance(parameter, click.Option)
        for spelling in parameter.opts
    }
    found: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--" or (isinstance(made, click.Group) and not word.startswith("-")):
            return [*found, word, *rest]
        if len(word) < 2 or not word.startswith("-"):
            found.append(word)
            continue
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        parameter = known.get(name)
        if parameter is None:
            near = nearest(name, known)
            raise click.UsageError(f"--{name}: unknown option" + (f"; did you mean --{near}?" if near else "."))
        spelt = parameter.opts[0]
        if parameter.is_flag:
            found = [one for one in found if one != spelt]  # the last one counts
            if not equals or _truth(value, parameter, context):
                found.append(spelt)
        elif equals:
            found.append(f"{spelt}={value}")
        elif isinstance(parameter.type, Switch):
            found.append(f"{spelt}=true")
        else:
            found.append(f"{spelt}={_following(spelt, rest, known)}")
    return found


def misuse(error: click.ClickException) -> str:
    """What is said of a command line that makes no sense: the option first, and a whole sentence."""
    said = error.format_message()
    if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Option):
        return f"{error.param.opts[0]} has to be given."
    if isinstance(error, click.BadParameter) and isinstance(error.param, click.Option) and error.message:
        said = f"{error.param.opts[0]}: {error.message}"
    return said if said.endswith((".", "?")) else f"{said}."


def _following(spelt: str, rest: list[str], known: dict[str, click.Option]) -> str:
    if not rest:
        raise click.UsageError(f"{spelt}: a value is missing.")
    if rest[0].startswith("-") and rest[0].lstrip("-").partition("=")[0] in known:
        raise click.UsageError(f"{spelt}: a value is missing, {rest[0]!r} is an option itself.")
    return rest.pop(0)


def _truth(text: str, parameter: click.Parameter | None, context: click.Context | None) -> bool:
    try:
        return bool(BOOL.parse(text))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not {BOOL.takes}", context, parameter) from None
