"""The volume server: needles over HTTP, heartbeats to the master."""
