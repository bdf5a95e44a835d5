"""The replicated state of the history tests: numbers by name, which can be set, added to and read."""

import json


class Register:
    """A state machine.  A command is a JSON list: ["set" or "add", key, number]."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    def get(self, key: str) -> int:
        return self.values.get(key, 0)

    def apply(self, index: int, data: bytes) -> object:
        verb, key, number = json.loads(data)
        self.values[key] = number if verb == "set" else self.get(key) + number
        return self.values[key]

    def snapshot(self) -> bytes:
        return json.dumps(self.values).encode()

    def restore(self, data: bytes) -> None:
        self.values = json.loads(data) if data else {}
