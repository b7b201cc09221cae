"""Options of the PostgreSQL backend: the URL, the namespace of the tables, limits."""

import math
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit

import attrs

from luminoracore_sdk.adapters.storage.sql import DEFAULT_PREFIX
from luminoracore_sdk.domain.errors import ConfigurationError

__all__ = ["DEFAULT_POOL_SIZE", "MAX_PREFIX_LENGTH", "Address", "Limits", "Namespace", "without_connect_timeout"]

DEFAULT_POOL_SIZE = 10

MAX_PREFIX_LENGTH = 32
"""Longest table prefix: PostgreSQL cuts names at 63 bytes, and the longest name has 30 after the prefix."""

_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
_OURS = frozenset({"schema", "table_prefix", "pool_size", "prepared_statements", "pgbouncer"})
_PUBLIC = frozenset(
    {
        *("application_name", "connect_timeout", "database", "dbname", "direct_tls", "host", "options", "passfile"),
        *("port", "search_path", "ssl", "sslcert", "sslkey", "sslmode", "sslrootcert", "target_session_attrs", "user"),
    }
)
"""The parameters that errors show; any other may be a password under a wrong name."""
_TRUTHS = {
    "true": True,
    "1": True,
    "on": True,
    "yes": True,
    "false": False,
    "0": False,
    "off": False,
    "no": False,
}
_MAX_POOL_SIZE = 10_000
_MAX_PORT = 65_535
_NAME_BYTES = 63
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_REPLACED = {
    **dict.fromkeys(
        ("statement_cache_size", "prepared_statement_cache_size", "prepared_statement_name_func"),
        "write prepared_statements=false behind a pooler that shares connections, else leave it out",
    ),
    **dict.fromkeys(
        ("timeout", "command_timeout"), "pass timeout=… to PostgreSQLStorage; connect_timeout is for connections"
    ),
    **dict.fromkeys(("max_overflow", "pool_timeout", "pool_recycle", "poolclass"), "write pool_size alone"),
    **dict.fromkeys(
        (
            *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
            *("gssencmode", "gssdelegation", "sslcompression", "sslsni", "sslcertmode", "sslcrldir", "requirepeer"),
            *("require_auth", "hostaddr", "fallback_application_name", "load_balance_hosts", "replication"),
            *("async_fallback", "requiressl"),
        ),
        "asyncpg has no such parameter; leave it out",
    ),
}
"""What to write in place of parameters of libpq and SQLAlchemy that asyncpg would send to the server, which fails."""
_ENCODE = "write %40, %2F, %3F and %23 for the characters @ / ? # of a name or password"


@attrs.frozen
class Address:
    """A parsed URL.

    Attributes:
        dsn: What asyncpg takes; holds the password.
        shown: The address without any password.
        schema: From the URL; None: not given.
        table_prefix: From the URL; None: not given.
        pool_size: From the URL; None: not given.
        prepared_statements: False: the connections go through a pooler that shares them between clients.
    """

    dsn: str = attrs.field(repr=False)
    shown: str
    schema: str | None = None
    table_prefix: str | None = None
    pool_size: int | None = None
    prepared_statements: bool = True

    @classmethod
    def of(cls, url: str) -> "Address":
        """Parse a URL.

        Raises:
            ConfigurationError: It cannot work; the message shows no part that may be secret.
        """
        url = url.strip()  # secret stores add a newline
        if not url.isprintable() or " " in url:
            raise _refused(f"a blank or a control character stands in it; {_ENCODE}, and %20 for a blank")
        try:
            parts = urlsplit(url)
            query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:  # its text may quote the password
            raise _refused(f"it cannot be read; {_ENCODE}") from None
        if parts.scheme not in _SCHEMES:
            raise _refused(f"it begins with one of {', '.join(f'{scheme}://' for scheme in _SCHEMES)}")
        login, _, hosts = parts.netloc.rpartition("@")
        if "@" in login or "@" in parts.path or "@" in parts.query or "#" in url:
            raise _refused(_ENCODE)
        _check_ports(hosts)
        ours = {name: value for name, value in query if name in _OURS}
        rest = [(name, value) for name, value in query if name not in _OURS]
        for name, _value in rest:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name):
                raise _refused("a parameter has a name that no setting of PostgreSQL has")
            if name in _REPLACED:
                raise _refused(f"{name}: {_REPLACED[name]}")
        rest = _asyncpg_parameters(rest)
        public = [(name, value) for name, value in rest if name in _PUBLIC]
        user = login.partition(":")[0]
        return cls(
            dsn=_joined(parts.netloc, parts.path, rest),
            shown=_joined(f"{user}@{hosts}" if user else hosts, parts.path, public),
            schema=ours.get("schema"),
            table_prefix=ours.get("table_prefix"),
            pool_size=_pool_size(ours),
            prepared_statements=_prepared_statements(ours),
        )


@attrs.frozen
class Namespace:
    """Where the tables are.

    Attributes:
        schema: None: where the role's ``search_path`` leads.
        prefix: Beginning of the table names.
    """

    schema: str | None = None
    prefix: str = DEFAULT_PREFIX

    def __attrs_post_init__(self) -> None:
        schema, prefix = self.schema, self.prefix
        if schema is not None:
            too_long = len(schema.encode(errors="replace")) > _NAME_BYTES
            if not schema or too_long or not schema.isprintable() or schema.startswith("pg_"):
                raise ConfigurationError(
                    f"schema {schema[:80]!a} is refused: 1 to {_NAME_BYTES} bytes of printable text, not pg_…"
                )
        if not re.fullmatch(rf"[A-Za-z0-9_]{{0,{MAX_PREFIX_LENGTH}}}", prefix):
            raise ConfigurationError(
                f"table_prefix {prefix[:80]!a} is refused: up to {MAX_PREFIX_LENGTH} letters, digits and _"
            )

    @classmethod
    def of(cls, address: Address | None, schema: str | None, prefix: str) -> "Namespace":
        """Return the namespace that the URL or the arguments name.

        Raises:
            ConfigurationError: They contradict each other, or PostgreSQL does not take a name.
        """
        if address is not None:
            schema = _agreed("schema", schema, address.schema)
            given = None if prefix == DEFAULT_PREFIX else prefix
            agreed = _agreed("table_prefix", given, address.table_prefix)
            prefix = DEFAULT_PREFIX if agreed is None else agreed
        return cls(schema, prefix)

    def address(self, shown: str) -> str:
        """Return an address without password with this namespace among its parameters."""
        given = {"schema": self.schema, "table_prefix": None if self.prefix == DEFAULT_PREFIX else self.prefix}
        ours = urlencode({name: value for name, value in given.items() if value is not None})
        return f"{shown}{'&' if '?' in shown else '?'}{ours}" if ours else shown


def _agreed(name: str, argument: str | None, of_url: str | None) -> str | None:
    if argument is not None and of_url is not None and argument != of_url:
        raise ConfigurationError(f"{name} differs between the URL and the arguments")
    return of_url if argument is None else argument


@attrs.frozen(kw_only=True)
class Limits:
    """Limits of a storage.

    Attributes:
        pool_size: Most connections.
        connect_seconds: To establish one.
        call_seconds: For one call, the wait for a connection included.
    """

    pool_size: int
    connect_seconds: float
    call_seconds: float

    def __attrs_post_init__(self) -> None:
        _check_pool_size(self.pool_size)
        for name, seconds in (("connect_timeout", self.connect_seconds), ("timeout", self.call_seconds)):
            if not (math.isfinite(seconds) and seconds > 0):
                raise ConfigurationError(f"{name} is a number of seconds above 0, not {seconds!r}")


def without_connect_timeout(url: str) -> tuple[str, float | None]:
    """Return a URL without libpq's ``connect_timeout``, and its seconds; None, also for 0: it sets no limit.

    Raises:
        ConfigurationError: It is not a number.
    """
    place, mark, query = url.strip().partition("?")
    found = [pair for pair in query.split("&") if pair.startswith("connect_timeout=")]
    if not found:
        return url, None
    seconds = found[-1].partition("=")[2]
    if not re.fullmatch(r"[0-9]{1,9}", seconds):
        raise _refused("connect_timeout is a whole number of seconds")
    rest = "&".join(pair for pair in query.split("&") if pair not in found)
    return f"{place}{mark if rest else ''}{rest}", float(seconds) or None


def _asyncpg_parameters(query: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return parameters as asyncpg takes them: without ``ssl`` and ``channel_binding`` of other drivers."""
    modes = {value for name, value in query if name in ("ssl", "sslmode")}
    if any(name == "ssl" for name, _ in query):
        if len(modes) > 1:
            raise _refused("ssl and sslmode contradict each other")
        if not modes.issubset(_MODES):
            raise _refused("for ssl, write sslmode=verify-full (or require, which checks no certificate), or disable")
    if any(name == "channel_binding" and value not in ("disable", "prefer") for name, value in query):
        raise _refused(
            "channel_binding: asyncpg has none; leave it out, and write sslmode=verify-full, which makes sure of the "
            "server"
        )
    if any(name == "connect_timeout" for name, _ in query):
        raise _refused("connect_timeout: pass connect_timeout=… to PostgreSQLStorage; create_storage reads the URL's")
    kept = [(name, value) for name, value in query if name not in ("ssl", "sslmode", "channel_binding")]
    return [("sslmode", mode) for mode in modes] + kept


def _joined(netloc: str, path: str, query: list[tuple[str, str]]) -> str:
    return f"postgresql://{netloc}{path}{'?' if query else ''}{urlencode(query)}"


def _check_ports(hosts: str) -> None:
    for host in hosts.split(","):
        _, colon, port = host.rpartition("]")[2].rpartition(":")
        if colon and not (re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= _MAX_PORT):
            raise _refused(f"a port is not a number of 1 to {_MAX_PORT}; {_ENCODE}")


def _pool_size(ours: Mapping[str, str]) -> int | None:
    if (given := ours.get("pool_size")) is None:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", given):
        raise _refused("pool_size is not a number")
    size = int(given)
    _check_pool_size(size)
    return size


def _check_pool_size(size: int) -> None:
    if not 1 <= size <= _MAX_POOL_SIZE:
        raise ConfigurationError(f"pool_size is 1 to {_MAX_POOL_SIZE} connections, not {size!r}")


def _prepared_statements(ours: Mapping[str, str]) -> bool:
    prepared = [_truth(ours, "prepared_statements")] if "prepared_statements" in ours else []
    if "pgbouncer" in ours:
        prepared.append(not _truth(ours, "pgbouncer"))
    if len(set(prepared)) == 2:
        raise _refused("prepared_statements and pgbouncer contradict each other")
    return prepared[0] if prepared else True


def _truth(ours: Mapping[str, str], name: str) -> bool:
    if (value := _TRUTHS.get(ours[name].lower())) is None:
        raise _refused(f"{name} is true or false")
    return value


def _refused(reason: str) -> ConfigurationError:
    return ConfigurationError(f"the PostgreSQL URL is refused: {reason}")
