"""How options may be written: Go's way and GNU's, and what is said of those that are mistyped."""

import io
from contextlib import redirect_stderr, redirect_stdout

import click
from twisted.trial.unittest import SynchronousTestCase

from weedtw import __version__
from weedtw.cli import main as program
from weedtw.cli.session import command, option, switch
from weedtw.cli.spelling import plain


@command("A command for these tests.")
@click.argument("names", nargs=-1)
@option("output", "o", help="A file.")
@option("number", "volumeId", type=int, help="A number.")
@option("as_json", "json", is_flag=True, help="A flag.")
@switch("kept", "keep", "A flag that is on.", default=True)
def sample(names: tuple[str, ...], output: str | None, number: int | None, as_json: bool, kept: bool) -> int:
    """Do nothing."""
    del names, output, number, as_json, kept
    return 0


def run(line: str) -> tuple[int, str, str]:
    """Exit status, standard output, standard error of `weedtw` with these words."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = program.main(line.split())
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
    return status, out.getvalue(), err.getvalue()


class PlainTests(SynchronousTestCase):
    """The words as click reads them."""

    def test_spellings_of_one_option(self) -> None:
        for line in ("-volumeId 3", "-volumeId=3", "--volumeId 3", "--volumeId=3"):
            self.assertEqual(plain(line.split(), sample), ["--volumeId=3"])

    def test_an_option_of_one_letter_has_a_value_behind_an_equals_sign(self) -> None:
        self.assertEqual(plain(["-o=x.tar", "-o", "-"], sample), ["--o=x.tar", "--o=-"])

    def test_flags(self) -> None:
        for line, read in (
            ("-json", ["--json"]),
            ("--json=true a", ["--json", "a"]),
            ("-json=false", []),
            ("-json -json=0", []),  # the last one counts
            ("-json=f --json", ["--json"]),
            ("-keep a", ["--keep=true", "a"]),  # a flag takes no second word
            ("-keep=false a", ["--keep=false", "a"]),
        ):
            self.assertEqual(plain(line.split(), sample), read, line)

    def test_what_is_no_option(self) -> None:
        for words in (["a", "-"], ["a", "--", "-volumId=3", "--json"], [""]):
            self.assertEqual(plain(words, sample), words)

    def test_values_may_begin_with_a_dash(self) -> None:
        self.assertEqual(plain(["-o", "-x", "-volumeId", "-1"], sample), ["--o=-x", "--volumeId=-1"])

    def test_mistakes(self) -> None:
        for line, said in (
            ("-volumId=3", "--volumId: unknown option; did you mean --volumeId?"),
            ("-jsno", "--jsno: unknown option; did you mean --json?"),
            ("-quux", "--quux: unknown option."),
            ("-volumeId", "--volumeId: a value is missing."),
            ("-volumeId -o=x", "--volumeId: a value is missing, '-o=x' is an option itself."),
        ):
            error = self.assertRaises(click.UsageError, plain, line.split(), sample)
            self.assertEqual(error.format_message(), said)


class EveryCommandTests(SynchronousTestCase):
    """What holds of each command of `weedtw`."""

    names = (*program.COMMANDS, "cluster status", "cluster add", "cluster show", "cluster recover")

    def test_version(self) -> None:
        for name in (*program.DAEMONS, *self.names, "help"):
            for spelling in ("--version", "-version"):
                self.assertEqual(run(f"{name} {spelling}"), (0, f"weedtw {__version__}\n", ""), name)

    def test_a_mistyped_option(self) -> None:
        for line, meant in (
            ("fix -volumId=3", "--volumeId"),
            ("compact -methd=data", "--method"),
            ("export -fileNameFromat=x", "--fileNameFormat"),
            ("backup -mastr=x", "--master"),
            ("verify -jsn", "--json"),
            ("inspect -limti=3 x", "--limit"),
            ("shell -mastre=x", "--master"),
            ("cluster status -lnog", "--long"),
            ("master -prot=9333", "--port"),
            ("volume -mservr=x", "--mserver"),
            ("server -master.prot=1", "--master.port"),
        ):
            status, out, err = run(line)
            self.assertEqual((status, out, err.count("\n")), (2, "", 1), line)
            self.assertIn(f": unknown option; did you mean {meant}?", err)

    def test_any_unknown_option_is_a_misuse(self) -> None:
        for name in self.names:
            status, out, err = run(f"{name} -zzzzzz=1")
            self.assertEqual((status, out, err.count("\n")), (2, "", 1), name)
            self.assertIn("--zzzzzz: unknown option", err)
            self.assertNotIn("Traceback", err)

    def test_numbers_that_are_none(self) -> None:
        for line in ("verify -volumeId=x", "export -limit=-1", "backup -volumeId=0", "inspect -limit=many x"):
            status, _, err = run(line)
            self.assertEqual((status, "is not a whole number from" in err), (2, True), err)

    def test_what_has_to_be_given(self) -> None:
        for line, said in (
            ("backup -replication=000", "weedtw backup: --volumeId has to be given. See weedtw backup --help.\n"),
            ("backup -volumeId=1 -replication=1", "weedtw backup: replication '1': not three digits."),
            ("backup -volumeId=1 -ttl=3q", "weedtw backup: ttl '3q': not a number with a unit"),
        ):
            status, out, err = run(line)
            self.assertEqual((status, out, err.startswith(said)), (2, "", True), err)
