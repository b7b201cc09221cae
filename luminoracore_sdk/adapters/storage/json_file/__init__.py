"""The JSON file backend."""

from luminoracore_sdk.adapters.storage.json_file.storage import JSONFileStorage

__all__ = ["JSONFileStorage"]
