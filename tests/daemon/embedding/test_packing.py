"""Groups of texts, hashed words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codegraphd.daemon.embedding.hashing import HashingBackend, HashingTokens
from codegraphd.daemon.embedding.models import resolve
from codegraphd.daemon.embedding.packing import Bundles, Group, Request, groups, requests_for

CARD = 16384  # tokens


def request(number: int, lengths: Sequence[int], *, is_urgent: bool = False) -> Request:
    """Texts whose tokens say whose they are."""
    ids = [[1000 * number + place] * length for place, length in enumerate(lengths)]
    return Request(number, ids, (False,) * len(ids), 1, is_urgent=is_urgent)


def taken(bundles: Bundles) -> list[tuple[set[int], int]]:
    """Every group until none is left: whose texts, how many tokens."""
    found = []
    while (group := bundles.take()) is not None:
        found.append(({request.id for request in group.requests()}, sum(map(len, group.ids()))))
    return found


@given(st.lists(st.integers(1, 600)), st.integers(1, 1000))
def test_groups_hold_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    found = groups(lengths, budget)
    assert sorted(index for group in found for index in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or sum(lengths[i] for i in group) <= budget for group in found)
    order = [lengths[i] for group in found for i in group]
    assert order == sorted(order, reverse=True)


@given(st.lists(st.text(), min_size=1, max_size=20))
def test_hashed_vectors_depend_on_the_text_alone(texts: list[str]) -> None:
    info = resolve("hashing", "")
    tokens, backend = HashingTokens(info), HashingBackend(info)
    ids = [ids for ids, _ in tokens.encode(texts)]
    together = backend.encode(ids)
    alone = np.concatenate([backend.encode([row]) for row in ids])
    assert np.array_equal(together, alone)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_requests_are_merged_until_a_group_of_the_device_is_full() -> None:
    bundles = Bundles(CARD)
    fullness = []
    for number in range(1, 8):
        bundles.add(request(number, [60] * 64))
        fullness.append(bundles.is_full())
    assert fullness == [False] * 6 + [True]  # the second bundle is worth a group once it holds half of one
    assert taken(bundles) == [({1, 2, 3, 4}, 4 * 64 * 60), ({5, 6, 7}, 3 * 64 * 60)]


def test_a_processor_is_given_the_groups_of_one_request_after_the_other() -> None:
    bundles = Bundles(512)
    bundles.add(request(1, [100] * 10))
    bundles.add(request(2, [200, 100, 300]))
    assert bundles.is_full()
    assert taken(bundles) == [({1}, 500), ({1}, 500), ({2}, 500), ({2}, 100)]


def test_what_a_lane_has_begun_is_not_added_to() -> None:
    bundles = Bundles(CARD)
    bundles.add(request(1, [CARD, 5]))
    assert bundles.take() is not None
    bundles.add(request(2, [5]))
    assert taken(bundles) == [({1}, 5), ({2}, 5)]


def test_an_edit_goes_before_what_waits_and_after_earlier_edits() -> None:
    bundles = Bundles(512)
    bundles.add(request(1, [300, 300]))
    bundles.add(request(2, [400, 400], is_urgent=True))
    bundles.add(request(3, [400], is_urgent=True))
    assert [whose for whose, _ in taken(bundles)] == [{2}, {2}, {3}, {1}, {1}]


def test_a_group_that_the_model_refuses_takes_its_requests_along_and_no_others() -> None:
    bundles = Bundles(10)
    for number, lengths in ((1, [2]), (2, [3]), (3, [8, 8])):
        bundles.add(request(number, lengths))
    group = bundles.take()
    assert group is not None
    bundles.add(request(4, [6]))
    assert [each.id for each in bundles.give_up(group)] == [1, 2]
    assert bundles.give_up(group) == []  # said once
    assert group.settle(np.zeros((2, 1), np.float32)) == []
    assert taken(bundles) == [({3}, 8), ({3}, 8), ({4}, 6)]


@given(
    st.lists(st.one_of(st.just(None), st.tuples(st.lists(st.integers(1, 40), min_size=1), st.booleans())), max_size=30),
    st.integers(1, 200),
)
def test_every_text_gets_its_own_vector_and_every_request_is_done_once(
    steps: list[tuple[list[int], bool] | None], budget: int
) -> None:
    """None: a lane takes a group. Groups come back in the opposite order."""
    bundles, requests, groups_out = Bundles(budget), [], list[Group]()
    for step in [*steps, *[None] * 2000]:
        if step is not None:
            requests.append(request(len(requests) + 1, step[0], is_urgent=step[1]))
            bundles.add(requests[-1])
        elif (group := bundles.take()) is not None:
            groups_out.append(group)
    done = []
    for group in reversed(groups_out):
        assert len(group.ids()) == 1 or sum(map(len, group.ids())) <= budget
        done += group.settle(np.asarray([[ids[0]] for ids in group.ids()], np.float32))
    assert sorted(each.id for each in done) == [each.id for each in requests]
    for each in requests:
        assert each.rows[:, 0].tolist() == [ids[0] for ids in each.ids]


def test_a_card_wants_more_requests_at_a_time_than_a_processor() -> None:
    assert [requests_for(budget) for budget in (256, 512, 2048, CARD)] == [2, 2, 2, 12]
