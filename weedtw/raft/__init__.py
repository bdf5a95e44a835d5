"""Consensus: a Raft core without I/O, its durable store, its line protocol, and the driver that joins them."""
