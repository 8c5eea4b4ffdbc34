"""Greedy soups, with scores that need no network."""

import math
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from segtool.core.averaging.runs import Checkpoint
from segtool.core.averaging.soup import greedy_soup

SCORES = st.one_of(st.floats(0, 1), st.just(math.nan))


def checkpoints(count: int) -> list[Checkpoint]:
    return [Checkpoint(Path("run"), Path(f"epoch_{n:03d}.pt"), n) for n in range(count)]


@given(st.data(), st.integers(2, 6))
def test_a_soup_never_scores_below_its_best_member(data: st.DataObject, count: int) -> None:
    known: dict[tuple[Checkpoint, ...], float] = {}

    def score(some: Sequence[Checkpoint]) -> float:
        if tuple(some) not in known:
            known[tuple(some)] = data.draw(SCORES)
        return known[tuple(some)]

    members = checkpoints(count)
    soup = greedy_soup(members, score)
    singles = [known[(member,)] for member in members]
    reached = known[tuple(soup)]
    assert all(math.isnan(single) or reached >= single for single in singles)
    # From the best down, and each network is scored once.
    order = sorted(members, key=lambda c: -math.inf if math.isnan(known[(c,)]) else known[(c,)], reverse=True)
    assert soup == [member for member in order if member in soup]
    assert len(known) == count + count - 1


def test_only_what_raises_the_score_is_added() -> None:
    a, b, c, d = checkpoints(4)
    scores = {(a,): 0.5, (b,): 0.7, (c,): 0.6, (d,): 0.1, (b, c): 0.7, (b, a): 0.8, (b, a, d): 0.79}
    assert greedy_soup([a, b, c, d], lambda some: scores[tuple(some)]) == [b, a]
