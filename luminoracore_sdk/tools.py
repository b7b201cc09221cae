"""The documented import: tools that a model calls, and answers of a given form."""

from luminoracore_sdk.adapters.schemas import tool_of
from luminoracore_sdk.application.memory_tools import memory_tools
from luminoracore_sdk.application.structured import StructuredResponse
from luminoracore_sdk.application.tools import Tool
from luminoracore_sdk.bootstrap.tools import run_tools, send_structured

__all__ = ["StructuredResponse", "Tool", "memory_tools", "run_tools", "send_structured", "tool_of"]
