"""Volume information in JSON."""

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import Damaged
from weedtw.formats.replication import ReplicaPlacement
from weedtw.formats.vif import VolumeInfo

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)
INFOS = st.builds(
    VolumeInfo,
    version=st.sampled_from((1, 2, 3)),
    replication=st.none() | st.builds(ReplicaPlacement.from_byte, st.integers(0, 255)),
    bytes_offset=st.sampled_from((0, 4, 5)),
    dat_file_size=st.integers(0, 2**63 - 1),
    expire_at_sec=st.integers(0, 2**63 - 1),
    read_only=st.booleans(),
    read_only_can_delete=st.booleans(),
    others=st.fixed_dictionaries({"files": VALUES, "ecShardConfig": VALUES, "strange": VALUES}),
)


class VolumeInfoTests(SynchronousTestCase):
    def test_rendered_as_seaweedfs_does(self) -> None:
        info = VolumeInfo(replication=ReplicaPlacement.parse("010"), bytes_offset=5, expire_at_sec=1795405882)
        self.assertEqual(
            info.render(),
            '{\n  "files":  [],\n  "version":  3,\n  "replication":  "010",\n  "bytesOffset":  5,\n'
            '  "datFileSize":  "0",\n  "expireAtSec":  "1795405882",\n  "readOnly":  false,\n'
            '  "ecShardConfig":  null,\n  "readOnlyCanDelete":  false\n}',
        )

    def test_nested_values_are_indented(self) -> None:
        others = {
            "files": [{"key": "a", "size": "3"}],
            "ecShardConfig": {"dataShards": 10, "list": [1, 2], "none": {}},
        }
        text = VolumeInfo(others=others).render()
        self.assertIn('"files":  [\n    {\n      "key":  "a",\n      "size":  "3"\n    }\n  ],\n', text)
        self.assertIn('"ecShardConfig":  {\n    "dataShards":  10,\n    "list":  [\n      1,\n      2\n    ],', text)
        self.assertEqual(VolumeInfo.parse(text).others, others)

    def test_numbers_with_and_without_quotes(self) -> None:
        info = VolumeInfo.parse('{"version": "2", "bytesOffset": 4, "datFileSize": 9223372036854775807}')
        self.assertEqual((info.version, info.bytes_offset, info.dat_file_size), (2, 4, 2**63 - 1))

    def test_left_out_and_null_are_nought(self) -> None:
        empty = VolumeInfo()
        self.assertEqual(VolumeInfo.parse("{}"), empty)
        document = dict.fromkeys(("version", "replication", "bytesOffset", "datFileSize", "readOnly"))
        self.assertEqual(VolumeInfo.parse(json.dumps(document)), empty)
        self.assertEqual((empty.version, empty.bytes_offset, empty.read_only), (3, 0, False))

    def test_strange_keys_survive(self) -> None:
        info = VolumeInfo.parse('{"zeta": [1, {"naïve": "文件"}], "version": 3, "files": []}')
        again = json.loads(info.render())
        self.assertEqual(again["zeta"], [1, {"naïve": "文件"}])
        self.assertEqual(list(again)[-1], "zeta")
        self.assertIn("文件", info.render())

    def test_refused(self) -> None:
        for text, words in [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("\0\0\0\0", "not JSON"),
            ("[" * 100_000, "not JSON"),
            ('{"a": NaN}', "not JSON"),
            ('{"a": "\\ud800"}', "not JSON"),
            ("[]", "not a JSON object"),
            ("null", "not a JSON object"),
            ('{"version": 4}', "version is 4"),
            ('{"version": true}', "version is True"),
            ('{"version": 3.0}', "version is 3.0"),
            ('{"bytesOffset": 6}', "bytesOffset is 6"),
            ('{"datFileSize": "-1"}', "datFileSize is '-1'"),
            ('{"datFileSize": "9223372036854775808"}', "datFileSize is"),
            ('{"expireAtSec": "٣"}', "expireAtSec is"),
            ('{"expireAtSec": []}', "expireAtSec is []"),
            ('{"readOnly": "false"}', "readOnly is 'false'"),
            ('{"readOnly": 0}', "readOnly is 0"),
            ('{"replication": "01"}', "not three digits"),
            ('{"replication": 1}', "replication is 1"),
        ]:
            error = self.assertRaises(Damaged, VolumeInfo.parse, text, path="/data/9.vif")
            self.assertIn(words, error.reason)
            self.assertEqual(error.path, "/data/9.vif")
        self.assertRaises(Damaged, VolumeInfo.parse, b"\xff\xfe\xfd")

    @given(INFOS)
    def test_round_trip(self, info: VolumeInfo) -> None:
        text = info.render()
        self.assertEqual(VolumeInfo.parse(text), info)
        self.assertEqual(VolumeInfo.parse(text.encode()).render(), text)
