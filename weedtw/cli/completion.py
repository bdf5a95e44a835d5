"""`weedtw completion bash|zsh|fish`: a script with which a shell completes commands and options.

It is made from the tables of options, so it knows as much as the commands do:

    source <(weedtw completion bash)
    weedtw completion fish > ~/.config/fish/completions/weedtw.fish
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence

import click

from weedtw.cli.main import COMMANDS, DAEMONS
from weedtw.cli.report import say
from weedtw.cli.session import command, invoke
from weedtw.config.vocabulary import COMMON, PROGRAMS, vocabulary

_ABOUT = """Print a script that lets a shell complete weedtw's commands and options.

For bash, put this into ~/.bashrc: source <(weedtw completion bash). For zsh the same with zsh into ~/.zshrc. For
fish, say: weedtw completion fish > ~/.config/fish/completions/weedtw.fish"""

_BASH = """# Completion of weedtw's commands and options, for bash.
_weedtw() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} command= sub= word words=
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $word in -*) continue ;; esac
        if [ -z "$command" ]; then command=$word; elif [ -z "$sub" ]; then sub=$word; fi
    done
    case "$command $sub" in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    if [ ${{#COMPREPLY[@]}} -eq 0 ]; then COMPREPLY=($(compgen -f -- "$current")); fi
}}
complete -o filenames -F _weedtw weedtw
"""
_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


@command(_ABOUT)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print it."""
    words = known_words()
    say(_fish(words) if shell == "fish" else (_ZSH if shell == "zsh" else "") + _bash(words))
    return 0


def known_words() -> dict[str, list[str]]:
    """What may follow: by command (`""` for none, `cluster add` for one within another), options as `-name`."""
    words = {"": [*DAEMONS, *COMMANDS, "help", "version"]}
    for program in PROGRAMS:
        names = [word.name for word in vocabulary(program, log=True).words.values() if not word.refused]
        words[program] = sorted(f"-{name}" for name in {*names, *COMMON})
    for name in COMMANDS:
        words |= _of_click(name, importlib.import_module(f"weedtw.cli.{name}"))
    return words


def _of_click(name: str, module: object) -> Iterator[tuple[str, list[str]]]:
    made = getattr(module, name)
    if isinstance(made, click.Group):
        yield name, sorted(made.commands)
        for sub, inner in made.commands.items():
            yield f"{name} {sub}", _options(inner)
    else:
        yield name, _options(made)


def _options(made: click.Command) -> list[str]:
    context = click.Context(made, **made.context_settings)  # or it would forget how help is asked for
    spelt = (spelling for parameter in made.get_params(context) for spelling in parameter.opts)
    return sorted(spelling for spelling in spelt if spelling.startswith("-") and not spelling.startswith("--"))


def _bash(words: Mapping[str, Sequence[str]]) -> str:
    cases = []
    for name, following in sorted(words.items(), reverse=True):  # `cluster add` before `cluster`
        pattern = f'"{name}"*' if " " in name else f'"{name} "*'
        cases.append(f'        {pattern}) words="{" ".join(following)}" ;;')
    return _BASH.format(cases="\n".join(cases))


def _fish(words: Mapping[str, Sequence[str]]) -> str:
    lines = ["# Completion of weedtw's commands and options, for fish."]
    about = {**DAEMONS, **COMMANDS}
    lines += [
        f"complete -c weedtw -n __fish_use_subcommand -a {name} -d '{about.get(name, '').replace(chr(39), '')}'"
        for name in words[""]
    ]
    for name, following in words.items():
        condition = "; and ".join(f"__fish_seen_subcommand_from {part}" for part in name.split())
        for word in following if name else ():
            kind = f"-o {word[1:]}" if word.startswith("-") else f"-a {word}"
            lines.append(f"complete -c weedtw -n '{condition}' {kind}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status."""
    return invoke(completion, "weedtw completion", arguments)
