"""The shapes that clients of SeaweedFS know."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.master.scene import Scene, volume
from weedtw import __version__
from weedtw.formats.ttl import Ttl
from weedtw.master.status import id_ranges, topology_status, volume_fields, volume_status
from weedtw.topology.state import RegisterServer


class Shapes(SynchronousTestCase):
    def setUp(self) -> None:
        self.scene = Scene()
        self.scene.join("b:1", "dc2", "r1", room=7)
        self.scene.join("a:1", "dc1", "r1", holds=(volume(1), volume(3), volume(4), volume(5, copies="001")))

    def test_topology(self) -> None:
        assert topology_status(self.scene.cluster) == {
            "Version": f"weedtw {__version__}",
            "TopologyId": self.scene.ledger.cluster_id,
            "Topology": {
                "Max": 17,
                "Free": 13,
                "DataCenters": [
                    {
                        "Id": "dc1",
                        "Racks": [{"Id": "r1", "DataNodes": [self.node("a:1", 4, 10, " 1 3-5")]}],
                    },
                    {"Id": "dc2", "Racks": [{"Id": "r1", "DataNodes": [self.node("b:1", 0, 7, "")]}]},
                ],
                "Layouts": [
                    {"replication": "000", "ttl": "", "writables": [1, 3, 4], "collection": "", "diskType": "hdd"},
                    {"replication": "001", "ttl": "", "writables": [], "collection": "", "diskType": "hdd"},
                ],
            },
        }

    def node(self, address: str, volumes: int, most: int, ids: str) -> dict[str, object]:
        return {
            "Url": address,
            "PublicUrl": f"public.{address}",
            "Volumes": volumes,
            "EcShards": 0,
            "Max": most,
            "VolumeIds": ids,
        }

    def test_servers_that_are_away_are_shown(self) -> None:
        register = RegisterServer("z:1", "z:1", "dc1", "r1", ("uuid of z",))
        self.successResultOf(Deferred.fromCoroutine(self.scene.ledger.submit(register)))
        self.assertIn("z:1", topology_status(self.scene.cluster)["Absent"])

    def test_why_a_volume_is_read_only_is_told(self) -> None:
        fields = volume_fields(volume(7, read_only=True, reason="the disk is full"))
        self.assertEqual((fields["ReadOnly"], fields["ReadOnlyReason"]), (True, "the disk is full"))
        self.assertNotIn("ReadOnlyReason", volume_fields(volume(7)))

    def test_quarantined_volumes_are_shown(self) -> None:
        self.scene.join("c:1", holds=(volume(1),))
        (quarantined,) = topology_status(self.scene.cluster)["Quarantined"]
        assert (quarantined["Id"], quarantined["Url"]) == (1, "c:1")

    def test_volumes(self) -> None:
        status = volume_status(self.scene.cluster)
        assert (status["Volumes"]["Max"], status["Volumes"]["Free"]) == (17, 13)
        volumes = status["Volumes"]["DataCenters"]["dc1"]["r1"]["a:1"]
        assert [each["Id"] for each in volumes] == [1, 3, 4, 5]
        assert status["Volumes"]["DataCenters"]["dc2"] == {"r1": {"b:1": []}}

    def test_a_volume(self) -> None:
        told = volume(7, copies="102", collection="pics", size=10, file_count=3, delete_count=2, deleted_bytes=1,
                      modified_at=99, read_only=True, disk_id=1, disk_type="ssd")  # fmt: skip
        assert volume_fields(told) == {
            "Id": 7, "Collection": "pics", "DiskType": "ssd", "RemoteStorageName": "", "Size": 10, "FileCount": 3,
            "DeleteCount": 2, "DeletedByteCount": 1, "ModifiedAtSecond": 99, "DiskId": 1, "CompactRevision": 0,
            "Version": 3, "ReplicaPlacement": {"node": 2, "dc": 1}, "Ttl": {"Count": 0, "Unit": 0}, "ReadOnly": True,
            "ReadOnlyCanDelete": False, "ReadOnlyReason": "",
        }  # fmt: skip


class Ranges(SynchronousTestCase):
    def test_some(self) -> None:
        assert id_ranges([]) == ""
        assert id_ranges([3]) == " 3"
        assert id_ranges([5, 1, 4, 3, 9]) == " 1 3-5 9"
        assert id_ranges([1, 2]) == " 1-2"

    @given(st.sets(st.integers(1, 60)))
    def test_any(self, ids: set[int]) -> None:
        back: set[int] = set()
        for part in id_ranges(ids).split():
            first, _, last = part.partition("-")
            back |= set(range(int(first), int(last or first) + 1))
        assert back == ids

    def test_ttl_units_are_seaweedfs_own(self) -> None:
        assert [Ttl.parse(text).unit for text in ("3m", "4h", "5d", "6w", "7M", "8y")] == [1, 2, 3, 4, 5, 6]
