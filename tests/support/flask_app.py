"""A Flask application on the store that ``LUMINORA_STORE`` names."""

import os
import threading
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request

from luminoracore_sdk import sync

app = Flask(__name__)
storage = sync.create_storage(os.environ["LUMINORA_STORE"])
manager = sync.SessionManager(storage)


@app.post("/sessions")
def create() -> dict[str, Any]:
    return {"id": manager.create_session({}, {"name": "echo", "extra": {"delay": 0.01}})}


@app.post("/sessions/<session_id>/messages")
def send(session_id: str) -> dict[str, Any]:
    answer = manager.send_message(session_id, request.get_data(as_text=True))
    return {"content": answer.content, "process": os.getpid(), "thread": threading.get_ident()}


@app.post("/sessions/<session_id>/stream")
def stream(session_id: str) -> Response:
    text = request.get_data(as_text=True)

    def words() -> Iterator[str]:
        for delta in manager.stream_message(session_id, text):
            yield delta.content

    return Response(words(), mimetype="text/plain")


@app.get("/sessions/<session_id>/messages")
def count(session_id: str) -> dict[str, Any]:
    return {"count": manager.conversation_manager.get_message_count(session_id)}
