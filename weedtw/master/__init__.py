"""The master: assigns ids, knows the topology, grows volumes."""
