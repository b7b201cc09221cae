"""The addresses that the Redis backend takes, and the clients that they ask for."""

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import attrs

from luminoracore_sdk.domain.errors import ConfigurationError

__all__ = ["RedisAddress", "parse_address"]

Kind = Literal["single", "cluster", "sentinel"]

_SCHEMES = "redis://, rediss://, unix://, redis+cluster://, rediss+cluster://, redis+sentinel://"
_PORTS: dict[Kind, int] = {"single": 6379, "cluster": 6379, "sentinel": 26379}
_OPTIONS = frozenset(
    {
        *("db", "username", "password", "sentinel_username", "sentinel_password"),
        *("ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile", "ssl_password"),
        *("ssl_check_hostname", "ssl_ciphers"),
    }
)
_FALSE = frozenset({"0", "f", "false", "n", "no"})


@attrs.frozen(kw_only=True)
class RedisAddress:
    """Where a store is.

    Attributes:
        kind: One server, a cluster, or sentinels that know the master.
        hosts: Host and port of the server, of some nodes or of the sentinels; empty for a socket.
        path: Of a Unix socket.
        master: The name that the sentinels know it by.
        db: Number of the database; None: not said.
        tls: Whether connections are encrypted.
        options: Names as redis-py knows them: username, password, ssl_….
        sentinel_options: The same for the sentinels themselves.
    """

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    path: str | None = None
    master: str | None = None
    db: int | None = None
    tls: bool = False
    options: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    sentinel_options: Mapping[str, Any] = attrs.field(factory=dict, repr=False)


def parse_address(url: str) -> RedisAddress:
    """Read a URL.

    Its parts are percent-decoded. Its query may hold ``db``, ``username``, ``password``,
    ``sentinel_username``, ``sentinel_password`` and redis-py's ``ssl_…`` options.

    Raises:
        ConfigurationError: It is none of ours; the text does not repeat it, for it may hold a password.
    """
    try:
        parts = urlsplit(url, allow_fragments=False)
        options = _options(parts.query)
        kind, tls = _scheme(parts.scheme)
        users, _, place = parts.netloc.rpartition("@")
        name, _, password = users.partition(":")
        for option, value in (("username", name), ("password", password)):
            if value:
                options.setdefault(option, unquote(value))
        sentinel_options = {
            name: options.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in options
        }
        db = _number(options.pop("db", None))
        if parts.scheme == "unix":
            path = unquote(place + parts.path)
            return RedisAddress(kind=kind, path=path, db=db, options=options)
        segments = [unquote(segment) for segment in parts.path.split("/") if segment]
        master = segments.pop(0) if kind == "sentinel" and segments else None
        return RedisAddress(
            kind=kind,
            hosts=_hosts(place, _PORTS[kind]),
            master=master,
            db=_number(segments.pop(0)) if segments else db,
            tls=tls,
            options=_checked(kind, master, segments, options),
            sentinel_options=sentinel_options,
        )
    except ConfigurationError:
        raise
    except ValueError:  # whose text may hold part of a password in which a character is not encoded
        raise ConfigurationError(
            "the Redis URL has a port or a database that is not a number; "
            "in a name and a password, / ? # and @ are written as %2F %3F %23 and %40"
        ) from None


def _scheme(scheme: str) -> tuple[Kind, bool]:
    base, _, kind = scheme.partition("+")
    kinds: dict[str, Kind] = {"": "single", "cluster": "cluster", "sentinel": "sentinel"}
    if base in ("redis", "valkey", "rediss", "valkeys") and kind in kinds:
        return kinds[kind], base.endswith("s") and base != "redis"
    if scheme == "unix":
        return "single", False
    raise ConfigurationError(f"a Redis URL begins with one of {_SCHEMES}; valkey means redis; not {scheme[:20]!a}")


def _hosts(place: str, port: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for host in place.split(","):
        one = urlsplit(f"//{host}")  # knows about brackets around IPv6
        hosts.append((one.hostname or "localhost", one.port or port))
    return tuple(hosts)


def _options(query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, values in parse_qs(query, keep_blank_values=True).items():
        if name not in _OPTIONS:
            raise ConfigurationError(f"{name[:40]!a} is no option of a Redis URL; there are: {_listed()}")
        options[name] = values[0]
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = options["ssl_check_hostname"].lower() not in _FALSE
    return options


def _checked(kind: Kind, master: str | None, rest: list[str], options: dict[str, Any]) -> dict[str, Any]:
    if kind == "sentinel" and not master:
        raise ConfigurationError("a sentinel URL names the master: redis+sentinel://host:port/mymaster/0")
    if rest:
        raise ConfigurationError("a Redis URL ends with the number of a database")
    return options


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _listed() -> str:
    return ", ".join(sorted(_OPTIONS))
