"""Random histories, as strategies of hypothesis."""

from __future__ import annotations

from history_runs import JOBS, Again, During, Full, Jobs, Maintain, Refused, Run, Set
from history_source import (
    TEXTS,
    AddColumn,
    ChangeColumn,
    ChangeField,
    ChangeIds,
    CleanUp,
    Copy,
    CreateAgain,
    Delete,
    Feed,
    Insert,
    PutBack,
    Restore,
    Rewrite,
    Update,
)
from history_world import ALTERNATIVES, Operation
from hypothesis import strategies as st

KINDS = ("INT", "STRING", "STRUCT<a: INT, b: STRING>", "MAP<STRING, INT>", "TIMESTAMP_NTZ")
CHANGES = ("rename", "rename text", "drop", "drop and add", "swap", "widen", "move")
third = st.integers(0, 2)

source_changes = st.one_of(
    st.builds(Insert, st.integers(1, 2), st.integers(0, len(TEXTS) - 1)),
    st.builds(Update, third, st.one_of(st.none(), st.integers(0, len(TEXTS) - 1))),
    st.builds(Delete, third),
    st.builds(ChangeIds, third, st.booleans()),
    st.builds(Rewrite),
    st.builds(AddColumn, st.sampled_from(KINDS), st.booleans()),
    st.builds(ChangeColumn, st.sampled_from(CHANGES), st.integers(0, 3)),
    st.builds(ChangeField, st.sampled_from(("add", "rename", "drop"))),
    st.builds(Restore, st.integers(1, 4)),
    st.builds(Copy),
    st.builds(PutBack, st.integers(0, 2)),
    st.builds(CreateAgain, st.booleans()),
    st.builds(Feed, st.booleans()),
    st.builds(CleanUp, st.booleans()),
)
setting_changes = st.one_of(
    *(
        st.builds(Set, st.just(name), st.integers(1, len(alternatives) - 1))
        for name, alternatives in ALTERNATIVES.items()
    )
)


def weighted(*choices: tuple[int, st.SearchStrategy[Operation]]) -> st.SearchStrategy[Operation]:
    """Return a strategy that draws from each strategy as often as its weight says."""
    drawn = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.integers(0, len(drawn) - 1).flatmap(lambda number: drawn[number])


changes = weighted((2, source_changes), (1, setting_changes))
ends = st.sampled_from(("killed", "fails", "continues"))
# A run has about ten writes.
points = st.integers(0, 20)
meanwhile = weighted((4, changes), (1, st.builds(Maintain, st.booleans())))
interruptions = st.builds(During, points, st.lists(meanwhile, max_size=1).map(tuple), ends)
overtakings = st.builds(
    During, points, st.lists(changes, max_size=2).map(lambda done: (*done, Run())), st.just("continues")
)
rare = st.one_of(st.builds(Full, st.booleans()), st.builds(Again), st.builds(Refused))
runs = weighted(
    *((4, interruptions), (4, overtakings), (3, st.builds(Run))),  # the first is that of the simplest history
    *((2, st.builds(Jobs, st.integers(0, len(JOBS) - 1))), (1, st.builds(Maintain, st.booleans())), (1, rare)),
)
steps = st.tuples(st.lists(changes, min_size=1, max_size=3), runs).map(lambda step: (*step[0], step[1]))
histories = st.lists(steps, min_size=2, max_size=3).map(lambda parts: tuple(op for part in parts for op in part))
