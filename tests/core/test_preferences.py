from __future__ import annotations

import math
import random

import pytest

from d3po_core.errors import BadPreference
from d3po_core.preferences import Crowd, Pair, Preference, group_weights, mean_ratings, pairs_from, scores_of, wins_of


def test_the_best_image_beats_every_other_one() -> None:
    assert pairs_from([Preference("best", best=2)], 4) == [Pair(2, 0), Pair(2, 1), Pair(2, 3)]


def test_a_ranking_gives_all_its_pairs() -> None:
    pairs = pairs_from([Preference("ranking", ranking=[2, 0, 1])], 3)
    assert {(p.chosen, p.rejected, p.weight) for p in pairs} == {(2, 0, 1.0), (2, 1, 1.0), (0, 1, 1.0)}


@pytest.mark.parametrize("outcome", ["tie", "all_bad", "skip"])
def test_no_choice_gives_no_pair(outcome: str) -> None:
    assert pairs_from([Preference(outcome)], 3) == []


def test_a_choice_outlives_ties_beside_it() -> None:
    assert pairs_from([Preference("tie"), Preference("best", best=0), Preference("skip")], 2) == [Pair(0, 1)]


def test_the_majority_orients_a_pair_and_its_margin_weighs_it() -> None:
    votes = [Preference("best", best=0), Preference("best", best=1), Preference("best", best=1)]
    assert pairs_from(votes, 2) == [Pair(1, 0, pytest.approx(1 / 3))]


def test_sign_only_is_the_majority_whatever_its_margin() -> None:
    votes = [Preference("best", best=best) for best in (0, 1, 1)]
    assert pairs_from(votes, 2, "sign") == [Pair(1, 0, 1.0)]
    assert pairs_from(votes[:2], 2, "sign") == []


CROWD = Crowd(0.7, {"sure": 0.9, "unsure": 0.6, "clicks": 0.5})


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"sure": 0}, [Pair(0, 1, 0.8)]),
        ({"a stranger": 1}, [Pair(1, 0, 0.4)]),
        ({"clicks": 0}, []),
        ({"sure": 0, "clicks": 1}, [Pair(0, 1, 0.8)]),
        ({"sure": 0, "unsure": 1}, [Pair(0, 1, (0.9 * 0.4 - 0.1 * 0.6) / (0.9 * 0.4 + 0.1 * 0.6))]),
        ({"unsure": 1, "a stranger": 1}, [Pair(1, 0, (0.6 * 0.7 - 0.4 * 0.3) / (0.6 * 0.7 + 0.4 * 0.3))]),
        ({"a stranger": 0, "another": 1}, []),
    ],
)
def test_reliability_weighs_a_pair_by_how_sure_its_sign_is(said: dict[str, int], expected: list[Pair]) -> None:
    """By Bayes' rule: p = prod r / (prod r + prod (1-r)), weight |2p - 1|."""
    votes = [Preference("best", best=best, annotator=annotator) for annotator, best in said.items()]
    pairs = pairs_from(votes, 2, "reliability", CROWD)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [(pair.chosen, pair.rejected) for pair in expected]
    assert [pair.weight for pair in pairs] == pytest.approx([pair.weight for pair in expected])


def test_weights_by_reliability_do_not_depend_on_the_order_of_votes_and_stay_in_their_bounds() -> None:
    rng = random.Random(2)
    crowd = Crowd(0.8, {str(k): rng.uniform(0.5, 0.999) for k in range(40)})
    for _ in range(50):
        votes = [Preference("ranking", ranking=rng.sample(range(4), 4), annotator=str(rng.randrange(50))) for _ in range(9)]
        pairs = pairs_from(votes, 4, "reliability", crowd)
        assert pairs_from(rng.sample(votes, 9), 4, "reliability", crowd) == pairs
        assert all(0 < pair.weight <= 1 for pair in pairs)


@pytest.mark.parametrize("crowd", [None, Crowd(0.7, {"never wrong": 1.0}), Crowd(0.4, {}), Crowd(math.nan, {})])
def test_weights_by_reliability_need_reliabilities(crowd: Crowd | None) -> None:
    with pytest.raises(BadPreference, match="need how reliable each person is"):
        pairs_from([Preference("best", best=0)], 2, "reliability", crowd)


def test_a_group_that_is_trusted_less_weighs_less() -> None:
    assert group_weights([[Pair(0, 1, 0.9)], [Pair(0, 1, 0.1), Pair(0, 2, 0.5)]]) == pytest.approx([1.5, 0.5])


def test_people_who_cancel_out_leave_nothing() -> None:
    assert pairs_from([Preference("best", best=0), Preference("best", best=1)], 2) == []


def test_two_bests_of_three_agree_only_on_the_third() -> None:
    assert pairs_from([Preference("best", best=0), Preference("best", best=1)], 3) == [Pair(0, 2), Pair(1, 2)]


def test_pairs_follow_the_margin_formula_whatever_the_votes() -> None:
    rng = random.Random(0)
    for _ in range(100):
        votes = [Preference("ranking", ranking=rng.sample(range(5), rng.randint(2, 5))) for _ in range(rng.randint(1, 6))]
        wins = [win for vote in votes for win in wins_of(vote, 5)]
        expected = set()
        for i in range(5):
            for j in range(5):
                margin = wins.count((i, j)) - wins.count((j, i))
                if margin > 0:
                    expected.add((i, j, margin / (wins.count((i, j)) + wins.count((j, i)))))
        assert {(p.chosen, p.rejected, p.weight) for p in pairs_from(votes, 5)} == expected


@pytest.mark.parametrize(
    "preference",
    [
        Preference("best", best=3),
        Preference("best", best=-1),
        Preference("ranking", ranking=[0, 3]),
        Preference("ranking", ranking=[1, 1]),
    ],
)
def test_an_image_that_is_not_there_is_refused(preference: Preference) -> None:
    with pytest.raises(BadPreference, match="the group has the images 0 to 2"):
        pairs_from([preference], 3)


@pytest.mark.parametrize("preference", [*map(Preference, ("best", "ranking", "rated")), Preference("better", best=0)])
def test_an_outcome_without_its_choice_is_refused(preference: Preference) -> None:
    with pytest.raises(BadPreference, match="needs its best image, its ranking or its ratings"):
        pairs_from([preference], 3)


def test_scores_are_the_share_of_comparisons_that_an_image_won() -> None:
    assert scores_of([Pair(2, 0), Pair(2, 1), Pair(0, 1)], 4) == [0.5, 0.0, 1.0, 0.5]  # nobody compared the last one
    votes = [Preference("best", best=0), Preference("best", best=1), Preference("best", best=1)]
    assert scores_of(pairs_from(votes, 2), 2) == pytest.approx([1 / 3, 2 / 3])
    assert scores_of([], 2) == [0.5, 0.5]


def test_scores_order_images_as_the_rankings_of_several_people_do() -> None:
    rng = random.Random(1)
    for _ in range(50):
        ranking = rng.sample(range(5), 5)
        scores = scores_of(pairs_from([Preference("ranking", ranking=ranking)] * 3, 5), 5)
        assert sorted(range(5), key=lambda i: -scores[i]) == ranking
        assert [scores[i] for i in ranking] == pytest.approx([1, 0.75, 0.5, 0.25, 0])


def test_ratings_of_several_people_are_counted_like_other_votes() -> None:
    good_and_bad = [Preference("rated", ratings=[[1], [0], [0]]), Preference("rated", ratings=[[1], [1], [0]])]
    assert pairs_from([*good_and_bad, Preference("best", best=1)], 3) == [Pair(0, 2), Pair(1, 2)]
    assert mean_ratings(good_and_bad, 3) == [1, 0.5, 0]


@pytest.mark.parametrize("other", [Preference("best", best=0), Preference("tie"), Preference("rated", ratings=[[1, 2], [2, 1]])])
def test_there_is_a_mean_rating_only_where_all_rate_with_one_number(other: Preference) -> None:
    rated = Preference("rated", ratings=[[2.5], [0.5]])
    assert mean_ratings([rated, Preference("skip")], 2) == [2.5, 0.5]
    assert mean_ratings([rated, other], 2) is None
    assert mean_ratings([], 2) is None


@pytest.mark.parametrize("ratings", [[], [[1]], [[1], [1, 2]], [[], []], [[1], [float("nan")]]])
def test_ratings_are_finite_numbers_one_row_an_image(ratings: list[list[float]]) -> None:
    with pytest.raises(BadPreference, match=r"Ratings of 2 images|finite number"):
        pairs_from([Preference("rated", ratings=ratings)], 2)
