"""A model server that reads requests of any size and answers at once: ``/small`` with a word, ``/large`` with text.

It answers in Anthropic's form below ``/v1/messages``, without streams, else in OpenAI's.

The command line has the size of the large answer. It prints its port, and ends with its input.
"""

import asyncio
import json
import sys

_DELTA = 1000


def _whole(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
    return json.dumps(
        {"id": "a", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    ).encode()


def _message(text: str) -> bytes:
    usage = {"input_tokens": 10, "output_tokens": 10}
    facts = {"id": "a", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    return json.dumps({**facts, "content": [{"type": "text", "text": text}], "usage": usage}).encode()


def _events(text: str) -> bytes:
    chunk: dict[str, object] = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas = [{"content": text[start : start + _DELTA]} for start in range(0, len(text), _DELTA)]
    choices: list[dict[str, object]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    events = [json.dumps({**chunk, "choices": [choice]}) for choice in choices]
    return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()


async def serve(size: int) -> None:
    large = ("words of the model " * (size // 19 + 1))[:size]
    bodies = {
        (path, form): write(text)
        for path, text in ((b"/small", "right"), (b"/large", large))
        for form, write in (("events", _events), ("message", _message), ("completion", _whole))
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if b": " in line)
                request = await reader.readexactly(int(fields[b"content-length"]))
                path = head.split(b" ", 2)[1]
                stream = any(mark in request[-500:] + request[:500] for mark in (b'"stream":true', b'"stream": true'))
                form = "events" if stream else "message" if path.endswith(b"/v1/messages") else "completion"
                body = bodies[b"/large" if path.startswith(b"/large") else b"/small", form]
                kind = b"text/event-stream" if stream else b"application/json"
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n" % (kind, len(body)))
                writer.write(body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**16)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
