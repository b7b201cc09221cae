"""The options of the Redis backend: its URLs, prefix and limits."""

import math
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import attrs

from luminoracore_sdk.domain.errors import ConfigurationError

__all__ = ["RedisAddress", "RedisLimits", "check_buckets", "check_prefix", "parse_address"]

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
_ENCODE = "in a name and a password, / ? # @ and a blank are written as %2F %3F %23 %40 and %20"
_FALSE = frozenset({"0", "f", "false", "n", "no"})
_MAX_BUCKETS = 16_384  # the slots of a cluster
_MAX_PREFIX = 200


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that cannot begin keys."""
    if not 1 <= len(prefix) <= _MAX_PREFIX or not prefix.isprintable() or set("{}") & set(prefix):
        raise ConfigurationError(
            f"prefix {prefix!a:.80} is refused: 1 to {_MAX_PREFIX} printable characters, no braces"
        )


def check_buckets(buckets: int | None) -> None:
    """Refuse a number of buckets that a store cannot have."""
    if buckets is not None and not 1 <= buckets <= _MAX_BUCKETS:
        raise ConfigurationError(f"buckets is a number from 1 to {_MAX_BUCKETS}, not {buckets!r}")


@attrs.frozen(kw_only=True)
class RedisLimits:
    """How many requests a storage sends at a time, and how long they may take.

    Attributes:
        requests: At most so many at a time; ``max_connections`` of the storage.
        connect_seconds: For a new connection; ``connect_timeout``.
        seconds: For the wait for a free connection, and then for an answer; ``timeout``.
    """

    requests: int
    connect_seconds: float
    seconds: float

    def __attrs_post_init__(self) -> None:
        if self.requests < 1:
            raise ConfigurationError(f"max_connections is at least 1, not {self.requests!r}")
        for name, seconds in (("connect_timeout", self.connect_seconds), ("timeout", self.seconds)):
            if not (math.isfinite(seconds) and seconds > 0):
                raise ConfigurationError(f"{name} is a number of seconds above 0, not {seconds!r}")


@attrs.frozen(kw_only=True)
class RedisAddress:
    """Where a store is.

    Attributes:
        kind: One server, a cluster, or sentinels that know the master.
        hosts: Host and port of the server, of some nodes or of the sentinels; empty for a socket.
        path: Of a Unix socket.
        master: The name by which the sentinels know the master.
        db: Number of the database; None: not given.
        tls: Whether connections are encrypted.
        options: By redis-py's names: username, password, ssl_….
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

    def with_db(self, db: int | None) -> "RedisAddress":
        """Return the address with the database of the storage's own option, if there is one.

        Raises:
            ConfigurationError: The URL names another one, or there is no such database.
        """
        if db is not None and self.db not in (None, db):
            raise ConfigurationError(f"the URL names database {self.db}, db is {db}")
        number = self.db if db is None else db
        if number is not None and number < 0:
            raise ConfigurationError(f"db is a number from 0, not {number}")
        if number and self.kind == "cluster":
            raise ConfigurationError("a Redis Cluster has database 0 only; keep stores apart by prefix")
        return attrs.evolve(self, db=number)


def parse_address(url: str) -> RedisAddress:
    """Read a URL.

    Its parts are percent-decoded. Its query may hold ``db``, ``username``, ``password``,
    ``sentinel_username``, ``sentinel_password`` and redis-py's ``ssl_…`` options.

    Raises:
        ConfigurationError: The URL is not valid; the text does not repeat it, for it may hold a password.
    """
    url = url.strip()  # secret stores add a newline
    if not url.isprintable() or " " in url:
        raise ConfigurationError(f"a Redis URL holds no blank and no control character; {_ENCODE}")
    if "@" in url.partition("?")[2]:
        raise ConfigurationError(f"the Redis URL has an @ behind a ?; {_ENCODE}")
    try:
        parts = urlsplit(url, allow_fragments=False)
        kind, tls = _scheme(parts.scheme, url)
        options = _options(parts.query)
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
            return RedisAddress(kind=kind, path=unquote(place + parts.path), db=db, options=options)
        segments = [unquote(segment) for segment in parts.path.split("/") if segment]
        master = segments.pop(0) if kind == "sentinel" and segments else None
        address = RedisAddress(
            kind=kind,
            hosts=_hosts(place, _PORTS[kind]),
            master=master,
            db=_number(segments.pop(0)) if segments else db,
            tls=tls,
            options=options,
            sentinel_options=sentinel_options,
        )
    except ConfigurationError:
        raise
    except ValueError:  # the text may hold part of a password in which a character is not encoded
        raise ConfigurationError(f"the Redis URL has a port or a database that is not a number; {_ENCODE}") from None
    if kind == "sentinel" and not master:
        raise ConfigurationError("a sentinel URL names the master: redis+sentinel://host:port/mymaster/0")
    if segments:
        raise ConfigurationError("a Redis URL ends with the number of a database")
    return address


def _scheme(scheme: str, url: str) -> tuple[Kind, bool]:
    base, _, kind = scheme.partition("+")
    kinds: dict[str, Kind] = {"": "single", "cluster": "cluster", "sentinel": "sentinel"}
    if base in ("redis", "valkey", "rediss", "valkeys") and kind in kinds:
        return kinds[kind], base in ("rediss", "valkeys")
    if scheme == "unix":
        return "single", False
    given = f"; not {scheme[:20]!a}" if url.lower().startswith(f"{scheme}://") else ""  # else it may be a password
    raise ConfigurationError(f"a Redis URL begins with one of {_SCHEMES}; valkey means redis{given}")


def _hosts(place: str, port: int) -> tuple[tuple[str, int], ...]:
    parts = [urlsplit(f"//{host}") for host in place.split(",")]  # which takes off the brackets around IPv6
    return tuple((one.hostname or "localhost", one.port or port) for one in parts)


def _options(query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, values in parse_qs(query, keep_blank_values=True).items():
        if name not in _OPTIONS:
            known = ", ".join(sorted(_OPTIONS))
            raise ConfigurationError(f"{name[:40]!a} is no option of a Redis URL; there are: {known}")
        options[name] = values[0]
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = options["ssl_check_hostname"].lower() not in _FALSE
    return options


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
