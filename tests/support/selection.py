"""Which tests an ordinary run leaves out, and which it does not measure, so that CI stays below eight minutes."""

import re
from collections.abc import Callable

import pytest

__all__ = ["LONG_RUN", "UNMEASURED", "deselect", "mark_listed", "unused"]

LONG_RUN = (
    # wrappers, and races within one storage: those of two storages stay
    "contract/*::TestDeferredMemory",
    "contract/*::TestFiles::*[one-storage",
    "contract/*::TestMongoDB::*[one-storage",
    "contract/*::TestPostgres::*[one-storage",
    "contract/*::TestRedis::*[one-storage",
    "contract/*::TestRetryingMemory",
    # the contract of the contract
    "contract/test_how_to_adapter.py::",
    "contract/test_the_suite.py::test_every_part_of_the_contract",
    "contract/test_the_suite.py::test_the_state_machine_finds_a_fault",
    "integration/server_bad_days/*valkey-cluster",
    # one process, or one killed server, for each case
    "integration/mongodb/test_places.py::test_twenty_processes",
    "integration/mongodb/test_places.py::test_kills_of_a_writing_client",
    "integration/mongodb/test_plans.py::",
    "integration/redis/test_places.py::test_when_a_replica_takes_over",
    "integration/redis/test_activity.py::test_hot_sessions_are_listed_in_their_place[2",
    "integration/redis/test_activity.py::test_hot_sessions_are_listed_in_their_place[3",
    "integration/redis/test_refusals.py::test_a_replica_is_read",
    "integration/redis/test_silence.py::",
    "integration/sync/test_forks.py::test_a_fork_beside_busy_threads_leaves_no_lock_held[file",
    "integration/sync/test_forks.py::test_a_fork_beside_busy_threads_leaves_no_lock_held[memory",
    "integration/test_cli_doctor.py::test_unreachable_server_is_one_line_without_password[mongodb",
    "integration/test_cli_import.py::test_an_import_that_was_killed_can_be_repeated[False-",
    "integration/test_cli_import.py::test_an_import_that_was_killed_can_be_repeated[True-1",
    "integration/test_cli_import.py::test_an_import_that_was_killed_can_be_repeated[True-2",
    "integration/test_cli_import.py::test_an_import_that_was_killed_can_be_repeated[True-3",
    "integration/test_cli_import.py::test_an_import_that_was_killed_can_be_repeated[True-6",
    "integration/test_cli_import.py::test_memory_is_below_four_times",
    "integration/test_cli_keyboard.py::test_a_history_that_cannot_be_kept",
    "integration/test_cli_keyboard.py::test_a_line_can_be_edited",
    "integration/test_cli_keyboard.py::test_a_paste_of_several_lines",
    "integration/test_cli_keyboard.py::test_markdown_is_rendered",
    "integration/test_cli_keyboard.py::test_ctrl_c_discards_a_line",
    "integration/test_cli_keyboard.py::test_ctrl_c_keeps_what_came_of_an_answer[dumb]",
    "integration/test_cli_keyboard.py::test_history_is_private",
    "integration/test_cli_keyboard.py::test_reasoning_calls_and_usage",
    "integration/test_cli_keyboard.py::test_the_tabulator",
    "integration/test_cli_optimize.py::test_every_backend_is_trained_rewritten_and_measured[mongodb",
    "integration/test_cli_picture.py::test_a_user_s_own_matplotlibrc",
    "integration/test_cli_process.py::test_at_the_keyboard",
    "integration/test_cli_process.py::test_ctrl_c_at",
    "integration/test_cli_process.py::test_failing_provider",
    "integration/test_cli_process.py::test_a_reader_that_goes_away",
    "integration/test_cli_process.py::test_ctrl_c_in_a_single_message",
    "integration/test_cli_rewrite.py::",
    "integration/test_cli_streams.py::test_a_closed_stream_gives",
    "integration/test_cli_streams.py::test_a_stream_that_is_closed",
    "integration/test_cli_streams.py::test_json_is_utf_8_in_every_locale",
    "integration/test_copying_backends.py::",
    "integration/test_corpus_ring.py::test_the_corpus_survives_a_copy",
    "integration/test_sigkill.py::test_killing_the_server_loses_nothing[mongodb-replica-set",
    "integration/test_sigkill.py::test_killing_the_server_loses_nothing[valkey-cluster",
    "integration/test_tools_killed.py::test_a_run_killed_at_any_moment_is_finished",
    "integration/test_fastapi_example.py::*[file://",
    "integration/test_mcp.py::test_a_signal_ends",
    "integration/test_mcp.py::test_a_store_that_is_not_there",
    "integration/test_mcp.py::test_a_tenant_is",
    "integration/test_mcp.py::test_a_user_must_be_named",
    "integration/test_mcp.py::test_calls_at_once",
    "integration/test_mcp.py::test_lines_that_are_no_requests",
    "integration/test_mcp.py::test_read_only",
    "integration/test_recall.py::test_every_backend_gives_the_same_lists[MongoDB",
    "integration/test_recall.py::test_every_backend_gives_the_same_lists[Redis",
    "integration/test_recall.py::test_every_backend_gives_the_same_lists[files",
    "integration/test_retention.py::test_memory_does_not_grow",
    "integration/test_sigkill.py::test_killing_the_client_loses_nothing[mongodb",
    "integration/test_sigkill.py::test_killing_the_client_loses_nothing[redis",
    "integration/test_rewriting_killed.py::test_killing_a_rewriter_leaves_every_record_whole[JSON",
    "integration/test_users.py::*[files",
    "integration/test_sqlite_processes.py::test_20_processes_open_a_new_store_at_once",
    "property/test_optimizer_fidelity.py::",
    "property/test_payload_fidelity.py::*[files",
    "property/test_payload_fidelity.py::*[optimized",
    "property/test_payload_fidelity.py::test_2000_messages_of_each_encoding_come_back_equal[memory",
    "property/test_recall_follows.py::*[SQLite",
    "property/test_payload_fidelity.py::test_there_are_2000_values",
    "property/test_state_machine.py::*[optimized",
    # the same for another vendor or server
    "integration/server_bad_days/test_connections.py::*[valkey",
    "integration/server_bad_days/test_retrying.py::*[valkey",
    "integration/server_bad_days/test_time.py::*[mongodb",
    "integration/server_bad_days/test_time.py::*[valkey",
    "integration/test_provider_lifecycle.py::test_a_provider_survives_its_event_loop[anthropic",
    "integration/test_pydantic_ai.py::*[google",
    "integration/test_pydantic_ai.py::*[mistral",
    "property/test_outgoing.py::*[deepseek]",
    "property/test_outgoing.py::*[gemini]",
    "property/test_outgoing.py::*[mistral]",
    "property/test_outgoing.py::*[vllm]",
    # what is above the port is the same on every backend; memory, a wrapped SQLite and PostgreSQL stay
    "integrations/test_pydantic_ai.py::*[MongoDB]",
    "integrations/test_pydantic_ai.py::*[Redis]",
    "integrations/test_pydantic_ai.py::*[SQLite]",
    "integrations/test_pydantic_ai.py::*[files]",
    # pages whose commands are processes over servers
    "docs/test_code_blocks.py::*certify-a-storage-adapter.md",
    "docs/test_code_blocks.py::*copy-a-store.md",
    "docs/test_code_blocks.py::*give-a-model-memory.md",
    "docs/test_code_blocks.py::*go-past-one-machine.md",
    "docs/test_code_blocks.py::*import-conversations.md",
    "docs/test_code_blocks.py::*make-a-store-smaller.md",
    "docs/test_code_blocks.py::*migrate-from-the-older-sdk.md",
    "docs/test_code_blocks.py::*mongodb-in-production.md",
    "docs/test_code_blocks.py::*postgresql-in-production.md",
    "docs/test_code_blocks.py::*redis-in-production.md",
    "docs/test_code_blocks.py::*remember-users.md",
    "docs/test_code_blocks.py::*search-conversations.md",
    "docs/test_code_blocks.py::*use-the-command-line.md",
)
"""Beginnings of the names of tests below ``tests`` that take seconds each; ``*`` stands for anything.

``make nightly`` runs them, ``make test`` does not; of each kind a shorter one stays.
"""


UNMEASURED = (
    "contract/*::TestMemory",
    "contract/*::TestMongoDB",
    "contract/*::TestOptimizedEncryptedMemory",
    "contract/*::TestPostgres",
    "contract/*::TestRedis",
    "contract/*::TestSQLite",
    "docs/",
    "integration/mongodb/test_given_up.py::",
    "integration/mongodb/test_memory_changes.py::test_a_killed_change",
    "integration/mongodb/test_memory_changes.py::test_of_two_changes",
    "integration/mongodb/test_purge.py::",
    "integration/mongodb/test_secrets.py::",
    "integration/mongodb/test_tails.py::",
    "integration/redis/test_activity.py::",
    "integration/redis/test_bad_days.py::",
    "integration/redis/test_forks.py::",
    "integration/redis/test_purge.py::",
    "integration/server_bad_days/",
    "integration/sync/",
    "integration/test_*[SQLite",
    "integration/test_*[files",
    "integration/test_cli_copy.py::test_a_copy_that_is_stopped",
    "integration/test_cli_keyboard.py::",
    "integration/test_cli_optimize.py::test_every_backend",
    "integration/test_cli_picture.py::test_a_large",
    "integration/test_cli_picture.py::test_the_same_store",
    "integration/test_cli_process.py::",
    "integration/test_cli_recall.py::test_a_missing_package",
    "integration/test_cli_servers.py::test_a_copy_through",
    "integration/test_cli_streams.py::",
    "integration/test_copying_backends.py::",
    "integration/test_deleted_messages.py::test_many_messages",
    "integration/test_encrypted_processes.py::",
    "integration/test_erasure.py::test_an_erasure_deletes",
    "integration/test_erasure.py::test_writers_of",
    "integration/test_erasure_traces.py::test_some_of",
    "integration/test_erasure_writers.py::*[defer, save]",
    "integration/test_erasure_writers.py::*[empty fork]",
    "integration/test_erasure_writers.py::*[save expiring]",
    "integration/test_erasure_writers.py::*[save]",
    "integration/test_fastapi",
    "integration/test_json_file_costs.py::",
    "integration/test_json_file_listings.py::test_a_change_within",
    "integration/test_json_file_processes.py::",
    "integration/test_keys.py::",
    "integration/test_mcp.py::",
    "integration/test_provider_answers.py::test_an_answer_has",
    "integration/test_provider_failures.py::",
    "integration/test_provider_lifecycle.py::",
    "integration/test_provider_streams.py::test_a_stream",
    "integration/test_pydantic_ai.py::test_statuses",
    "integration/test_recall.py::",
    "integration/test_recall_damage.py::test_doctor",
    "integration/test_recall_input.py::test_an_erased",
    "integration/test_recall_input.py::test_memories_of",
    "integration/test_recall_meaning.py::test_a_cancelled",
    "integration/test_resume.py::",
    "integration/test_retention.py::test_a_run_that",
    "integration/test_rewriting_killed.py::",
    "integration/test_shared_stores.py::",
    "integration/test_sqlite_cost.py::",
    "integration/test_sqlite_life.py::",
    "integration/test_strict_vendors.py::",
    "integrations/test_pydantic_ai.py::test_messages_come",
    "packaging/",
    "property/test_json_fidelity.py::",
    "property/test_optimizer_fidelity.py::",
    "property/test_outgoing.py::",
    "property/test_payload_fidelity.py::",
    "property/test_prompt_notations.py::",
    "property/test_recall_follows.py::",
    "property/test_recall_index.py::test_frequent*[7]",
    "property/test_state_machine.py::",
    "unit/encrypted/test_layout.py::",
    "unit/test_application_cost.py::test_the_memory",
    "unit/test_application_recall.py::test_indexes_of",
    "unit/test_codec_long_strings.py::test_a_long_string_of",
    "unit/test_codec_values.py::test_large",
    "unit/test_message_costs.py::test_a_large_structure",
    "unit/test_optimizer.py::test_any_value",
    "unit/test_urls_as_pasted.py::test_no_error",
)
"""Beginnings of the names of tests that are not measured: what they execute, others execute too.

Measuring doubles the CPU time on Python 3.11. Of the backends that a test of the managers runs on, one is measured.
"""


def _pattern(*starts: str) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(start).replace(r"\*", ".*") for start in starts))


_LONG, _UNMEASURED = _pattern(*LONG_RUN), _pattern(*UNMEASURED)


def _name(item: pytest.Item) -> str:
    return item.nodeid.removeprefix("tests/")


def mark_listed(items: list[pytest.Item]) -> None:
    """Mark the listed tests as ``nightly`` and as ``unmeasured``."""
    for item in items:
        if _LONG.match(_name(item)):
            item.add_marker(pytest.mark.nightly)
        if _UNMEASURED.match(_name(item)):
            item.add_marker(pytest.mark.unmeasured)


def unused(items: list[pytest.Item]) -> list[str]:
    """Return the entries of the lists that no test of a whole collection begins with."""
    names = [_name(item) for item in items]
    return [start for start in (*LONG_RUN, *UNMEASURED) if not any(map(_pattern(start).match, names))]


def deselect(config: pytest.Config, items: list[pytest.Item], unwanted: Callable[[pytest.Item], bool]) -> None:
    """Take the unwanted tests out of a collection, and report them as deselected."""
    taken_out = [item for item in items if unwanted(item)]
    if taken_out:
        config.hook.pytest_deselected(items=taken_out)
        items[:] = [item for item in items if not unwanted(item)]
