"""security.toml: what is taken from it, and what is refused."""

import os
import tempfile
import tomllib

from twisted.trial.unittest import SynchronousTestCase

from weedtw.config import security
from weedtw.config.load import Loaded, load
from weedtw.config.model import MasterConfig, ServerConfig
from weedtw.config.network import OwnNetwork
from weedtw.config.security import NO_SECURITY, SecurityConfig, TlsFiles
from weedtw.errors import ConfigError

# As `weed scaffold -config=security` writes it, with keys in two places.
OF_SEAWEEDFS = """
[cors.allowed_origins]
values = "*"
[access]
ui = false
[guard]
white_list = ""
[jwt.signing]
key = "a key of more than thirty-two bytes, for writing"
expires_after_seconds = 10
[jwt.signing.read]
key = ""
expires_after_seconds = 10
[jwt.filer_signing]
key = ""
[grpc]
ca = ""
[grpc.volume]
cert = ""
key = ""
[https.client]
enabled = false
"""


def parse(text: str) -> SecurityConfig:
    return security.parse(tomllib.loads(text), "s.toml")


class SecurityTests(SynchronousTestCase):
    def test_as_seaweedfs_has_it(self) -> None:
        found = parse(OF_SEAWEEDFS)
        self.assertEqual(found.write_key, "a key of more than thirty-two bytes, for writing")
        self.assertEqual((found.write_seconds, found.read_key, found.white_list, found.notes), (10, "", (), ()))

    def test_the_keys_are_not_shown(self) -> None:
        self.assertNotIn("a key", repr(parse(OF_SEAWEEDFS)))

    def test_white_list(self) -> None:
        self.assertEqual(
            parse("[guard]\nwhite_list = '10.0.0.1, 10.1.0.0/16'").white_list, ("10.0.0.1", "10.1.0.0/16")
        )
        self.assertEqual(parse("[guard]\nwhite_list = ['10.0.0.1']").white_list, ("10.0.0.1",))

    def test_certificates(self) -> None:
        found = security.parse(
            tomllib.loads("[tls]\nca = 'ca.crt'\ncert = '/c.crt'\nkey = '/c.key'"), "/etc/weedtw/s.toml"
        )
        self.assertEqual(found.tls, TlsFiles("/c.crt", "/c.key", "/etc/weedtw/ca.crt"))
        self.assertEqual((found.scheme, NO_SECURITY.scheme), ("https", "http"))
        self.assertIsNone(parse("[tls]\nca = ''").tls)

    def test_a_short_key_is_mentioned(self) -> None:
        [note] = parse("[jwt.signing.read]\nkey = 'short'").notes
        self.assertIn("[jwt.signing.read]", note)

    def test_what_is_wrong(self) -> None:
        for text, words in (
            ("[jwt]\nsigning = 3", "not a table"),
            ("[jwt.signing]\nkey = 3", "not a text"),
            ("[jwt.signing]\nkeys = 'x'", "unknown"),
            ("[jwt.singing]\nkey = 'x'", "unknown table"),
            ("[jwt.signing]\nexpires_after_seconds = 0", "not a number of seconds"),
            ("[jwt.signing]\nexpires_after_seconds = true", "not a number of seconds"),
            ("[guard]\nwhite_list = 7", "neither a text"),
            ("[gard]\nwhite_list = ''", "unknown table"),
            ("[grpc.master]\ncert = '/etc/c.pem'", "a table [tls]"),
            ("[https.client]\nenabled = true", "a table [tls]"),
            ("[tls]\ncert = 'a'\nkey = 'b'", "ca must be given"),
            ("[tls]\nca = 'a'\ncert = 'b'", "together"),
            ("[tls]\nca = 3", "paths of files"),
            ("[tls]\nauthority = 'a'", "unknown"),
        ):
            error = self.assertRaises(ConfigError, parse, text)
            self.assertIn(words, str(error), text)
            self.assertIn("s.toml", str(error))


class LoadTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def loaded(self, program: str, *words: str) -> Loaded:
        found = load(program, [*words, f"-config_dir={self.folder}"], OwnNetwork())  # type: ignore[arg-type]
        assert isinstance(found, Loaded)
        return found

    def write(self, text: str) -> None:
        with open(os.path.join(self.folder, "security.toml"), "w", encoding="utf-8") as file:
            file.write(text)

    def test_it_is_found_in_the_folder_of_configurations(self) -> None:
        self.write(OF_SEAWEEDFS)
        config = self.loaded("master").config
        assert isinstance(config, MasterConfig)
        self.assertTrue(config.security.write_key)
        self.assertIn("security.toml are used", " ".join(self.loaded("master").notes))

    def test_both_parts_of_a_server_have_it(self) -> None:
        self.write(OF_SEAWEEDFS)
        config = self.loaded("server").config
        assert isinstance(config, ServerConfig)
        self.assertEqual(config.master.security, config.volume.security)
        self.assertTrue(config.volume.security.write_key)

    def test_the_command_line_has_the_last_word_on_the_white_list(self) -> None:
        self.write("[guard]\nwhite_list = '10.0.0.1'")
        self.assertEqual(self.loaded("master").config.white_list, ("10.0.0.1",))  # type: ignore[union-attr]
        self.assertEqual(self.loaded("master", "-whiteList=::1").config.white_list, ("::1",))  # type: ignore[union-attr]

    def test_without_a_file(self) -> None:
        self.assertEqual(self.loaded("master").config.security, NO_SECURITY)  # type: ignore[union-attr]

    def test_one_that_cannot_be_read(self) -> None:
        self.write("[jwt")
        self.assertIn("not TOML", str(self.assertRaises(ConfigError, self.loaded, "master")))
