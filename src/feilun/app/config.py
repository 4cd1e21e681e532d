"""``feilun.toml``: where things run. It names no feature; definitions name no infrastructure."""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from feilun.app.sources import SourceConfig, read_sources
from feilun.errors import ConfigError
from feilun.events.local_token import DATA, FILE, PORT, TOKEN, find_project
from feilun.i18n import _

_KEYS: Mapping[str, Mapping[str, tuple[type, Any]]] = {
    "project": {"module": (str, "project.py")},
    "platform": {
        "data": (str, DATA),
        "host": (str, "127.0.0.1"),
        "port": (int, PORT),
        "workers": (int, 1),
        "hosts": (list, ()),
        "keys": (str, "auto"),
        "clock": (str, "wall"),
        "lake": (bool, True),
        "origins": (list, []),
    },
}
_CLOCKS = ("wall", "request")
_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
_KEY_RULES = ("auto", "required")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\]")


@dataclass(frozen=True, slots=True)
class Config:
    """One project's settings, checked.

    Attributes
    ----------
    root : Path
        The folder of ``feilun.toml``; other paths are relative to it.
    module : Path
        The file of definitions.
    data : Path
        Where everything that the platform stores lives.
    host, port : str, int
        Where the gateway listens; loopback, unless keys are required.
    workers : int
        Gateway processes.
    hosts : frozenset of str
        Names under which it answers, beside this machine's own and ``host``; lower-case.
    keys : {"auto", "required"}
        Whether callers need a key: ``auto``, as soon as there was a team.
    clock : {"wall", "request"}
        Where reads take their time from; ``request`` is for replays.
    lake : bool
        Whether the log is archived into the lake, where the extra for it is installed.
    origins : tuple of str
        The origins of the web pages that may send events; by default none.
    sources : mapping
        Where tables are read from, by name.
    """

    root: Path
    module: Path
    data: Path
    host: str
    port: int
    workers: int
    clock: Literal["wall", "request"]
    hosts: frozenset[str] = frozenset()
    keys: Literal["auto", "required"] = "auto"
    lake: bool = True
    origins: tuple[str, ...] = ()
    sources: Mapping[str, SourceConfig] = field(default_factory=dict)

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine reaches the gateway."""
        return _is_loopback(self.host)

    @property
    def own_host(self) -> str:
        """Return the address at which this machine itself reaches the gateway."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104

    @property
    def url(self) -> str:
        """Return where the gateway answers this machine."""
        host = f"[{self.own_host}]" if ":" in self.own_host else self.own_host
        return f"http://{host}:{self.port}"

    @property
    def log_path(self) -> Path:
        """Return the folder of the event log."""
        return self.data / "log"

    @property
    def tiles_path(self) -> Path:
        """Return the folder of the online store."""
        return self.data / "tiles"

    @property
    def bundles_path(self) -> Path:
        """Return the folder of the models that the gateway loads."""
        return self.data / "bundles"

    @property
    def encoders_path(self) -> Path:
        """Return the folder of the encoders that were added."""
        return self.data / "encoders"

    @property
    def encoder_socket(self) -> Path:
        """Return where the encoders' process is asked."""
        return self.run_path / "encoder.sock"

    @property
    def lake_path(self) -> Path:
        """Return the folder of the lake."""
        return self.data / "lake"

    @property
    def database_path(self) -> Path:
        """Return the file of turns, releases and teams."""
        return self.data / "platform.db"

    @property
    def token_path(self) -> Path:
        """Return the file of this machine's own key."""
        return self.data / TOKEN

    @property
    def quota_path(self) -> Path:
        """Return the file in which workers count what teams do."""
        return self.run_path / "quota"

    @property
    def run_path(self) -> Path:
        """Return the folder of locks, signs of life and logs of the running processes."""
        return self.data / "run"


def find(start: Path) -> Path:
    """Return the nearest folder with a ``feilun.toml``, from ``start`` upwards.

    Raises
    ------
    ConfigError
        If there is none.
    """
    found = find_project(start)
    if found is not None:
        return found
    raise ConfigError(
        _("No {file} in {folder} or in a folder above it.", file=FILE, folder=start.resolve()),
        _("Go to your project, name it with --project DIR, or begin one: feilun init shop"),
    )


def load(root: Path, **instead: Any) -> Config:
    """Read and check ``feilun.toml`` in ``root``; ``instead`` holds values that outrank its own.

    Raises
    ------
    ConfigError
        With everything that is wrong in it, one line each.
    """
    path = root.resolve() / FILE
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            _("There is no {path}.", path=path), _("Begin a project: feilun init shop")
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            _("{path} cannot be read: {reason}.", path=path, reason=error),
            _("It must be a UTF-8 file."),
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            _("{path} is not TOML: {reason}.", path=path, reason=error), _("Mend that line.")
        ) from error
    problems: list[str] = []
    sources = read_sources(document.pop("sources", {}), problems)
    values = _values(document, problems) | instead
    problems += _wrong_values(values)
    if problems:
        lines = "\n".join(f"{FILE}: {problem}" for problem in problems)
        raise ConfigError(lines, _("Mend {path}.", path=path))
    return Config(
        root=path.parent,
        module=path.parent / values["module"],
        data=path.parent / values["data"],
        host=values["host"],
        port=values["port"],
        workers=values["workers"],
        clock=values["clock"],
        hosts=frozenset(name.lower() for name in values["hosts"]),
        keys=values["keys"],
        lake=values["lake"],
        origins=tuple(values["origins"]),
        sources=sources,
    )


def prepare_data(config: Config) -> None:
    """Make the data folder, and see that it can be written.

    Raises
    ------
    ConfigError
        If it cannot.
    """
    probe = config.run_path / ".writable"
    try:
        config.run_path.mkdir(parents=True, exist_ok=True)
        config.bundles_path.mkdir(exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            _(
                "The data folder {folder} cannot be written: {reason}.",
                folder=config.data,
                reason=error.strerror or error,
            ),
            _("Give yourself the right to write there, or set [platform] data in feilun.toml."),
        ) from error


def _values(document: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Take every known value, or its default; note what is unknown or of the wrong type."""
    values = {key: default for table in _KEYS.values() for key, (_type, default) in table.items()}
    for table, entries in document.items():
        if table not in _KEYS:
            known_tables = (*_KEYS, "sources")
            problems.append(
                _("unknown table [{table}].", table=table) + _known(table, known_tables)
            )
            continue
        if not isinstance(entries, dict):
            problems.append(
                _("{table} must be a table: write [{table}] on a line of its own.", table=table)
            )
            continue
        known = _KEYS[table]
        for key, value in entries.items():
            name = f"[{table}] {key}"
            if key not in known:
                problems.append(_("unknown key {name}.", name=name) + _known(key, known))
            elif type(value) is not known[key][0]:
                problems.append(_wrong_type(name, known[key][0], value))
            else:
                values[key] = value
    return values


def _wrong_type(name: str, kind: type, value: object) -> str:
    if kind is str:
        return _("{name} must be text in quotes, not {value}.", name=name, value=repr(value))
    if kind is bool:
        return _("{name} must be true or false, not {value}.", name=name, value=repr(value))
    if kind is list:
        return _("{name} must be a list in [ ], not {value}.", name=name, value=repr(value))
    return _("{name} must be a whole number, not {value}.", name=name, value=repr(value))


def _wrong_values(values: Mapping[str, Any]) -> list[str]:
    problems = []
    if not values["module"].endswith(".py"):
        problems.append(_("[project] module must name a .py file."))
    if not values["data"]:
        problems.append(_("[platform] data must name a folder."))
    problems += _wrong_hosts(values["host"], values["hosts"], values["keys"] == "required")
    if values["keys"] not in _KEY_RULES:
        problems.append(
            _("[platform] keys must be auto or required, not {value}.", value=repr(values["keys"]))
        )
    for key, largest in (("port", 65_535), ("workers", 64)):
        if not 1 <= values[key] <= largest:
            problems.append(
                _(
                    "[platform] {key} must be from 1 to {largest}, not {value}.",
                    key=key,
                    largest=largest,
                    value=values[key],
                )
            )
    if values["clock"] not in _CLOCKS:
        problems.append(
            _("[platform] clock must be wall or request, not {value}.", value=repr(values["clock"]))
        )
    problems += [
        _(
            "[platform] origins: {origin} is not the origin of a web page. Write each as browsers "
            "do: https://shop.example, in lower case, with a port unless it is the usual one.",
            origin=repr(origin),
        )
        for origin in values["origins"]
        if not _is_origin(origin)
    ]
    return problems


def _is_origin(value: object) -> bool:
    """Say whether a browser would write an origin so; it leaves out the usual port."""
    if not isinstance(value, str) or not _ORIGIN.fullmatch(value):
        return False
    scheme, _sep, rest = value.partition("://")
    return not rest.endswith(":443" if scheme == "https" else ":80")


def _wrong_hosts(host: str, names: Sequence[object], keys: bool) -> list[str]:
    problems = []
    if not _is_loopback(host) and not _is_address(host):
        problems.append(
            _(
                "[platform] host {host} is not an address of this machine. Use 127.0.0.1, or, with "
                'keys = "required", 0.0.0.0 or one of its addresses; names go into hosts.',
                host=repr(host),
            )
        )
    elif not _is_loopback(host) and not keys:
        problems.append(
            _(
                "[platform] host {host} can be reached by others, so callers need keys: add a team "
                '(feilun team add), and set keys = "required". Or use 127.0.0.1.',
                host=repr(host),
            )
        )
    elif names and not keys:
        problems.append(
            _(
                "[platform] hosts let others in through a proxy, so callers need keys: add a team "
                '(feilun team add), and set keys = "required".'
            )
        )
    problems += [
        _(
            "[platform] hosts: {name} is not a host's name; write it without scheme and port.",
            name=repr(name),
        )
        for name in names
        if not isinstance(name, str) or not _HOST_NAME.fullmatch(name)
    ]
    return problems


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _known(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return " " + _("Did you mean {name}?", name=repr(close[0]))
    return " " + _("Known: {names}.", names=", ".join(known))
