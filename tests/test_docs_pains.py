"""The tests that docs/pains.md names are there: whoever renames one, or takes it away, hears of it."""

import ast
import os
import re
from functools import cache

from twisted.trial.unittest import SynchronousTestCase

TESTS = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(os.path.dirname(TESTS), "docs", "pains.md")

_NAMED = re.compile(r"`([\w/]+\.py)::((?:\w+::)?\w+)`")


def rows() -> list[list[str]]:
    """The cells of each row of the page's tables, without the heads."""
    with open(PAGE, encoding="utf-8") as page:
        lines = [line.strip() for line in page if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "what happened there" and set(row[0]) != {"-"}]


@cache
def names_in(path: str) -> frozenset[str]:
    """The tests that a file defines: `test_name`, or `Class::test_name`."""
    with open(os.path.join(TESTS, path), encoding="utf-8") as file:
        module = ast.parse(file.read())
    found = set()
    for node in module.body:
        inner, prefix = (node.body, f"{node.name}::") if isinstance(node, ast.ClassDef) else ([node], "")
        found |= {prefix + each.name for each in inner if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    return frozenset(name for name in found if name.rpartition("::")[2].startswith("test_"))


class PainsTests(SynchronousTestCase):
    def test_every_answer_names_tests_that_exist(self) -> None:
        for trouble, answer, *rest in rows():
            self.assertEqual(len(rest), 1, trouble)
            named = _NAMED.findall(rest[0])
            self.assertGreaterEqual(len(named), 2, trouble)
            self.assertEqual(_NAMED.sub("", rest[0]).replace("<br>", ""), "", trouble)
            self.assertEqual(len(set(named)), len(named), trouble)
            self.assertTrue(answer.endswith("."), trouble)
            missing = [f"{path}::{name}" for path, name in named if name not in names_in(path)]
            self.assertEqual(missing, [], trouble)

    def test_no_trouble_is_left_out(self) -> None:
        self.assertGreaterEqual(len(rows()), 26)

    def test_one_that_is_gone_is_noticed(self) -> None:
        """This very file, for example."""
        here = names_in(os.path.basename(__file__))
        self.assertIn("PainsTests::test_one_that_is_gone_is_noticed", here)
        self.assertNotIn("PainsTests::test_that_was_never_there", here)
        self.assertNotIn("rows", here)
