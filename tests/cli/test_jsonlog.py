"""The log for programs: whatever is logged becomes one line that says all of it."""

import io
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from weedtw.cli.jsonlog import json_observer, line_of

FIELDS = st.text().filter(lambda name: not name.startswith("log_"))  # those are the logger's own


class Unshowable:
    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__


class JsonLogTests(SynchronousTestCase):
    def logged(self, level: LogLevel, text: str | None, **fields: Any) -> dict[str, Any]:
        out = io.StringIO()
        logger = Logger("weedtw.test", observer=LogPublisher(json_observer(out)))
        logger.emit(level, text, **fields)
        (line,) = out.getvalue().splitlines()
        found: dict[str, Any] = json.loads(line)
        return found

    def test_a_line(self) -> None:
        fields = {"id": 7, "where": "a:1", "share": 1.5, "none": None}
        line = self.logged(LogLevel.warn, "volume {id} of {where!r}\nis here", **fields)
        self.assertRegex(line.pop("time"), r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(
            line,
            {
                "level": "warn",
                "namespace": "weedtw.test",
                "message": "volume 7 of 'a:1'\nis here",
                "fields": fields,
            },
        )

    def test_a_failure_has_its_traceback(self) -> None:
        try:
            raise ValueError("here")
        except ValueError:
            failure = Failure()
        line = self.logged(LogLevel.critical, "while {doing}", doing="it", log_failure=failure)
        self.assertEqual((line["level"], line["message"]), ("critical", "while it"))
        self.assertIn("ValueError: here", line["traceback"])
        self.assertIn("test_a_failure_has_its_traceback", line["traceback"])
        self.assertEqual(self.logged(LogLevel.critical, "", log_failure=failure)["message"], "here")

    def test_what_cannot_be_shown_does_not_cost_the_line(self) -> None:
        line = self.logged(LogLevel.info, "see {it}", it=Unshowable(), nan=float("nan"), raw=b"a\xff", ids=[1, 2])
        self.assertIn("cannot be shown", line["fields"]["it"])
        self.assertEqual(line["fields"]["nan"], "nan")
        self.assertEqual(line["fields"]["raw"], "a\ufffd")
        self.assertEqual(line["fields"]["ids"], "[1, 2]")

    @given(st.dictionaries(FIELDS, st.none() | st.text() | st.floats() | st.binary() | st.integers()))
    def test_any_event_is_one_line_of_json(self, event: dict[str, Any]) -> None:
        line = line_of(event)
        self.assertEqual(line.count("\n"), 1)
        self.assertEqual(set(json.loads(line)) - {"fields"}, {"time", "level", "namespace", "message"})
