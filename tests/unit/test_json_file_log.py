"""The log and its sidecar by themselves."""

from pathlib import Path

from luminoracore_sdk.adapters.storage.json_file_index import MessageIndex
from luminoracore_sdk.adapters.storage.json_file_io import FileIO
from luminoracore_sdk.adapters.storage.json_file_log import MessageLog
from luminoracore_sdk.testing.builders import message_record, message_records


def test_an_id_is_found_by_its_row_and_not_by_bytes_across_two_rows(tmp_path: Path) -> None:
    path = tmp_path / "messages.idx"
    index = MessageIndex(str(path))
    index.add([(["wanted"], 7)])
    index.close()
    row = path.read_bytes()
    path.write_bytes(bytes(8) + row[:16] + row)
    index = MessageIndex(str(path))
    try:
        assert (index.count, index.find(["wanted", "unknown"])) == (2, {"wanted": 2})
        assert index.offset(2) == 7
        many = [f"u{number}" for number in range(20)]
        assert index.find([*many, "wanted"]) == {"wanted": 2}
    finally:
        index.close()


def test_the_time_of_a_log_never_runs_backwards(tmp_path: Path) -> None:
    (tmp_path / "messages.jsonl").touch()
    io = FileIO(fsync=False)
    with MessageLog.opened(tmp_path, io, writing=True) as log:
        list(log.append([([message_record("m1")], 200)]))
        list(log.append([([message_record("m2")], 100)]))
        assert log.at_us == 200
    with MessageLog.opened(tmp_path, io) as log:
        assert (log.last, log.at_us) == (2, 200)


def test_a_read_takes_from_the_log_what_it_needs_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "messages.jsonl").touch()
    io = FileIO(fsync=False)
    with MessageLog.opened(tmp_path, io, writing=True) as log:
        for message in message_records(5000):
            list(log.append([([message], 1)]))

    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text("ascii").split("rchar:")[1].split()[0])

    size = (tmp_path / "messages.jsonl").stat().st_size
    before = bytes_read()
    with MessageLog.opened(tmp_path, io) as log:
        found = log.read(4981, 5000)
    assert [message.message_id for message in found] == [f"m{number}" for number in range(4981, 5001)]
    assert bytes_read() - before < size / 20
