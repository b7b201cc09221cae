#!/usr/bin/env python3
"""A stand-in for the ``claude`` program: answers at once, keeps the transcript as the program does, and mirrors it.

It speaks JSON lines on stdin and stdout: control requests, messages of the user, ``transcript_mirror`` frames.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4


def say(**message: Any) -> None:
    """Write a message."""
    sys.stdout.write(f"{json.dumps(message)}\n")
    sys.stdout.flush()


def option(name: str) -> str | None:
    """Return the value of an option, or None."""
    return next((given.removeprefix(f"{name}=") for given in sys.argv if given.startswith(f"{name}=")), None)


session_id = option("--resume") or option("--session-id") or str(uuid4())
home = Path(os.environ.get("CLAUDE_CONFIG_DIR", Path.home() / ".claude"))
transcript = home / "projects" / re.sub(r"[^a-zA-Z0-9]", "-", str(Path.cwd())) / f"{session_id}.jsonl"


def entry(kind: str, text: str) -> dict[str, Any]:
    """Return an entry of a transcript."""
    content: Any = text if kind == "user" else [{"type": "text", "text": text}]
    return {
        "type": kind,
        "uuid": str(uuid4()),
        "sessionId": session_id,
        "timestamp": "2026-11-30T00:00:00.000Z",
        "message": {"role": kind, "content": content},
    }


def answer(text: str) -> None:
    """Answer a message of the user."""
    transcript.parent.mkdir(parents=True, exist_ok=True)
    before = transcript.read_text().splitlines() if transcript.exists() else []
    asked = sum(json.loads(line)["type"] == "user" for line in before)
    said = f"after {asked}: {text}"
    entries = [entry("user", text), entry("assistant", said)]
    with transcript.open("a") as file:
        file.writelines(f"{json.dumps(one)}\n" for one in entries)
    say(type="transcript_mirror", filePath=str(transcript), entries=entries)
    message = {"role": "assistant", "model": "fake", "content": [{"type": "text", "text": said}]}
    say(type="assistant", message=message, session_id=session_id, parent_tool_use_id=None)
    say(
        type="result",
        subtype="success",
        duration_ms=1,
        duration_api_ms=1,
        is_error=False,
        num_turns=1,
        session_id=session_id,
        result=said,
    )


for line in sys.stdin:
    received = json.loads(line)
    if received["type"] == "control_request":
        response = {"subtype": "success", "request_id": received["request_id"], "response": {"commands": []}}
        say(type="control_response", response=response)
    elif received["type"] == "user":
        answer(received["message"]["content"])
