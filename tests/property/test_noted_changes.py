"""A watcher that missed any number of changes ends with what is stored."""

from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.application.ports.records import MAX_CHANGES, HistoryChange, noted

_LAST = 500

made = st.lists(
    st.tuples(st.sampled_from(["updated"] * 40 + ["cut"]), st.integers(1, _LAST)),
    min_size=MAX_CHANGES - 1,
    max_size=MAX_CHANGES + 8,
)


@given(made, st.data())
def test_no_change_is_forgotten_when_the_oldest_become_one(made: list[tuple[str, int]], data: st.DataObject) -> None:
    changes: tuple[HistoryChange, ...] = ()
    for kind, position in made:
        changes = noted(changes, kind, position)  # type: ignore[arg-type]
    assert len(changes) == min(len(made), MAX_CHANGES)
    numbers = [change.number for change in changes]
    assert numbers == list(range(len(made) - len(changes) + 1, len(made) + 1))
    seen = data.draw(st.integers(0, len(made)))
    stale = {position for kind, position in made[seen:] if kind == "updated"}
    stale |= {other for kind, position in made[seen:] if kind == "cut" for other in range(position + 1, _LAST + 1)}
    read_again: set[int] = set()
    for change in changes:
        if change.number > seen and change.kind == "cut":
            read_again |= set(range(change.position + 1, _LAST + 1))
        elif change.number > seen:
            read_again.add(change.position)
    assert stale <= read_again


def test_the_two_oldest_changes_become_a_cut_below_both() -> None:
    changes: tuple[HistoryChange, ...] = ()
    for position in (7, 5, *range(8, 8 + MAX_CHANGES - 1)):
        changes = noted(changes, "updated", position)
    assert changes[:1] == (HistoryChange(2, "cut", 4),)
    assert [change.number for change in changes] == list(range(2, MAX_CHANGES + 2))
