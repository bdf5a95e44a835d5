"""What attrs writes, compiled once.

attrs writes the methods of each class in Python and compiles them, at every start: for the two hundred classes of a
daemon that is a fifth of the time until it answers.  Python itself compiles a module once and keeps the result in
`__pycache__`.  So is it done here with what attrs writes, in one file there:

    0   4 bytes  Python's magic number: which bytecode this is
    4   4 bytes  CRC-32 of the rest, big-endian
    8   rest     marshal of {(file name, text): marshal of its code}

A file that is not like this is not used and made anew; one that cannot be written is done without, as Python does.
Whoever installs weedtw where its daemons may not write has it made beforehand:

    python -c 'from weedtw.cli.compiled import prepare; prepare()'
"""

import importlib
import importlib.util
import marshal
import os
import re
import sys
import zlib
from collections.abc import Mapping
from typing import Any, Final

import attr._make

MOST: Final = 2000  # texts in the file: beyond it, what older versions left there goes
_HEAD: Final = 8
# The number that tells the hashes of one class from another's: each process has others.
_SALT: Final = re.compile(r"(hash\(\(\s+)-?[0-9]+(?=,)")

_Key = tuple[str, str]


def file_name() -> str:
    """The file of this Python, beside the bytecode of this package."""
    named = os.path.join(os.path.dirname(__file__), "attrs-methods.py")
    return importlib.util.cache_from_source(named).removesuffix("pyc") + "code"


class Compiled:
    """The code of what was compiled before, by its text; `path` is where it is kept."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known = _read(path)
        self._used: dict[_Key, bytes] = {}
        self._is_new = False

    def run(
        self, script: str, globs: dict[str, Any] | None, locs: Mapping[str, object] | None = None, filename: str = ""
    ) -> None:
        """Run a text, in place of attrs' `_compile_and_eval`."""
        # A number from the class' name does the same, and is the same in each process.
        script = _SALT.sub(rf"\g<1>{zlib.crc32(filename.encode())}", script)
        key = filename, script
        kept = self._known.get(key)
        if kept is None:
            code = compile(script, filename, "exec")
            kept = self._known[key] = marshal.dumps(code)
            self._is_new = True
        else:
            code = marshal.loads(kept)  # noqa: S302 - as trusted as the bytecode beside it
        self._used[key] = kept
        eval(code, globs, locs)  # noqa: S307 - attrs' own text

    def keep(self) -> None:
        """Write down what was compiled since; with `-B` and the like nothing is written, as with other bytecode."""
        if not self._is_new or sys.dont_write_bytecode:
            return
        self._is_new = False
        known = {**_read(self._path), **self._used}  # others may have written meanwhile
        body = marshal.dumps(known if len(known) <= MOST else self._used)
        unfinished = f"{self._path}.{os.getpid()}"
        try:
            with open(unfinished, "wb") as file:
                file.write(importlib.util.MAGIC_NUMBER + zlib.crc32(body).to_bytes(4, "big") + body)
            os.replace(unfinished, self._path)
        except OSError:  # a folder of somebody else: then each start takes its time
            _remove(unfinished)


def _read(path: str) -> dict[_Key, bytes]:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return {}
    body = content[_HEAD:]
    if content[:4] != importlib.util.MAGIC_NUMBER or content[4:_HEAD] != zlib.crc32(body).to_bytes(4, "big"):
        return {}
    known: dict[_Key, bytes] = marshal.loads(body)  # noqa: S302 - see above
    return known


def _remove(path: str) -> None:
    try:
        os.remove(path)
    except OSError:  # it was not even begun
        return


compiled: Final = Compiled(file_name())


def prepare() -> None:
    """Compile what the daemons need, and keep it."""
    for module in ("weedtw.cli.run", "weedtw.cli.services", "weedtw.master.service", "weedtw.volume.service"):
        importlib.import_module(module)
    compiled.keep()


def install() -> None:
    """Let attrs run its texts here, from now on."""
    attr._make._compile_and_eval = compiled.run
