"""The documents tell of what there is: links lead somewhere, options exist, and every endpoint is described."""

import os
import re
from collections.abc import Iterator
from glob import glob
from importlib import import_module
from urllib.parse import unquote

import click
from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli.main import COMMANDS
from weedtw.config.vocabulary import PROGRAMS, family, vocabulary
from weedtw.http.routes import Routes
from weedtw.master.api import MasterApi
from weedtw.master.clusterapi import ClusterApi
from weedtw.volume.admin import Admin
from weedtw.volume.api import Api
from weedtw.volume.transfer import Transfer

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *(os.path.relpath(path, ROOT) for path in sorted(glob(os.path.join(ROOT, "docs", "*.md")))),
)
# options of curl, useradd, systemctl, docker and tail
OF_OTHERS = {"--data-binary", "--system", "--home-dir", "--now", "--build", "--cacert", "--pid"}
TOOLS = (  # their source names their options
    os.path.join("tests", "sim", "__main__.py"),
    os.path.join("bench", "raft.py"),
    os.path.join("bench", "data_path.py"),
)

_FENCED = re.compile(r"^( *)(```|~~~).*?^\1\2 *$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.*?) *$", re.MULTILINE)
_OPTION = re.compile(r"(?<![\w-])--[A-Za-z][\w.-]*(?<![.-])")


def text_of(name: str) -> str:
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, made as GitHub makes them."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCED.sub("", text)):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = 0
        while anchor + (f"-{number}" if number else "") in found:
            number += 1
        found.add(anchor + (f"-{number}" if number else ""))
    return found


def links(name: str) -> Iterator[tuple[str, str]]:
    """(path, anchor) of each link of a document to something in the repository; the path "" is the document."""
    for target in _LINK.findall(_CODE.sub("", _FENCED.sub("", text_of(name)))):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield unquote(path), anchor


def options() -> set[str]:
    """Every option that a command of weedtw takes, or refuses by name."""
    found = {"--help", "--version", "--config_dir"}
    for program in PROGRAMS:
        words = vocabulary(program, log=True)
        found |= {f"--{name}" for name in (*words.words, *words.extra)}
    for name in COMMANDS:
        command = getattr(import_module(f"weedtw.cli.{name}"), name)
        assert isinstance(command, click.Command)
        commands = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
        found |= {spelling for each in commands for parameter in each.params for spelling in parameter.opts}
    return found


def paths(app: Routes, prefix: str = "") -> Iterator[str]:
    """The paths of an application that do not stand for a file."""
    for rule in app:
        if "<" not in rule.path and not rule.path.endswith("/"):  # a rule like /cluster/ is where another one begins
            yield prefix + rule.path


class DocumentTests(SynchronousTestCase):
    """What the documents say is so."""

    def test_there_are_documents(self) -> None:
        """The others look at something."""
        self.assertLess(5, len(DOCUMENTS))
        self.assertLess(20, sum(1 for name in DOCUMENTS for _ in links(name)))

    def test_links(self) -> None:
        for name in DOCUMENTS:
            for path, anchor in links(name):
                target = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
                self.assertTrue(os.path.exists(os.path.join(ROOT, target)), f"{name}: there is no {path}")
                if anchor:
                    self.assertIn(anchor, anchors(text_of(target)), f"{name}: {target} has no such heading")

    def test_options(self) -> None:
        known = options() | OF_OTHERS | {option for tool in TOOLS for option in _OPTION.findall(text_of(tool))}
        for name in DOCUMENTS:
            for option in _OPTION.findall(text_of(name)):
                if option != "--prot" and not family(option[2:]):  # mistyped, or refused, to show what is said of it
                    self.assertIn(option, known, f"{name} speaks of {option}")

    def test_every_option_is_in_the_sample_file_or_the_documents(self) -> None:
        """One that is new is written down somewhere."""
        said = text_of(os.path.join("etc", "weedtw.toml")) + "".join(map(text_of, DOCUMENTS))
        for program in PROGRAMS:
            for word in vocabulary(program, log=True).words.values():
                for target in word.targets:
                    self.assertIn(target.option.key, said)

    def test_endpoints(self) -> None:
        described = text_of(os.path.join("docs", "http_api.md"))
        of_masters = ((MasterApi.app, ""), (ClusterApi.app, "/cluster"))
        of_volumes = ((Api.app, ""), (Admin.app, "/admin"), (Transfer.app, "/admin/copy"))
        for app, prefix in (*of_masters, *of_volumes):
            for path in paths(app, prefix):
                self.assertRegex(described, rf"(?<![\w/]){re.escape(path)}(?![\w/])", f"{path} is not described")

    def test_master_and_volume_server_have_the_endpoints_that_are_described(self) -> None:
        """The headings that are paths."""
        served = {*paths(MasterApi.app), *paths(ClusterApi.app, "/cluster"), *paths(Api.app)}
        for heading in _HEADING.findall(_FENCED.sub("", text_of(os.path.join("docs", "http_api.md")))):
            for path in re.findall(r"`(/[a-z/]+)`", heading):
                self.assertIn(path, served)
