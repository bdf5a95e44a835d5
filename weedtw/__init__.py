"""weedtw: SeaweedFS's master and volume servers on Twisted, with masters that fail over."""

__version__ = "0.1.0.dev0"
