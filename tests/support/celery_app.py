"""A Celery application with its broker and its results in a folder, and a store."""

import os
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from celery import Celery  # type: ignore[import-untyped]

from luminoracore_sdk import sync

FOLDER = Path(os.environ["CELERY_FOLDER"])
MEETING_SECONDS = 30

for name in ("queue", "control", "results", "workers"):
    (FOLDER / name).mkdir(exist_ok=True)

queue = str(FOLDER / "queue")
app = Celery("luminora", broker="filesystem://", backend=f"file://{FOLDER}/results")
app.conf.update(
    broker_transport_options={
        "data_folder_in": queue,
        "data_folder_out": queue,
        "control_folder": str(FOLDER / "control"),
        "polling_interval": 0.05,
    },
    worker_prefetch_multiplier=1,
)

storage = sync.create_storage(f"sqlite:///{FOLDER}/store.db")
manager = sync.SessionManager(storage)


@app.task  # type: ignore[untyped-decorator]
def send(session_id: str, text: str) -> dict[str, Any]:
    """Send a message, once two processes work on these tasks."""
    workers = FOLDER / "workers"
    (workers / str(os.getpid())).touch()
    end = monotonic() + MEETING_SECONDS
    while len(list(workers.iterdir())) < 2 and monotonic() < end:
        sleep(0.01)
    return {"content": manager.send_message(session_id, text).content, "process": os.getpid()}
