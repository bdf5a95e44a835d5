"""Preconditions, dates and what a client takes."""

import email.utils

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.http.accept import accepts_gzip, weights
from weedtw.http.conditional import (
    Conditions,
    Validators,
    Verdict,
    evaluate,
    format_date,
    parse_date,
    range_applies,
)

NOW = 1_234_567_890
THEN, LATER = "Fri, 13 Feb 2009 23:31:29 GMT", "Fri, 13 Feb 2009 23:31:31 GMT"
SAME = "Fri, 13 Feb 2009 23:31:30 GMT"
FILE = Validators('"abc"', NOW)
WEAK = Validators('W/"abc"', NOW)
PROCEED, UNCHANGED, FAILED = Verdict.PROCEED, Verdict.NOT_MODIFIED, Verdict.FAILED


class IfNoneMatchTests(SynchronousTestCase):
    def test_the_tag_of_another_encoding_names_the_same_state(self) -> None:
        both = Validators('"abc-gzip"', NOW, '"abc"')
        for tag in ('"abc"', '"abc-gzip"', '"x", "abc"'):
            self.assertIs(evaluate(Conditions(if_none_match=tag), "GET", both), UNCHANGED)
            self.assertIs(evaluate(Conditions(if_match=tag), "PUT", both), PROCEED)
        self.assertIs(evaluate(Conditions(if_none_match='"ab"'), "GET", both), PROCEED)
        self.assertTrue(range_applies(Conditions(if_range='"abc-gzip"'), both))
        self.assertFalse(range_applies(Conditions(if_range='"abc"'), both), "its bytes are others")

    def test_lists_stars_and_weak_tags(self) -> None:
        for field, verdict in (
            ('"abc"', UNCHANGED),
            ('W/"abc"', UNCHANGED),
            ('"x", "abc"', UNCHANGED),
            ('"x","y" , W/"abc"', UNCHANGED),
            (' ,, "abc",', UNCHANGED),
            ('"a,b", "abc"', UNCHANGED),
            ("*", UNCHANGED),
            (" * ", UNCHANGED),
            ('"x"', PROCEED),
            ("", PROCEED),
            ("abc", PROCEED),
            ('"ab', PROCEED),
            ('"abcd"', PROCEED),
            ('w/"abc"', PROCEED),
            ('"x" "abc"', UNCHANGED),  # a missing comma is forgiven
            ('"*"', PROCEED),
        ):
            self.assertIs(evaluate(Conditions(if_none_match=field), "GET", FILE), verdict, field)
            self.assertIs(evaluate(Conditions(if_none_match=field), "HEAD", WEAK), verdict, field)

    def test_for_a_write_it_is_a_failure(self) -> None:
        for method in ("PUT", "POST", "DELETE"):
            self.assertIs(evaluate(Conditions(if_none_match="*"), method, FILE), FAILED)
            self.assertIs(evaluate(Conditions(if_none_match="*"), method, None), PROCEED)

    def test_it_silences_if_modified_since(self) -> None:
        conditions = Conditions(if_none_match='"other"', if_modified_since=LATER)
        self.assertIs(evaluate(conditions, "GET", FILE), PROCEED)
        conditions = Conditions(if_none_match='"abc"', if_modified_since=THEN)
        self.assertIs(evaluate(conditions, "GET", FILE), UNCHANGED)


class DateConditionTests(SynchronousTestCase):
    def test_if_modified_since(self) -> None:
        for field, verdict in ((SAME, UNCHANGED), (LATER, UNCHANGED), (THEN, PROCEED), ("yesterday", PROCEED)):
            self.assertIs(evaluate(Conditions(if_modified_since=field), "GET", FILE), verdict, field)
        self.assertIs(evaluate(Conditions(if_modified_since=SAME), "PUT", FILE), PROCEED)
        self.assertIs(evaluate(Conditions(if_modified_since=SAME), "GET", Validators('"a"', None)), PROCEED)
        self.assertIs(evaluate(Conditions(if_modified_since=SAME), "GET", None), PROCEED)

    def test_if_unmodified_since(self) -> None:
        for field, verdict in ((SAME, PROCEED), (LATER, PROCEED), (THEN, FAILED), ("yesterday", PROCEED)):
            self.assertIs(evaluate(Conditions(if_unmodified_since=field), "GET", FILE), verdict, field)
        self.assertIs(evaluate(Conditions(if_match='"abc"', if_unmodified_since=THEN), "GET", FILE), PROCEED)


class IfMatchTests(SynchronousTestCase):
    def test_strongly(self) -> None:
        for field, verdict in (
            ('"abc"', PROCEED),
            ('"x", "abc"', PROCEED),
            ("*", PROCEED),
            ('W/"abc"', FAILED),
            ('"x"', FAILED),
            ("", FAILED),
        ):
            self.assertIs(evaluate(Conditions(if_match=field), "DELETE", FILE), verdict, field)
        self.assertIs(evaluate(Conditions(if_match='"abc"'), "PUT", WEAK), FAILED)
        for field in ("*", '"abc"'):
            self.assertIs(evaluate(Conditions(if_match=field), "PUT", None), FAILED)
            self.assertIs(evaluate(Conditions(if_none_match=field), "PUT", None), PROCEED)

    def test_it_comes_before_the_others(self) -> None:
        self.assertIs(evaluate(Conditions(if_match='"x"', if_none_match='"abc"'), "GET", FILE), FAILED)
        self.assertIs(evaluate(Conditions(if_match='"abc"', if_none_match='"abc"'), "GET", FILE), UNCHANGED)

    def test_a_file_without_a_tag(self) -> None:
        self.assertIs(evaluate(Conditions(if_match='"abc"'), "GET", Validators(None, NOW)), FAILED)
        self.assertIs(evaluate(Conditions(if_match="*"), "GET", Validators(None, NOW)), PROCEED)


class IfRangeTests(SynchronousTestCase):
    def test_each(self) -> None:
        for field, applies in (
            (None, True),
            ('"abc"', True),
            (' "abc" ', True),
            (SAME, True),
            ('"x"', False),
            ('W/"abc"', False),
            (THEN, False),
            (LATER, False),
            ("*", False),
            ("", False),
        ):
            self.assertIs(range_applies(Conditions(if_range=field), FILE), applies, field)
        self.assertFalse(range_applies(Conditions(if_range='W/"abc"'), WEAK))
        self.assertFalse(range_applies(Conditions(if_range=SAME), Validators('"abc"', None)))

    def test_they_come_from_a_request(self) -> None:
        headers = {"If-None-Match": "*", "If-Range": '"a"'}
        self.assertEqual(Conditions.of(headers.get), Conditions(if_none_match="*", if_range='"a"'))


class DateTests(SynchronousTestCase):
    def test_three_forms(self) -> None:
        for text in (SAME, "Friday, 13-Feb-09 23:31:30 GMT", "Fri Feb 13 23:31:30 2009"):
            self.assertEqual(parse_date(text), NOW, text)
        self.assertEqual(parse_date("Sun Nov  6 08:49:37 1994"), 784111777)
        self.assertEqual(parse_date("Sunday, 06-Nov-94 08:49:37 GMT"), 784111777)
        self.assertEqual(parse_date("Sat, 31 Dec 2016 23:59:60 GMT"), 1483228799)

    def test_what_is_no_date(self) -> None:
        for text in (
            "",
            "0",
            str(NOW),
            "Fri, 13 Feb 2009 23:31:30",
            "Fri, 13 Feb 2009 23:31:30 +0100",
            "Fri, 13 Foo 2009 23:31:30 GMT",
            "Fri, 31 Feb 2009 23:31:30 GMT",
            "Fri, 13 Feb 2009 24:31:30 GMT",
            "Fri, 13 Feb 0000 23:31:30 GMT",
            "fri, 13 feb 2009 23:31:30 gmt",
            "Fri, \u0661\u0663 Feb 2009 23:31:30 GMT",
        ):
            self.assertIsNone(parse_date(text), text)

    @given(st.integers(0, 253402300799))
    def test_there_and_back(self, seconds: int) -> None:
        text = format_date(seconds)
        self.assertEqual(parse_date(text), seconds)
        self.assertEqual(text, email.utils.formatdate(seconds, usegmt=True))

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        conditions = Conditions(text, text, text, text, text)
        self.assertIn(evaluate(conditions, "GET", FILE), set(Verdict))
        range_applies(conditions, FILE)


class AcceptTests(SynchronousTestCase):
    def test_gzip(self) -> None:
        for header, takes in (
            (None, False),
            ("", False),
            ("gzip", True),
            ("GZip", True),
            ("x-gzip", True),
            ("deflate, gzip;q=0.5", True),
            ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
            ("*", True),
            ("gzip;q=0", False),
            ("gzip;q=0.000", False),
            ("gzip; Q=0", False),
            ("*;q=0", False),
            ("gzip;q=0, *", False),
            ("gzip, *;q=0", True),
            ("identity", False),
            ("identity, gzip;q=0.5", False),
            ("gzip;q=2", False),
            ("gzip;q=x", False),
            ("gzipped", False),
            ("deflate, br", False),
        ):
            self.assertIs(accepts_gzip(header), takes, header)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        self.assertTrue(all(0 <= weight <= 1 for weight in weights(text).values()))
