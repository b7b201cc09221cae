"""A notebook: cells run on an event loop of the kernel, with and without ``await``."""

import json

from tests.integration.sync.conftest import Worker

CELLS = """
from luminoracore_sdk import sync
storage = sync.create_storage("sqlite:///store.db")
manager = sync.SessionManager(storage)
session_id = manager.create_session({}, {"name": "echo"})
manager.send_message(session_id, "Hello").content
---
"".join(delta.content for delta in manager.stream_message(session_id, "Good day"))
---
from luminoracore_sdk.session import SessionManager, shared_storage
shared = shared_storage("sqlite:///store.db")
answer = await SessionManager(shared).send_message(session_id, "Later")
answer.content
---
manager.conversation_manager.get_message_count(session_id)
---
await shared.close()
storage.close()
"""

EXECUTE = f"""
import json, nbformat
from nbclient import NotebookClient

notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in {CELLS.split("---")!r}])
NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
shown = [output["data"]["text/plain"] for cell in notebook.cells for output in cell.outputs]
print(json.dumps(shown))
"""


def test_the_cells_of_a_notebook_need_no_await(run_python: Worker) -> None:
    done = run_python("-c", EXECUTE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["'You said: Hello'", "'You said: Good day'", "'You said: Later'", "6"]
