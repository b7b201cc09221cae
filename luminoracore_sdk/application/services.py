"""The ports that every use case needs, besides the storage."""

from collections.abc import Sequence

import attrs

from luminoracore_sdk.application.ports.clock import Clock, IdFactory
from luminoracore_sdk.application.ports.codec import EntityCodec
from luminoracore_sdk.application.ports.prompting import Notation, TokenCounter
from luminoracore_sdk.application.ports.provider import ProviderRegistry

__all__ = ["Services"]


@attrs.frozen(kw_only=True)
class Services:
    """The ports that every use case needs, besides the storage.

    Attributes:
        codec: Converts entities to records and back.
        clock: Tells the time.
        ids: Generates ids.
        tokens: Counts tokens, for the context window and to choose between notations.
        notations: Write memories into the prompt; the most readable one first.
        providers: Creates model providers.
    """

    codec: EntityCodec
    clock: Clock
    ids: IdFactory
    tokens: TokenCounter
    notations: Sequence[Notation]
    providers: ProviderRegistry
