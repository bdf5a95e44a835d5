"""The house: who may import whom, what pure code keeps away from, and that nobody grabs a reactor on import."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "weedtw"

# From the ground up; a room imports from floors below its own, and from itself.
FLOORS = [
    {"errors"},
    {"formats", "raft", "config"},
    {"storage", "http", "topology"},
    {"client"},
    {"master", "volume"},
    {"cli"},
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
SIDEWAYS = {("config", "formats")}  # options hold replications and the like
ROOT_ROOMS = {"__init__", "__main__"}  # weedtw/__init__.py, which holds the version only, and the way into cli

PURE = ("formats", "topology", "raft", "errors")  # bytes and values
WITHOUT_TWISTED = (*PURE, "storage")  # storage blocks and has files, but no reactor
# What would make pure code depend on a clock, a network, a log or the machine.
IMPURE = {
    "asyncio",
    "klein",
    "logging",
    "secrets",
    "select",
    "selectors",
    "socket",
    "subprocess",
    "threading",
    "time",
    "treq",
    "twisted",
    "zope",
}
# raft's own adapters to disk and network stand in its room, but are not pure.
ADAPTERS = {
    f"weedtw.raft.{module}"
    for module in (
        *("complaints", "dial", "disk", "interface", "link", "node"),
        *("peer", "sqlite", "tls", "transport", "waiters"),
    )
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the package with its dotted name; a package's own ends in `.__init__`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), ast.parse(path.read_text(), str(path))


def imported(tree: ast.AST, name: str = "weedtw.x.y") -> Iterator[str]:
    """What a module imports, at whatever depth: `a.b` for `import a.b`, `a.b` and `a.b.c` for `from a.b import c`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: -node.level] if node.level else []
            source = ".".join(filter(None, [*above, node.module]))
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def at_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported: all but the bodies of functions."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            waiting.append(node)
            if isinstance(node, ast.stmt):
                yield node


def room_of(name: str) -> str:
    """`formats` for `weedtw.formats.needle`; empty for the package itself."""
    return name.split(".")[1] if "." in name else ""


def upward(name: str, tree: ast.Module) -> list[str]:
    """The imports of a module that do not go down."""
    room = room_of(name)
    found = []
    for target in imported(tree, name):
        other = room_of(target)
        if not target.startswith("weedtw.") or other == room or other not in FLOOR_OF:
            continue
        if room not in ROOT_ROOMS and FLOOR_OF[other] >= FLOOR_OF[room] and (room, other) not in SIDEWAYS:
            found.append(f"{name} imports {target}")
    return found


def takes_reactor(tree: ast.Module) -> bool:
    """Whether importing the module imports the global reactor."""
    return any(
        "twisted.internet.reactor" in set(imported(statement))
        for statement in at_import(tree)
        if isinstance(statement, ast.Import | ast.ImportFrom)
    )


class FloorTests(SynchronousTestCase):
    def test_every_room_has_a_floor(self) -> None:
        for name, _ in modules():
            self.assertIn(room_of(name), FLOOR_OF.keys() | ROOT_ROOMS, f"{name}: give its room a place in FLOORS")

    def test_imports_go_down_only(self) -> None:
        self.assertEqual([line for name, tree in modules() for line in upward(name, tree)], [])

    def test_nobody_imports_the_reactor_when_imported(self) -> None:
        plugins = [(str(path), ast.parse(path.read_text())) for path in (ROOT / "twisted").rglob("*.py")]
        self.assertNotEqual(plugins, [])
        self.assertEqual([name for name, tree in [*modules(), *plugins] if takes_reactor(tree)], [])

    def test_plugins_import_nothing_of_ours(self) -> None:
        for path in (ROOT / "twisted").rglob("*.py"):
            names = list(imported(ast.parse(path.read_text())))
            self.assertEqual([name for name in names if name.split(".")[0] in {"weedtw", "klein"}], [], str(path))

    def test_pure_modules_import_nothing_impure(self) -> None:
        for name, tree in modules():
            if room_of(name) in PURE and name not in ADAPTERS:
                tops = {target.split(".")[0] for target in imported(tree, name)}
                self.assertEqual(tops & IMPURE, set(), name)

    def test_pure_modules_use_no_global_generator(self) -> None:
        for name, tree in modules():
            if room_of(name) not in PURE or name in ADAPTERS:
                continue
            drawn = {target for target in imported(tree, name) if target.startswith("random.")}
            drawn |= {
                f"random.{node.attr}"
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random"
            }
            self.assertLessEqual(drawn, {"random.Random"}, name)

    def test_importing_them_does_not_bring_twisted(self) -> None:
        names = [name for name, _ in modules() if room_of(name) in WITHOUT_TWISTED and name not in ADAPTERS]
        self.assertIn("weedtw.formats.needle", names)
        program = (
            "import importlib, sys\n"
            "for name in sys.argv[1:]:\n"
            "    importlib.import_module(name.removesuffix('.__init__'))\n"
            "    brought = {'twisted', 'klein', 'treq'} & sys.modules.keys()\n"
            "    if brought: sys.exit(f'{name} brings {brought}')\n"
        )
        command = [sys.executable, "-c", program, *names]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))


class CheckerTests(SynchronousTestCase):
    """The checks above see what they should."""

    def test_upward(self) -> None:
        for name, source in [
            ("weedtw.formats.x", "import weedtw.storage.volume"),
            ("weedtw.formats.x", "from weedtw import storage"),
            ("weedtw.formats.x", "from ..storage import volume"),
            ("weedtw.formats.__init__", "from ..storage import volume"),
            ("weedtw.formats.x", "def f():\n    from weedtw.http.ranges import parse"),
            ("weedtw.master.x", "from weedtw.volume.api import Api"),
            ("weedtw.storage.x", "from weedtw.topology.tree import Tree"),
            ("weedtw.errors", "from weedtw.formats.ttl import Ttl"),
            ("weedtw.formats.x", "from weedtw.config import Options"),
        ]:
            self.assertNotEqual(upward(name, ast.parse(source)), [], source)

    def test_downward(self) -> None:
        for name, source in [
            ("weedtw.formats.x", "from weedtw.errors import Damaged\nfrom weedtw.formats.ttl import Ttl\nimport os"),
            ("weedtw.storage.x", "from . import names\nfrom ..formats import idx"),
            ("weedtw.cli.x", "from weedtw import __version__\nimport weedtw.master.service"),
            ("weedtw.config.x", "from weedtw.formats.replication import ReplicaPlacement"),
        ]:
            self.assertEqual(upward(name, ast.parse(source)), [], source)

    def test_reactor(self) -> None:
        for source in [
            "from twisted.internet import defer, reactor",
            "import twisted.internet.reactor",
            "from twisted.internet.reactor import callLater",
            "if True:\n    from twisted.internet import reactor as r",
            "try:\n    pass\nexcept OSError:\n    from twisted.internet import reactor",
            "class A:\n    from twisted.internet import reactor",
        ]:
            self.assertTrue(takes_reactor(ast.parse(source)), source)
        for source in [
            "def run():\n    from twisted.internet import reactor",
            "class A:\n    async def f(self):\n        from twisted.internet import reactor",
            "from twisted.internet import defer\nfrom twisted.internet.interfaces import IReactorTime",
        ]:
            self.assertFalse(takes_reactor(ast.parse(source)), source)
