"""What the classes of errors have in common."""

import pickle

from twisted.trial.unittest import SynchronousTestCase

from weedtw import errors
from weedtw.errors import BadFileId, BadRequest, NoRoom, WeedError


class WeedErrorTests(SynchronousTestCase):
    def test_fields_by_place_and_by_name(self) -> None:
        for error in (BadFileId("odd", "x"), BadFileId("odd", text="x"), BadFileId(text="x", reason="odd")):
            self.assertEqual((error.reason, error.text, error.args), ("odd", "x", ("odd", "x")))
            self.assertEqual(str(error), "'x' is not a file id: odd")

    def test_defaults(self) -> None:
        error = BadFileId("odd")
        self.assertEqual((error.text, error.args), ("", ("odd", "")))

    def test_wrong_fields(self) -> None:
        for wrong in (
            BadFileId,
            lambda: NoRoom("a", "b"),  # type: ignore[call-arg]
            lambda: NoRoom(why="a"),  # type: ignore[call-arg]
            lambda: NoRoom("a", reason="b"),  # type: ignore[misc]
        ):
            self.assertRaises(TypeError, wrong)

    def test_survives_pickling(self) -> None:
        again = pickle.loads(pickle.dumps(BadFileId("odd", "x")))
        self.assertEqual((type(again), again.reason, again.text), (BadFileId, "odd", "x"))

    def test_one_without_fields_is_told_by_its_docstring(self) -> None:
        self.assertIn("Parent of all errors", str(WeedError()))

    def test_every_class_has_a_docstring_of_its_own(self) -> None:
        kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, WeedError)]
        self.assertIn(BadRequest, kinds)
        for kind in kinds:
            self.assertTrue(vars(kind).get("__doc__"), kind.__name__)
