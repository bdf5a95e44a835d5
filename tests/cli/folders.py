"""What the tests of the commands on folders of volumes have in common."""

import json
import os
from collections.abc import Callable
from pathlib import Path

SAMPLE = Path(__file__).parent.parent / "sample"
Say = Callable[..., tuple[int, str, str]]


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".weedtw.lock"}


def findings(say: Say, folder: Path) -> list[str]:
    """What verify finds; and that it changes nothing."""
    before = state(folder)
    status, out, _ = say("verify", folder, "--json")
    assert state(folder) == before
    [volume] = json.loads(out)
    assert status == (0 if volume["sound"] else 1)
    return [f"{os.path.basename(one['path'])} {one['offset']} {one['what']}" for one in volume["findings"]]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path: Path, offset: int) -> None:
    data = path.read_bytes()
    overwrite(path, offset, bytes([data[offset] ^ 0x40]))
