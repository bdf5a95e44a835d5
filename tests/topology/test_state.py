"""The agreed state: what a command does, and what no sequence of commands can do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from weedtw.errors import NoRoom
from weedtw.topology.state import (
    MAX_KEY,
    MAX_VOLUME_ID,
    MOST_VOLUME_IDS,
    AllocateVolumeIds,
    ClusterState,
    Command,
    ExtendKeys,
    FinishVolumes,
    ForgetServer,
    KeyRange,
    RaiseKeys,
    RaiseVolumeIds,
    RegisterServer,
    TakeLock,
    dump_command,
    dump_state,
    load_command,
    load_state,
)

ADDRESSES = st.sampled_from(["a:1", "b:1", "c:1"])
UUIDS = st.lists(st.sampled_from(["u1", "u2", "u3", "u4"]), unique=True, max_size=3).map(tuple)
NUMBERS = st.one_of(st.integers(0, 1000), st.integers(0, MAX_KEY))
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(AllocateVolumeIds, st.one_of(st.integers(0, 20), st.integers(0, MAX_VOLUME_ID))),
    st.builds(FinishVolumes, st.lists(st.integers(1, 40), max_size=5).map(tuple)),
    st.builds(RaiseVolumeIds, NUMBERS),
    st.builds(ExtendKeys, st.one_of(NUMBERS, st.just(MAX_KEY + 1))),
    st.builds(RaiseKeys, NUMBERS),
    st.builds(RegisterServer, ADDRESSES, st.text(max_size=5), st.just("dc1"), st.just("r1"), UUIDS),
    st.builds(ForgetServer, ADDRESSES),
    st.builds(TakeLock, st.sampled_from(["", "t1", "t2"]), st.just("me"), st.sampled_from(["", "t1", "t2"])),
)


class AnyCommands(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(st.lists(COMMANDS, max_size=30))
    def test_invariants(self, commands: list[Command]) -> None:
        state = ClusterState()
        volume_ids: set[int] = set()
        granted: list[KeyRange] = []
        for command in commands:
            before = state
            try:
                state, result = state.apply(command)
            except NoRoom:
                assert state is before
                continue
            assert state.max_volume_id >= before.max_volume_id
            assert state.key_high_water >= before.key_high_water
            assert list(state.growing) == sorted(set(state.growing))
            assert all(volume_id <= state.max_volume_id for volume_id in state.growing)
            owned = [uuid for server in state.servers.values() for uuid in server.uuids]
            assert len(owned) == len(set(owned))
            if isinstance(command, AllocateVolumeIds) and command.count < 100:
                fresh = set(range(result, result + command.count))
                assert not fresh & volume_ids
                volume_ids |= fresh
            if isinstance(command, ExtendKeys) and range(result.first, result.last + 1):
                assert all(result.first > earlier.last for earlier in granted)
                granted.append(result)

    @settings(deadline=None)
    @given(st.lists(COMMANDS, max_size=30))
    def test_replaying_what_was_written_down_gives_the_same_state(self, commands: list[Command]) -> None:
        first, second = ClusterState(), ClusterState()
        for command in commands:
            try:
                first, result = first.apply(command)
            except NoRoom:
                continue
            second, again = load_state(dump_state(second)).apply(load_command(dump_command(command)))
            assert again == result
        assert first == second
        assert dump_state(first) == dump_state(second)


class Keys(SynchronousTestCase):
    def test_ranges_follow_each_other(self) -> None:
        state, one = ClusterState().apply(ExtendKeys(100))
        state, two = state.apply(ExtendKeys(150))
        assert (one, two) == (KeyRange(1, 100), KeyRange(101, 150))
        assert (len(one), len(two)) == (100, 50)

    def test_a_range_already_passed_is_empty(self) -> None:
        state, _ = ClusterState().apply(RaiseKeys(500))
        after, granted = state.apply(ExtendKeys(400))
        assert len(granted) == 0
        assert after == state

    def test_the_last_key_can_be_had_and_none_after_it(self) -> None:
        state, _ = ClusterState().apply(RaiseKeys(MAX_KEY - 1))
        state, granted = state.apply(ExtendKeys(MAX_KEY))
        assert granted == KeyRange(MAX_KEY, MAX_KEY)
        with pytest.raises(NoRoom):
            state.apply(ExtendKeys(MAX_KEY + 1))


class VolumeIds(SynchronousTestCase):
    def test_ids_start_at_one_and_end_at_32_bits(self) -> None:
        state, first = ClusterState().apply(AllocateVolumeIds(3))
        assert first == 1
        state, _ = state.apply(RaiseVolumeIds(MAX_VOLUME_ID - 1))
        state, last = state.apply(AllocateVolumeIds(1))
        assert last == MAX_VOLUME_ID
        with pytest.raises(NoRoom):
            state.apply(AllocateVolumeIds(1))


class Servers(SynchronousTestCase):
    def test_a_server_that_moved_is_the_same_server(self) -> None:
        state, _ = ClusterState().apply(RegisterServer("a:1", "a:1", "dc1", "r1", ("u1", "u2")))
        state, _ = state.apply(RegisterServer("b:7", "b:7", "dc1", "r2", ("u2",)))
        assert list(state.servers) == ["b:7"]

    def test_forgetting(self) -> None:
        state, _ = ClusterState().apply(RegisterServer("a:1", "a:1", "dc1", "r1", ("u1",)))
        state, was_there = state.apply(ForgetServer("a:1"))
        assert was_there
        assert not state.servers
        assert state.apply(ForgetServer("a:1")) == (state, False)


class Growing(SynchronousTestCase):
    def test_what_is_allocated_counts_as_growing_until_it_is_finished(self) -> None:
        state, first = ClusterState(max_volume_id=6).apply(AllocateVolumeIds(3))
        assert (first, state.growing) == (7, (7, 8, 9))
        state, finished = state.apply(FinishVolumes((8, 99)))
        assert (finished, state.growing) == (1, (7, 9))

    def test_no_more_at_a_time_than_can_be_remembered(self) -> None:
        with pytest.raises(NoRoom):
            ClusterState().apply(AllocateVolumeIds(MOST_VOLUME_IDS + 1))


class Texts(SynchronousTestCase):
    def test_what_was_not_written_by_us_is_refused(self) -> None:
        for text in (
            "", "[]", "7", '{"do":"dance"}', '{"do":["extend_keys"]}', '{"do":"extend_keys"}',
            '{"do":"extend_keys","upto":"1"}', '{"do":"extend_keys","upto":true}',
            '{"do":"extend_keys","upto":1,"more":2}', '{"do":"register_server","address":"a:1"}',
        ):  # fmt: skip
            with pytest.raises(ValueError, match=r"."):
                load_command(text)
        for text in (
            "",
            "{}",
            '{"servers":{}}',
            '{"servers":[1],"growing":[],"max_volume_id":0,"key_high_water":0}',
            dump_state(ClusterState())[:-1],
        ):
            with pytest.raises(ValueError, match=r"."):
                load_state(text)


class Lock(SynchronousTestCase):
    def test_one_of_two_gets_it(self) -> None:
        state, first = ClusterState().apply(TakeLock("t1", "me", ""))
        state, second = state.apply(TakeLock("t2", "you", ""))
        assert (first.token, second.token, second.holder) == ("t1", "t1", "me")
        state, third = state.apply(TakeLock("t2", "you", "t1"))
        assert (third.token, third.holder) == ("t2", "you")
        assert state.apply(TakeLock("", "", "t1"))[0] is state
        assert state.apply(TakeLock("", "", "t2"))[0] == ClusterState()

    def test_what_earlier_versions_wrote_has_none(self) -> None:
        assert "lock" not in dump_state(ClusterState())
        assert load_state(dump_state(ClusterState(max_volume_id=3))) == ClusterState(max_volume_id=3)
        held, _ = ClusterState().apply(TakeLock("t1", "me", ""))
        assert load_state(dump_state(held)) == held
        for wrong in ("3", '{"token":1,"holder":""}', "{}"):
            with pytest.raises(ValueError, match=r"lock|AdminLock"):
                load_state(f'{{"lock":{wrong},' + dump_state(ClusterState())[1:])
