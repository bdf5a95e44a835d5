"""setup.cfg says what there is: every package in the wheel, every library that is imported."""

import ast
import configparser
import os
import re
import sys
from collections.abc import Iterator
from glob import glob
from importlib.metadata import packages_distributions

from twisted.trial.unittest import SynchronousTestCase

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EXTRAS = {"images", "lmdb"}  # what a user may leave out, and the code does without


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(os.path.join(ROOT, "setup.cfg"), encoding="utf-8")
    return parser


def names(requirements: str) -> set[str]:
    """The distributions of a list of requirements, in the spelling of package indexes."""
    lines = [line for line in requirements.split("\n") if line and not line.startswith("#")]
    return {_plain(re.split(r"[\[<>=!~; ]", line)[0]) for line in lines}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def sources() -> Iterator[tuple[str, ast.Module]]:
    for folder, _, files in os.walk(os.path.join(ROOT, "weedtw")):
        for name in files:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as file:
                    yield path, ast.parse(file.read(), path)


def imported(tree: ast.Module) -> Iterator[str]:
    """The first part of every absolute import, also of those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


class PackagingTests(SynchronousTestCase):
    """An installed weedtw has all of it."""

    def test_every_package(self) -> None:
        found = {"twisted.plugins"}
        for folder, _, files in os.walk(os.path.join(ROOT, "weedtw")):
            if "__init__.py" in files:
                found.add(os.path.relpath(folder, ROOT).replace(os.sep, "."))
        self.assertEqual(set(setup_cfg()["options"]["packages"].split()), found)

    def test_every_file_of_another_kind(self) -> None:
        covered: set[str] = set()
        for package, patterns in setup_cfg()["options.package_data"].items():
            folder = os.path.join(ROOT, *package.split("."))
            for pattern in patterns.split():
                covered.update(glob(os.path.join(folder, pattern)))
        for folder, _, files in os.walk(os.path.join(ROOT, "weedtw")):
            for name in files:
                if not name.endswith((".py", ".pyc")):
                    self.assertIn(os.path.join(folder, name), covered)

    def test_every_library(self) -> None:
        options, extras = setup_cfg()["options"], setup_cfg()["options.extras_require"]
        declared = names(options["install_requires"]).union(*(names(extras[extra]) for extra in EXTRAS))
        owners = packages_distributions()
        for path, tree in sources():
            for name in set(imported(tree)) - sys.stdlib_module_names - {"weedtw"}:
                found = {_plain(owner) for owner in owners.get(name, [name])}
                self.assertTrue(found & declared, f"{path} imports {name}, which setup.cfg does not require")

    def test_plugins_folder_is_no_package(self) -> None:
        """With an __init__.py it would hide Twisted's own plugins."""
        for folder in ("twisted", os.path.join("twisted", "plugins")):
            self.assertNotIn("__init__.py", os.listdir(os.path.join(ROOT, folder)))
