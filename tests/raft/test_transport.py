"""All of a node's connections: who is let in, where nodes are dialled, and when a process is taken for dead."""

import random
from typing import Any

from twisted.internet.task import Clock

from tests.raft.logged import LoggedTestCase
from tests.raft.wires import Network, Script
from weedtw.errors import BadRequest
from weedtw.raft import lines
from weedtw.raft.lines import Hello
from weedtw.raft.link import MAX_PAUSE
from weedtw.raft.membership import Member, Membership
from weedtw.raft.messages import Heartbeat, Message
from weedtw.raft.storage import Identity
from weedtw.raft.transport import MAX_STRANGERS, Transport


def members(*names: str, **elsewhere: str) -> Membership:
    """A membership; node `a` listens at `a:1` unless told otherwise."""
    return Membership({name: Member(elsewhere.get(name, f"{name}:1")) for name in names})


class Node:
    """As much of a `RaftNode` as a transport sees, with its transport on a network."""

    def __init__(self, network: Network, name: str, membership: Membership, cluster: str = "c") -> None:
        self.network = network
        self.identity = Identity(cluster, name)
        self.core = self.log = self
        self.membership = membership
        self.messages: list[Message] = []
        self.told: list[str] = []
        self.disgust: Exception | None = None
        self.transport: Transport
        self.address = f"{name}:1"

    def start(self, address: str | None = None, seed: int = 1) -> "Node":
        """Listen and dial; a second start is that of a new process."""
        self.address = address or self.address
        self.make_transport(seed)
        self.network.listening[self.address] = self.transport.inbound
        self.transport.start()
        return self

    def make_transport(self, seed: int = 1) -> None:
        self.transport = Transport(
            self,  # type: ignore[arg-type]
            self.address,
            connect=self.network.connector(self.address),
            clock=self.network.clock,
            rng=random.Random(seed),
        )

    def die(self) -> None:
        """kill -9."""
        self.transport.stop()
        self.network.kill(self.address)

    def hello(self) -> Hello:
        return Hello(self.identity.cluster, self.identity.node, self.address)

    def received(self, message: Message) -> None:
        self.messages.append(message)
        if self.disgust is not None:
            raise self.disgust

    def lost_contact(self, node: str) -> None:
        self.told.append(f"lost {node}")

    def refused(self, node: str) -> None:
        self.told.append(f"refused {node}")

    def beat(self, to: str, number: int = 1) -> None:
        self.transport.send([Heartbeat(self.identity.node, to, 1, 0, number)])


class TransportTest(LoggedTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.network = Network(self.clock)
        self.nodes: dict[str, Node] = {}

    def cluster(self, *names: str) -> list[Node]:
        """Nodes that know of each other, all up and connected."""
        made = [Node(self.network, name, members(*names)).start(seed=seed) for seed, name in enumerate(names)]
        self.network.run(2)
        for node in made:
            self.nodes[node.identity.node] = node
            node.told.clear()
            self.assertEqual(node.transport.connected(), frozenset(names) - {node.identity.node})
        return made

    def call(self, address: str, hello: Hello) -> Script:
        script = Script()
        self.network.call(hello.address, address, script).write(lines.encode_hello(hello) + b"\r\n")
        self.network.run(0.01)
        return script


class Connecting(TransportTest):
    def test_everybody_reaches_everybody(self) -> None:
        a, b, c = self.cluster("a", "b", "c")
        for sender, receiver in ((a, b), (b, a), (a, c), (c, a), (b, c), (c, b)):
            sender.beat(receiver.identity.node, 7)
            self.network.run(0.01)
            self.assertEqual(
                receiver.messages.pop(), Heartbeat(sender.identity.node, receiver.identity.node, 1, 0, 7)
            )

    def test_one_connection_each_way(self) -> None:
        self.cluster("a", "b", "c")
        self.assertEqual(len(self.network.ends), 2 * 6)

    def test_whatever_the_start_order_all_are_connected_soon(self) -> None:
        names = ("a", "b", "c")
        started = []
        for name in names:
            started.append(Node(self.network, name, members(*names)).start())
            self.network.run(30, step=0.01)
        self.network.run(0.1)
        for node in started:
            self.assertEqual(len(node.transport.connected()), 2, node.identity)

    def test_messages_to_nobody_are_dropped(self) -> None:
        (a,) = self.cluster("a")
        a.beat("b")
        a.beat("a")
        self.network.run(1)
        self.assertEqual((a.messages, self.network.ends), ([], []))

    def test_a_new_member_is_dialled_and_a_removed_one_is_hung_up_on(self) -> None:
        a, b = self.cluster("a", "b")
        Node(self.network, "c", members("a", "b", "c")).start()
        for node in (a, b):
            node.transport.follow(members("a", "b", "c"))
        self.network.run(0.1)
        self.assertEqual(a.transport.connected(), {"b", "c"})
        for node in (a, b):
            node.transport.follow(members("a", "c"))
        b.die()
        self.network.run(0.1)
        self.assertEqual(a.transport.connected(), {"c"})
        self.network.dialled.clear()
        self.network.run(5, step=0.01)
        self.assertNotIn(("a:1", "b:1"), self.network.dialled)

    def test_stopping_closes_everything(self) -> None:
        a, b, c = self.cluster("a", "b", "c")
        stopped = [node.transport.stop() for node in (a, b, c)]
        self.network.run(0.1)
        for each in stopped:
            self.successResultOf(each)
        self.assertEqual(self.network.ends, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopping_with_callers_that_never_said_hello(self) -> None:
        (a,) = self.cluster("a")
        script = Script()
        self.network.call("x:1", "a:1", script)
        stopped = a.transport.stop()
        self.assertNoResult(stopped)
        self.network.run(0.1)
        self.successResultOf(stopped)
        self.assertTrue(script.ended)

    def test_stopping_without_having_started(self) -> None:
        node = Node(self.network, "a", members("a"))
        node.make_transport()
        self.successResultOf(node.transport.stop())
        self.assertEqual((self.network.dialled, self.clock.getDelayedCalls()), ([], []))

    def test_a_node_that_is_stopping_refuses_callers(self) -> None:
        a, _ = self.cluster("a", "b")
        a.transport.stop()
        self.assertIn(b"refused node a is stopping", self.call("a:1", Hello("c", "b", "b:1")).got)

    def test_an_address_in_the_log_that_nobody_can_dial(self) -> None:
        def picky(address: str) -> Any:
            lines.split_address(address)
            return self.network.connector("a:1")(address)

        node = Node(self.network, "a", members("a", "b", "c", b="nonsense"))
        transport = Transport(node, "a:1", connect=picky, clock=self.clock, rng=random.Random())  # type: ignore[arg-type]
        Node(self.network, "c", members("a", "b", "c")).start()
        transport.start()
        self.network.run(1)
        self.assertEqual(transport.connected(), {"c"})
        self.assertIn("b at nonsense: cannot be reached: 'nonsense' is not host:port", self.log.texts())


class Admission(TransportTest):
    def check_refused(self, hello: Hello, saying: str) -> None:
        script = self.call("a:1", hello)
        self.assertIn(saying, script.got.decode())
        self.assertTrue(script.got.startswith(b"refused "))
        self.assertTrue(script.ended)
        self.assertIn(saying, self.log.texts()[-1])

    def test_another_cluster(self) -> None:
        self.cluster("a", "b")
        self.check_refused(Hello("d", "b", "b:1"), "you are of cluster d, this is c")

    def test_a_copied_disk(self) -> None:
        self.cluster("a", "b")
        self.check_refused(
            Hello("c", "a", "elsewhere:1"), "you claim to be node a, which is here; is your disk a copy?"
        )

    def test_a_copied_disk_of_another_node(self) -> None:
        """The first one stays, as long as its connection stands."""
        a, b = self.cluster("a", "b")
        self.check_refused(
            Hello("c", "b", "copy:1"), "node b is connected already, from b:1; is your disk a copy of its?"
        )
        self.assertEqual(a.transport.address_of("b"), "b:1")
        b.die()
        self.network.run(0.1)
        self.assertFalse(self.call("a:1", Hello("c", "b", "moved:1")).ended)
        self.assertEqual(a.transport.address_of("b"), "moved:1")

    def test_strangers_of_this_cluster_are_heard_and_answered(self) -> None:
        """A newcomer knows the cluster before the cluster knows it, and so does one that was removed."""
        a, _ = self.cluster("a", "b")
        newcomer = Node(self.network, "n", members("a", "b")).start()
        self.network.run(0.1)
        newcomer.beat("a", 3)
        a.beat("n", 4)
        self.network.run(0.1)
        self.assertEqual(a.messages[-1].sender, "n")
        self.assertEqual(newcomer.messages[-1].sender, "a")

    def test_too_many_strangers(self) -> None:
        _, b = self.cluster("a", "b")
        b.die()
        callers = [self.call("a:1", Hello("c", f"s{i}", f"s{i}:1")) for i in range(MAX_STRANGERS)]
        self.assertFalse(any(caller.ended for caller in callers))
        self.check_refused(Hello("c", "one more", "more:1"), "too many nodes that are no members")
        self.assertEqual(self.call("a:1", Hello("c", "b", "b:1")).ended, False)
        self.assertEqual(self.call("a:1", Hello("c", "s3", "s3:1")).ended, False)

    def test_strangers_that_have_gone_make_room(self) -> None:
        (a,) = self.cluster("a")
        for number in range(3 * MAX_STRANGERS):
            script = self.call("a:1", Hello("c", f"s{number}", f"s{number}:1"))
            self.assertFalse(script.ended)
            script.transport.loseConnection()  # type: ignore[union-attr]
            self.network.run(0.01)
        self.assertEqual(a.transport._links, {})
        self.assertEqual(a.transport._announced, {})
        self.network.dialled.clear()
        self.network.run(10, step=0.01)
        self.assertEqual(self.network.dialled, [])

    def test_a_second_connection_takes_the_place_of_the_first(self) -> None:
        a, _ = self.cluster("a", "b")
        self.network.deaf.add("x:1")
        first = self.call("a:1", Hello("c", "x", "x:1"))
        second = self.call("a:1", Hello("c", "x", "x:1"))
        self.network.run(3)
        self.assertTrue(first.ended)
        self.assertFalse(second.ended)
        self.assertNotIn("lost x", a.told)

    def test_a_message_that_no_honest_node_sends_ends_the_connection(self) -> None:
        a, b = self.cluster("a", "b")
        a.disgust = BadRequest("nonsense")
        b.beat("a")
        self.network.run(0.01)
        self.assertIn("b at b:1: nonsense", self.log.texts())
        self.assertIn("a at a:1: refused there: nonsense", self.log.texts())

    def test_nothing_is_said_at_every_attempt_of_a_foreigner(self) -> None:
        """Both sides go on for ever, and say it now and then."""
        self.cluster("a", "b")
        Node(self.network, "z", members("a", "b", "z"), cluster="d").start()
        self.network.run(600, step=0.005)
        self.assertGreater(self.network.dialled.count(("z:1", "a:1")), 200)
        self.assertLess(len(self.log.texts()), 20)


class Addresses(TransportTest):
    def test_a_node_that_comes_back_elsewhere_is_dialled_there(self) -> None:
        a, b = self.cluster("a", "b")
        b.die()
        b.start("elsewhere:1")
        self.network.run(0.1)
        self.assertEqual(a.transport.connected(), {"b"})
        self.assertEqual(b.transport.connected(), {"a"})
        a.beat("b")
        self.network.run(0.01)
        self.assertEqual(b.messages[-1].sender, "a")

    def test_what_was_announced_is_newer_than_the_log(self) -> None:
        a, b = self.cluster("a", "b")
        b.die()
        b.start("elsewhere:1")
        self.network.run(0.1)
        a.transport.follow(members("a", "b", "c"))
        self.network.run(0.1)
        self.assertEqual(a.transport.connected(), {"b"})

    def test_an_address_changed_in_the_log_is_newer_than_what_was_announced(self) -> None:
        a, b = self.cluster("a", "b")
        b.die()
        self.network.run(0.1)
        a.transport.follow(members("a", "b", b="elsewhere:1"))
        self.network.dialled.clear()
        self.network.run(5)
        self.assertEqual(set(self.network.dialled), {("a:1", "elsewhere:1")})

    def test_a_node_that_calls_is_dialled_at_once(self) -> None:
        a, b = self.cluster("a", "b")
        b.die()
        self.network.run(30, step=0.01)
        b.start()
        self.network.run(0.02)
        self.assertEqual(a.transport.connected(), {"b"})

    def test_two_nodes_in_pauses_do_not_hang_up_on_each_other(self) -> None:
        self.cluster("a", "b")
        for address in ("a:1", "b:1"):
            self.network.silent.add(address)
        for end in list(self.network.ends):
            end.abortConnection()
        self.network.run(30, step=0.01)
        self.network.silent.clear()
        self.network.run(MAX_PAUSE * 1.5 + 6)
        self.network.dialled.clear()
        self.network.run(10)
        self.assertEqual(self.network.dialled, [])


class DeadOrAlive(TransportTest):
    def gone(self, node: Node) -> list[str]:
        return [what for what in node.told if what.startswith("refused")]

    def test_a_killed_process_is_known_to_be_dead_within_milliseconds(self) -> None:
        a, b, c = self.cluster("a", "b", "c")
        b.die()
        self.network.run(0.01)
        for node in (a, c):
            self.assertIn("lost b", node.told)
            self.assertEqual(self.gone(node)[:1], ["refused b"])

    def test_also_when_its_last_messages_are_read_after_it_was_missed(self) -> None:
        """A word of the dead must not bring it back: the loss is reported after the last word."""
        a, b, _ = self.cluster("a", "b", "c")
        self.network.listening.pop("b:1")
        for end in list(self.network.ends):
            if self.network.owner(end) == "a:1" and end.peer.host == "b:1" and end.producer is not None:
                end.abortConnection()  # from a to b; the other way is still open
        self.network.run(0.05)
        self.assertEqual(self.gone(a), [])
        b.beat("a")
        self.network.run(0.01)
        b.die()
        self.network.run(0.01)
        self.assertEqual(len(a.messages), 1)
        self.assertEqual(a.told[-2:], ["lost b", "refused b"])

    def test_a_broken_connection_to_a_living_process_is_no_death(self) -> None:
        a, _ = self.cluster("a", "b")
        for end in self.network.between("a:1", "b:1"):
            end.abortConnection()
        self.network.run(1)
        self.assertEqual(self.gone(a), [])
        self.assertEqual(a.transport.connected(), {"b"})

    def test_a_refusing_firewall_before_a_process_that_still_speaks_is_no_death(self) -> None:
        a, _ = self.cluster("a", "b")
        self.network.listening.pop("b:1")
        for end in self.network.between("a:1", "b:1"):
            if end.peer.host == "b:1" and end.producer is not None:
                end.abortConnection()
        self.network.run(3)
        self.assertEqual(self.gone(a), [])

    def test_a_frozen_process_is_no_death(self) -> None:
        a, _ = self.cluster("a", "b")
        self.network.deaf.add("b:1")
        self.network.run(30, step=0.01)
        self.assertEqual(self.gone(a), [])

    def test_a_host_without_power_is_no_proof(self) -> None:
        a, b = self.cluster("a", "b")
        b.die()
        self.network.silent.add("b:1")
        self.network.run(30, step=0.01)
        self.assertEqual(self.gone(a), [])

    def test_a_process_that_restarts_is_alive_again(self) -> None:
        a, b = self.cluster("a", "b")
        b.die()
        self.network.run(1)
        a.told.clear()
        b.start()
        self.network.run(2)
        self.assertEqual(a.told, [])
        for end in self.network.between("a:1", "b:1"):
            end.abortConnection()
        self.network.run(2)
        self.assertEqual(self.gone(a), [])

    def test_nobody_is_missed_by_a_node_that_stops(self) -> None:
        a, _ = self.cluster("a", "b")
        a.transport.stop()
        self.network.run(0.1)
        self.assertEqual(a.told, [])
