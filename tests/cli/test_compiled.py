"""What attrs writes is compiled once, and a file that is not right is as good as none."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import attr._make
from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli import compiled as module
from weedtw.cli.compiled import Compiled

HASHED = "def __hash__(self):\n    return hash((\n        {},\n        self.a,\n    ))\n"
CLASSES = "import attrs\n@attrs.frozen\nclass Point:\n    x: int\n    y: int = 2\n"


def ran(compiled: Compiled, script: str, name: str = "<of a test>") -> dict[str, Any]:
    made: dict[str, Any] = {}
    compiled.run(script, {}, made, name)
    return made


def folder_of(test: SynchronousTestCase) -> Path:
    folder = tempfile.mkdtemp()
    test.addCleanup(shutil.rmtree, folder)
    return Path(folder)


class CompiledTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = folder_of(self)
        self.path = str(self.folder / "methods.code")
        self.compilations = 0
        vars(module)["compile"] = self.compile  # found there before the built-in one
        self.addCleanup(vars(module).pop, "compile")
        self.patch(sys, "dont_write_bytecode", False)

    def compile(self, *args: Any) -> Any:
        self.compilations += 1
        return compile(*args)

    def test_each_text_is_compiled_once(self) -> None:
        first = Compiled(self.path)
        self.assertEqual(ran(first, "a = 1")["a"], 1)
        first.keep()
        second = Compiled(self.path)
        self.assertEqual((ran(second, "a = 1")["a"], ran(second, "a = 2")["a"]), (1, 2))
        self.assertEqual(self.compilations, 2)
        second.keep()
        third = Compiled(self.path)
        self.assertEqual((ran(third, "a = 1")["a"], ran(third, "a = 2")["a"]), (1, 2))
        self.assertEqual(self.compilations, 2)

    def test_the_name_is_the_one_in_tracebacks(self) -> None:
        Compiled(self.path).keep()
        for _ in range(2):
            compiled = Compiled(self.path)
            for name in ("<a>", "<b>"):
                self.assertEqual(ran(compiled, "def f(): pass", name)["f"].__code__.co_filename, name)
            compiled.keep()
        self.assertEqual(self.compilations, 2)

    def test_the_number_in_a_hash_is_of_the_class_and_not_of_the_process(self) -> None:
        compiled = Compiled(self.path)
        one, other = (ran(compiled, HASHED.format(number), "<A>")["__hash__"] for number in (-123, 456))
        third = ran(compiled, HASHED.format(456), "<B>")["__hash__"]
        thing = type("Thing", (), {"a": 7})()
        self.assertEqual(one(thing), other(thing))
        self.assertNotEqual(one(thing), third(thing))
        self.assertEqual(self.compilations, 2)

    def test_nothing_new_is_nothing_to_write(self) -> None:
        compiled = Compiled(self.path)
        ran(compiled, "a = 1")
        compiled.keep()
        os.remove(self.path)
        compiled.keep()
        self.assertEqual(os.listdir(self.folder), [])

    def test_what_another_process_wrote_meanwhile_stays(self) -> None:
        one, other = Compiled(self.path), Compiled(self.path)
        ran(one, "a = 1")
        ran(other, "a = 2")
        one.keep()
        other.keep()
        both = Compiled(self.path)
        ran(both, "a = 1")
        ran(both, "a = 2")
        self.assertEqual(self.compilations, 2)

    def test_what_nobody_uses_goes_in_the_end(self) -> None:
        self.patch(module, "MOST", 3)
        for number in range(4):
            compiled = Compiled(self.path)
            ran(compiled, f"a = {number}")
            compiled.keep()
        self.compilations = 0
        compiled = Compiled(self.path)
        ran(compiled, "a = 3")
        self.assertEqual(self.compilations, 0)
        ran(compiled, "a = 0")
        self.assertEqual(self.compilations, 1)

    def test_a_damaged_file_is_made_anew(self) -> None:
        compiled = Compiled(self.path)
        ran(compiled, "a = 1")
        compiled.keep()
        whole = Path(self.path).read_bytes()
        changed = bytearray(whole)
        changed[-1] ^= 1
        other_python = b"\0\0\r\n" + whole[4:]
        for content in (b"", whole[:5], whole[:-3], bytes(changed), other_python, b"garbage" * 100):
            Path(self.path).write_bytes(content)
            compiled = Compiled(self.path)
            self.assertEqual(ran(compiled, "a = 1")["a"], 1)
            compiled.keep()
            self.assertEqual(Path(self.path).read_bytes(), whole)

    def test_a_folder_that_takes_nothing(self) -> None:
        compiled = Compiled(str(self.folder / "missing" / "methods.code"))
        self.assertEqual(ran(compiled, "a = 1")["a"], 1)
        compiled.keep()
        self.assertEqual(os.listdir(self.folder), [])

    def test_nothing_is_written_where_python_writes_nothing(self) -> None:
        self.patch(sys, "dont_write_bytecode", True)
        compiled = Compiled(self.path)
        ran(compiled, "a = 1")
        compiled.keep()
        self.assertEqual(os.listdir(self.folder), [])


class AttrsTests(SynchronousTestCase):
    """attrs still does what the module takes for granted."""

    def test_its_texts_are_run_here(self) -> None:
        known = len(module.compiled._used)
        self.assertEqual(attr._make._compile_and_eval, module.compiled.run)
        scope: dict[str, Any] = {}
        exec(CLASSES, scope)
        self.assertEqual(scope["Point"](1), scope["Point"](1, 2))
        self.assertEqual(len(module.compiled._used), known + 1)

    def test_what_the_daemons_need_can_be_made_beforehand(self) -> None:
        program = (
            "from weedtw.cli import compiled as module\n"
            f"module.compiled._path = {str(folder_of(self) / 'methods.code')!r}\n"
            "module.prepare(); print(*(name for name, _ in module._read(module.compiled._path)))"
        )
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        ended = subprocess.run(
            [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
        )
        for name in ("weedtw.config.model.MasterConfig", "weedtw.volume.hotread.HotReads"):
            self.assertIn(name, ended.stdout)

    def test_they_are_the_same_in_each_process(self) -> None:
        folder = folder_of(self)
        program = (
            "import sys; from weedtw.cli import compiled as module\n"
            f"kept = module.Compiled({str(folder / 'methods.code')!r})\n"
            "import attr._make; attr._make._compile_and_eval = kept.run\n"
            f"{CLASSES}"
            "assert hash(Point(1)) == hash(Point(1, 2))\n"
            "print(kept._is_new); kept.keep()"
        )
        said = []
        for seed in ("1", "2"):
            environment = {**os.environ, "PYTHONHASHSEED": seed}
            environment.pop("PYTHONDONTWRITEBYTECODE", None)
            ended = subprocess.run(
                [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
            )
            said.append(ended.stdout.strip())
        self.assertEqual(said, ["True", "False"])
