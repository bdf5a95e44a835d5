"""Options and the TOML file become one frozen, checked configuration object per daemon."""

from weedtw.config.model import (
    FolderConfig,
    Growth,
    MasterConfig,
    MinFree,
    ReadMode,
    ServerConfig,
    VolumeConfig,
    join_address,
)

__all__ = [
    "FolderConfig",
    "Growth",
    "MasterConfig",
    "MinFree",
    "ReadMode",
    "ServerConfig",
    "VolumeConfig",
    "join_address",
]
