"""Why a volume takes no writes, by cause, so that each can come and go by itself."""

from typing import Final, Literal

import attrs

Cause = Literal[
    "damage",  # found at open, or a write that could neither be done nor undone
    "version",  # an old format that is only read
    "operator",  # somebody said so
    "full disk",  # a write met the end of the disk
    "failing disk",  # the disk refuses writes for another reason, again and again
    "lost files",  # the open files are not in their folder any more
    "low space",  # the disk has less room than is to be left free
]

_DELETIONS_PASS: Final = frozenset(("full disk", "low space"))  # deleting is how room is made


@attrs.define
class Causes:
    """The causes that hold now, each with its reason.  Change them under the volume's lock."""

    reasons: dict[Cause, str] = attrs.Factory(dict)
    untold: bool = False  # whether the volume turned, or ceased to be, read-only and nobody was told yet

    def set(self, cause: Cause, reason: str | None) -> None:
        """Note a cause, or that it is gone when `reason` is None."""
        before = dict(self.reasons)
        if reason is None:
            self.reasons.pop(cause, None)
        else:
            self.reasons[cause] = reason
        self.untold = self.untold or self.reasons != before

    def apart_from(self, passed_over: Cause) -> str:
        """The reasons of all other causes; empty when there are none."""
        return "; ".join(reason for cause, reason in list(self.reasons.items()) if cause != passed_over)

    def against(self, *, deleting: bool) -> str:
        """The reason that speaks against a write, or against a deletion; empty when none does."""
        causes = list(self.reasons.items())  # as it is now: others may change it meanwhile
        return "; ".join(reason for cause, reason in causes if not (deleting and cause in _DELETIONS_PASS))
