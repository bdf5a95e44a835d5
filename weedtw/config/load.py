"""From a command line to a configuration: options, the file they name, the objects."""

import os.path
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import attrs

from weedtw.config import security
from weedtw.config.arguments import CommandLine, Settings, parse_arguments
from weedtw.config.build import Remembered, Values, build_master, build_server, build_volume
from weedtw.config.file import read_file
from weedtw.config.model import MasterConfig, ServerConfig, VolumeConfig
from weedtw.config.network import Network
from weedtw.config.options import LOG
from weedtw.config.security import SecurityConfig
from weedtw.config.vocabulary import Program, vocabulary
from weedtw.errors import ConfigError

FILE_NAME = "weedtw.toml"  # in the folder that -config_dir names

Config = MasterConfig | VolumeConfig | ServerConfig
Daemon = TypeVar("Daemon", MasterConfig, VolumeConfig)

_BUILD: Mapping[Program, Callable[[Settings, Network, Remembered], Config]] = {
    "master": build_master,
    "volume": build_volume,
    "server": build_server,
}


@attrs.frozen
class Loaded:
    """What a daemon is to do: its configuration, how it logs, and what its user should know."""

    config: Config
    log_format: str
    log_level: str
    notes: tuple[str, ...]

    @property
    def speaks_tls(self) -> bool:
        """Whether certificates are configured."""
        config = self.config.master if isinstance(self.config, ServerConfig) else self.config
        return config.security.tls is not None


def load(
    program: Program,
    arguments: Sequence[str],
    network: Network,
    *,
    log: bool = True,
    remembered: Remembered = lambda _: (),
) -> Loaded | CommandLine:
    """The configuration that a command line asks for, or the command line itself when it asks for help.

    `log` says whether `--logFormat` and `--logLevel` are options here; `remembered` knows which masters stand in a
    folder.  Raises ConfigError.
    """
    line = parse_arguments(arguments, vocabulary(program, log=log))
    if line.asks_help or line.asks_version:
        return line
    settings: Settings = {**_file_settings(line), **line.settings}
    logging = Values.read(LOG, settings)
    found = security.find(line.config_dir)
    config = _BUILD[program](settings, network, remembered)
    if found is not None:
        keys = security.read(found)
        config = _secured(config, keys)
        line.notes.extend([f"the keys of {found} are used", *keys.notes])
    return Loaded(config, logging["logFormat"], logging["logLevel"], tuple(line.notes))


def _secured(config: Config, keys: SecurityConfig) -> Config:
    """The configuration with those keys, and with the file's white list where none was given."""
    if isinstance(config, ServerConfig):
        return attrs.evolve(config, master=_with(config.master, keys), volume=_with(config.volume, keys))
    return _with(config, keys) if isinstance(config, MasterConfig) else _with(config, keys)  # noqa: RUF034 - for mypy


def _with(config: Daemon, keys: SecurityConfig) -> Daemon:
    return attrs.evolve(config, security=keys, white_list=config.white_list or keys.white_list)


def _file_settings(line: CommandLine) -> Settings:
    if line.config is not None and line.config_dir is not None:
        raise ConfigError("--config_dir", "contradicts --config; give one of them")
    if line.config_dir is not None:
        path = os.path.join(line.config_dir, FILE_NAME)
        if os.path.isdir(line.config_dir) and not os.path.exists(path):  # SeaweedFS's own folder, for example
            if security.find(line.config_dir) is None:
                line.notes.append(f"--config_dir has no effect: there is no {path}")
            return {}
        return read_file(path)
    return {} if line.config is None else read_file(line.config)
