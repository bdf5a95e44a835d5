"""The `weedtw` command."""
