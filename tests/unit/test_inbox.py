"""Functions that one thread posts for another."""

from collections.abc import Callable
from functools import partial

from luminoracore_sdk.adapters.inbox import Inbox


def test_functions_run_in_order_with_one_wake_up() -> None:
    woken = list[Callable[[], None]]()
    called = list[int]()
    inbox = Inbox(woken.append)
    for number in range(3):
        inbox.post(partial(called.append, number))
    assert len(woken) == 1
    woken.pop()()
    assert called == [0, 1, 2]


def test_what_is_posted_meanwhile_waits_for_the_next_wake_up() -> None:
    """Else a thread that is always given something would never come to anything else, such as a fork."""
    woken = list[Callable[[], None]]()
    calls = list[int]()
    inbox = Inbox(woken.append)

    def again() -> None:
        calls.append(len(calls))
        assert len(calls) <= 2
        inbox.post(again)

    inbox.post(again)
    woken.pop()()
    assert (calls, len(woken)) == ([0], 1)
    woken.pop()()
    assert (calls, len(woken)) == ([0, 1], 1)
