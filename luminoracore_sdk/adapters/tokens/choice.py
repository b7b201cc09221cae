"""Which token counter: by the name of an encoding, by the name of a model, or the best there is."""

from importlib.util import find_spec

from luminoracore_sdk.adapters.tokens.bpe import CL100K, ENCODINGS, O200K, BpeTokenCounter
from luminoracore_sdk.adapters.tokens.heuristic import HeuristicTokenCounter
from luminoracore_sdk.application.ports.prompting import TokenCounter
from luminoracore_sdk.domain.errors import ConfigurationError, ValidationError

__all__ = ["MODEL_ENCODINGS", "default_token_counter", "encoding_of", "token_counter"]

MODEL_ENCODINGS = {
    "chatgpt-4o": O200K,
    "gpt-4.1": O200K,
    "gpt-4.5": O200K,
    "gpt-4o": O200K,
    "gpt-5": O200K,
    "gpt-oss": O200K,
    "o1": O200K,
    "o3": O200K,
    "o4-mini": O200K,
    "gpt-3.5": CL100K,
    "gpt-35-turbo": CL100K,
    "gpt-4": CL100K,
    "text-embedding-3-large": CL100K,
    "text-embedding-3-small": CL100K,
    "text-embedding-ada-002": CL100K,
}
"""Encoding by model: a name, or the part of one before a hyphen or a dot; the longest that fits decides.

After ``tiktoken/model.py`` of tiktoken 0.14. gpt-oss has the texts of o200k_base and special tokens of
its own, which do not occur in a text.
"""


def encoding_of(model: str) -> str:
    """Return the name of a model's encoding.

    Args:
        model: As in ``provider_config``; dated (``gpt-4o-2024-08-06``) and fine-tuned names (``ft:…``) too.

    Raises:
        ConfigurationError: Not in ``MODEL_ENCODINGS``; other makers do not publish theirs.
        ValidationError: Not a text.
    """
    if not isinstance(model, str):
        raise ValidationError(f"a token counter is named by an encoding or a model, a str, not {type(model).__name__}")
    name = model.removeprefix("ft:")
    for known in sorted(MODEL_ENCODINGS, key=len, reverse=True):
        if name == known or name.startswith((f"{known}-", f"{known}.", f"{known}:")):
            return MODEL_ENCODINGS[known]
    raise ConfigurationError(
        f"no encoding is known for {model!a}; known are the encodings {', '.join(ENCODINGS)} "
        f"and the models {', '.join(sorted(MODEL_ENCODINGS))}"
    )


def token_counter(name: str) -> BpeTokenCounter:
    """Return the exact counter for an encoding or a model.

    Args:
        name: o200k_base, cl100k_base, or the name of a model; see ``MODEL_ENCODINGS``. There is no name
            that is used when none is given: None is refused.

    Raises:
        ConfigurationError: Neither.
        ValidationError: Not a text.
        MissingDependencyError: The extra ``tokens`` is not installed.
    """
    return BpeTokenCounter(name if name in ENCODINGS else encoding_of(name))


def default_token_counter() -> TokenCounter:
    """Return the counter that is used when none is given.

    With the extra ``tokens`` that of o200k_base: exact for OpenAI's current models, an estimate for
    others. Without it, the heuristic. Nothing is loaded before the first count.
    """
    return HeuristicTokenCounter() if find_spec("bpe_openai") is None else BpeTokenCounter()
