"""weedtw: SeaweedFS's master and volume server, on Twisted."""

__version__ = "0.1.0.dev0"
PRODUCT = f"weedtw {__version__}"  # the `Version` in the answers of both daemons
