"""A process that runs an agent: ``worker.py FRAMEWORK STORE SESSION COMMAND ARGUMENT``.

The module ``tests.integrations.workers.FRAMEWORK_agent`` has two functions: ``turn`` runs the agent once and returns
its answer, ``texts`` returns what user and agent said so far. The command ``turns`` runs one turn for each word of the
argument and prints the answers; ``forever`` prints the number of each turn that has ended; ``texts`` prints what was
said.
"""

import asyncio
import json
import os
import sys
from importlib import import_module
from itertools import count
from typing import Any

from luminoracore_sdk.bootstrap.config import StorageConfig


async def main(framework: str, store: str, session_id: str, command: str, argument: str = "") -> None:
    """Do what the command says."""
    agent: Any = import_module(f"tests.integrations.workers.{framework}_agent")
    config = StorageConfig(**json.loads(store))
    if command == "texts":
        say(await agent.texts(config, session_id))
    for number, word in enumerate(argument.split()):
        say([number, await agent.turn(config, session_id, word)])
    for number in count() if command == "forever" else ():
        await agent.turn(config, session_id, f"question-{number}")
        say(number)


def say(value: object) -> None:
    """Write a line at once: the process may be killed."""
    os.write(1, json.dumps(value).encode() + b"\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
