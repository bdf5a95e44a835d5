"""The `twist` plugins: found, described, and reading options by our table."""

import io
import sys

from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase

from twisted.plugins import weedtw_master, weedtw_server, weedtw_volume
from weedtw.cli import tap_master, tap_server, tap_volume
from weedtw.cli.plugin import DaemonOptions
from weedtw.config import MasterConfig, ServerConfig, VolumeConfig


class PluginTests(SynchronousTestCase):
    """What `twist` sees."""

    def test_makers(self) -> None:
        for maker, tap in (
            (weedtw_master.weed_master, tap_master),
            (weedtw_volume.weed_volume, tap_volume),
            (weedtw_server.weed_server, tap_server),
        ):
            self.assertTrue(IPlugin.providedBy(maker))
            self.assertIs(maker.options, tap.Options)
            self.assertIs(maker.makeService, tap.makeService)
            self.assertEqual(maker.tapname, f"weed-{tap.Options.program}")

    def test_options(self) -> None:
        for kind, line, made in (
            (tap_master.Options, "--port 9334 --mdir ./m", MasterConfig(port=9334, mdir="./m")),
            (tap_volume.Options, "-port=8081", VolumeConfig(port=8081, public_url="localhost:8081")),
            (
                tap_server.Options,
                "",
                ServerConfig(
                    master=MasterConfig(port_option="--master.port"),
                    volume=VolumeConfig(public_url="localhost:8080", port_option="--volume.port"),
                ),
            ),
        ):
            options = kind()
            options.parseOptions(line.split())
            self.assertEqual(options.loaded.config, made)

    def ended(self, options: DaemonOptions, *words: str) -> tuple[object, str, str]:
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        with self.assertRaises(SystemExit) as caught:
            options.parseOptions(words)
        return caught.exception.code, out.getvalue(), err.getvalue()

    def test_error_is_one_line(self) -> None:
        expected = "weed-master: --prot: unknown option; did you mean --port?\n"
        self.assertEqual(self.ended(tap_master.Options(), "--prot", "1"), (2, "", expected))

    def test_log_options_are_those_of_twist(self) -> None:
        expected = "weed-volume: --logFormat: unknown option\n"
        self.assertEqual(self.ended(tap_volume.Options(), "--logFormat=json"), (2, "", expected))

    def test_help(self) -> None:
        status, out, err = self.ended(tap_server.Options(), "--help")
        self.assertEqual((status, err), (0, ""))
        self.assertTrue(out.startswith("Usage: twist weed-server "))
        self.assertNotIn("--logFormat", out)
        self.assertEqual(out, str(tap_server.Options()))
