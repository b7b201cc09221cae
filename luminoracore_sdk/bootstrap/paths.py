"""Where a store in files lies, from a URL or a path."""

from pathlib import Path
from urllib.parse import unquote

from luminoracore_sdk.domain.errors import ConfigurationError

__all__ = ["expanded", "path_of"]


def expanded(path: str) -> Path:
    """Return a path with the home folder in the place of ``~``.

    Raises:
        ConfigurationError: It cannot be a path.
    """
    if "\0" in path:
        raise ConfigurationError("a path must not hold a NUL character")
    try:
        return Path(path).expanduser()
    except RuntimeError as exc:  # ~somebody, and there is no such user
        raise ConfigurationError(f"{path!a}: {exc}") from exc


def path_of(connection_string: str, kind: str) -> str:
    """Return the path that a connection string names, a URL or a path itself.

    Args:
        connection_string: Of a store in files.
        kind: json or sqlite.

    Raises:
        ConfigurationError: It is a URL of another kind of store, or names no path.
    """
    scheme, separator, rest = connection_string.partition("://")
    if not separator:
        return connection_string
    if "?" in rest or "#" in rest:
        raise ConfigurationError(f"a {scheme}:// URL takes no query; a path with '?' or '#' in it goes into file_path")
    if scheme == "sqlite" and kind == "sqlite":
        path = rest.removeprefix("/")  # as SQLAlchemy has it: three slashes relative, four absolute
    elif scheme in ("file", "json") and kind == "json":
        path = unquote(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest)
    else:
        raise ConfigurationError(f"a {scheme}:// URL does not name a store of type {kind!s}")
    if not path.strip("/"):
        raise ConfigurationError(f"the URL {scheme}:// names no path")
    return "/" + path.lstrip("/") if path.startswith("/") else path
