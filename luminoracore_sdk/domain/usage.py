"""The tokens that turns have used, and what they cost."""

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any, Self

import attrs

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["ModelUsage", "Price", "Usage", "counters_of", "folding", "token_counts"]

_PREFIX = "tokens"
_MILLION = 1_000_000
_LONGEST_MODEL = 200


def _to_price(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValidationError(f"a price is a number, not {type(value).__name__}")
    try:
        price = Decimal(str(value))
    except ArithmeticError as exc:
        raise ValidationError(f"a price is a number, not {value!a:.40}") from exc
    if not price.is_finite() or price < 0:
        raise ValidationError(f"a price is 0 or more, not {value!a:.40}")
    return price


def _to_optional_price(value: Any) -> Decimal | None:
    return None if value is None else _to_price(value)


@attrs.frozen(kw_only=True)
class Price:
    """What a model costs for a million tokens, in any currency.

    Attributes:
        input: Of the prompt.
        output: Of the answer.
        cached_input: Of those of the prompt that the provider read from its cache; None: as ``input``.
    """

    input: Decimal = attrs.field(converter=_to_price)
    output: Decimal = attrs.field(converter=_to_price)
    cached_input: Decimal | None = attrs.field(default=None, converter=_to_optional_price)


@attrs.frozen(kw_only=True)
class ModelUsage:
    """The tokens that one model has counted.

    Attributes:
        model: The model; empty if the provider did not name it.
        input_tokens: Those of the prompts, with the cached ones.
        output_tokens: Those of the answers.
        cached_input_tokens: Those of the prompts that the provider read from its cache.
    """

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0

    def __add__(self, other: "ModelUsage") -> "ModelUsage":
        return attrs.evolve(
            self,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
        )

    def cost(self, price: Price) -> Decimal:
        """Return what these tokens cost."""
        cached = price.input if price.cached_input is None else price.cached_input
        plain = self.input_tokens - self.cached_input_tokens
        total = plain * price.input + self.cached_input_tokens * cached + self.output_tokens * price.output
        return total / _MILLION


@attrs.frozen(kw_only=True)
class Usage:
    """The tokens of a turn, a session, a user or a period.

    Attributes:
        models: One entry for each model, by name.
    """

    models: tuple[ModelUsage, ...] = ()

    @classmethod
    def of(cls, found: Iterable[ModelUsage]) -> Self:
        """Return the sum of several entries."""
        sums: dict[str, ModelUsage] = {}
        for one in found:
            sums[one.model] = sums[one.model] + one if one.model in sums else one
        return cls(models=tuple([sums[model] for model in sorted(sums)]))

    @classmethod
    def of_counters(cls, counters: Mapping[str, int], *, since: date | None = None, until: date | None = None) -> Self:
        """Return what the counters of a session say of a period; see ``counters_of``."""
        sums: dict[str, dict[str, int]] = {}
        for day, kind, model, number in _parsed(counters):
            if (since is None or day >= since) and (until is None or day < until):
                of_model = sums.setdefault(model, {})
                of_model[kind] = of_model.get(kind, 0) + number
        return cls(models=tuple([ModelUsage(model=model, **sums[model]) for model in sorted(sums)]))

    @classmethod
    def of_answer(cls, model: str | None, usage: JSONObject | None) -> Self:
        """Return the usage of one answer, as its provider gives it."""
        counts = token_counts(usage)
        return cls(models=(ModelUsage(model=model or "", **counts),) if counts else ())

    def __add__(self, other: "Usage") -> "Usage":
        return Usage.of((*self.models, *other.models))

    @property
    def input_tokens(self) -> int:
        """Those of the prompts, with the cached ones."""
        return sum(one.input_tokens for one in self.models)

    @property
    def output_tokens(self) -> int:
        """Those of the answers."""
        return sum(one.output_tokens for one in self.models)

    @property
    def cached_input_tokens(self) -> int:
        """Those of the prompts that the provider read from its cache."""
        return sum(one.cached_input_tokens for one in self.models)

    def cost(self, prices: Mapping[str, Price]) -> Decimal:
        """Return what the tokens cost.

        Args:
            prices: The price of each model; ``"*"``: that of every other one.

        Raises:
            ValidationError: A model has no price, or one that is no ``Price``.
        """
        if not isinstance(prices, Mapping):
            raise ValidationError(f"prices must be a mapping, not {type(prices).__name__}")
        total = Decimal(0)
        for one in self.models:
            price = prices.get(one.model, prices.get("*"))
            if price is None:
                raise ValidationError(f"there is no price for the model {one.model!a:.80}")
            if not isinstance(price, Price):
                raise ValidationError(f"the price of {one.model!a:.80} must be a Price, not {type(price).__name__}")
            total += one.cost(price)
        return total

    def to_dict(self) -> JSONObject:
        """Return a JSON object."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cached_input_tokens": self.cached_input_tokens,
            "models": [attrs.asdict(one) for one in self.models],
        }


def token_counts(usage: object) -> dict[str, int]:
    """Return the token counts that a provider gives, by the names of ``ModelUsage``; empty if it gives none.

    OpenAI counts cached tokens among those of the prompt, Anthropic beside them.
    """
    if not isinstance(usage, Mapping):
        return {}
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    among = _number(details, "cached_tokens") if isinstance(details, Mapping) else 0
    beside = _number(usage, "cache_read_input_tokens")
    written = _number(usage, "cache_creation_input_tokens")
    prompt = _number(usage, "prompt_tokens") or _number(usage, "input_tokens")
    counts = {
        "input_tokens": prompt + beside + written,
        "output_tokens": _number(usage, "completion_tokens") or _number(usage, "output_tokens"),
        "cached_input_tokens": min(among or beside or _number(usage, "cache_read_tokens"), prompt + beside + written),
    }
    return counts if any(counts.values()) else {}


def _number(usage: Mapping[Any, Any], name: str) -> int:
    value = usage.get(name)
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else 0


_MOST_TOKENS = 2**40
_MOST_MOVED = 2**38
"""Largest counter that is folded: the sum of a year must be one that an append may add."""


def counters_of(day: date, model: str | None, usage: object) -> dict[str, int]:
    """Return what an answer adds to the counters of its session: a sum for each day, kind and model."""
    counts = token_counts(usage)
    if not counts:
        return {}
    name = (model or "").encode(errors="replace").decode().replace("\0", "?")[:_LONGEST_MODEL]
    return {
        f"{_PREFIX}/{day.isoformat()}/{kind.removesuffix('_tokens')}/{name}": number
        for kind, number in counts.items()
        if number
    }


def folding(counters: Mapping[str, int], today: date) -> dict[str, int]:
    """Return what to add to the counters of a session so that they do not become more with every day.

    Those of days before last month are moved to the first day of their month, those of years before last year to the
    first day of their year. Two writers that do this at once move too much; the next one then moves it back.
    """
    moves: dict[str, int] = {}
    for name, number in counters.items():
        if abs(number) > _MOST_MOVED or (parts := _parts(name)) is None:
            continue
        if (first := _first_day(parts[0], today)) != parts[0]:
            into = name.replace(parts[0].isoformat(), first.isoformat(), 1)
            moves[name] = -number
            moves[into] = moves.get(into, 0) + number
    return moves


def _first_day(day: date, today: date) -> date:
    """Return the first day of the period that a day is counted in."""
    if day.year < today.year - 1:
        return day.replace(month=1, day=1)
    months = 12 * (today.year - day.year) + today.month - day.month
    return day if months < 2 else day.replace(day=1)


def _parsed(counters: Mapping[str, int]) -> Iterable[tuple[date, str, str, int]]:
    for name, number in counters.items():
        if (parts := _parts(name)) is not None:
            yield *parts, number


@lru_cache(maxsize=1024)
def _parts(name: str) -> tuple[date, str, str] | None:
    """Return day, kind and model of a counter of tokens; the sessions of a page have few of them."""
    prefix, _, rest = name.partition("/")
    day, kind, model = (rest.split("/", 2) + [""] * 3)[:3]
    if prefix != _PREFIX or kind not in ("input", "output", "cached_input"):
        return None
    try:
        return date.fromisoformat(day), f"{kind}_tokens", model
    except ValueError:  # not of this package
        return None
