"""What goes to the model, and what it costs: token counters, and text for prompts."""

from luminoracore_sdk.adapters.tokens import BpeTokenCounter, HeuristicTokenCounter, encoding_of, token_counter
from luminoracore_sdk.application.ports.prompting import Notation, TokenCounter
from luminoracore_sdk.application.prompt_tokens import PromptTokens
from luminoracore_sdk.application.prompts import render_transcript
from luminoracore_sdk.bootstrap.rendering import prompt_tokens, render_data, render_memory

__all__ = [
    "BpeTokenCounter",
    "HeuristicTokenCounter",
    "Notation",
    "PromptTokens",
    "TokenCounter",
    "encoding_of",
    "prompt_tokens",
    "render_data",
    "render_memory",
    "render_transcript",
    "token_counter",
]
