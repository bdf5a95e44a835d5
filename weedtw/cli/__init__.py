"""The `weedtw` command."""

from weedtw.cli.compiled import install

install()  # before the first class that attrs is to write methods for
