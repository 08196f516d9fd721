"""How reliable people are, told from how they agree with each other, by MACE of the package crowd-kit. No torch.

Every comparison of two images of a group, i before j, is an item with two possible labels, and a vote labels as many items as
it states comparisons. MACE (Hovy et al. 2013, "Learning Whom to Trust with MACE") gives each person the probability epsilon of
answering without looking; who answers so prefers the better of two images half of the time:

    r = 1 - epsilon / 2

Only what several people compared says anything, and the comparisons of one vote are not independent. So each person's
estimate is drawn towards everybody's mean by `PRIOR_VOTES` votes; who voted on nothing that others saw has that mean. Which
method and how much was chosen on simulated people (docs/log.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from d3po_core.errors import LibraryMissing
from d3po_core.preferences import Crowd, Preference, wins_of

PRIOR_VOTES = 2
NOT_KNOWN = 0.75
"""Of everybody where no two people compared the same images: halfway from chance to never wrong."""
ITERATIONS = 50
DIGITS = 3


@dataclass(frozen=True)
class Person:
    """`votes` that state a comparison; `shared`: those of them with one that somebody else made too."""

    votes: int
    shared: int
    reliability: float


@dataclass(frozen=True)
class Estimate:
    """What one round's preferences say about who made them. `population`: the mean, of anybody not among `people`."""

    population: float
    people: Mapping[str, Person]

    @property
    def crowd(self) -> Crowd:
        return Crowd(self.population, {name: person.reliability for name, person in self.people.items()})


@dataclass(frozen=True)
class _Label:
    vote: int
    item: str
    annotator: str
    says: str


def estimate(groups: Iterable[tuple[Iterable[Preference], int]]) -> Estimate:
    """groups: the preferences on each group, with its number of images. Those without an annotator say nothing about anybody.

    Everybody's reliability is in 1/2..1 - 10^-DIGITS. The same preferences on the same list of groups give the same numbers.
    Raises LibraryMissing without crowd-kit, BadPreference as `preferences.wins_of`.
    """
    labels = [label for index, group in enumerate(groups) for label in _labels(index, *group)]
    annotators = defaultdict[str, set[str]](set)
    for label in labels:
        annotators[label.item].add(label.annotator)
    shared = [label for label in labels if len(annotators[label.item]) > 1]
    votes, counted = _votes(labels), _votes(shared)
    fitted = _mace(shared)
    population = sum(counted[name] * r for name, r in fitted.items()) / sum(counted.values()) if fitted else NOT_KNOWN
    people = {}
    for name in sorted(votes):
        n = counted.get(name, 0)
        reliability = (n * fitted.get(name, 0.0) + PRIOR_VOTES * population) / (n + PRIOR_VOTES)
        people[name] = Person(votes[name], n, _short_of_certain(reliability))
    return Estimate(_short_of_certain(population), people)


def _short_of_certain(reliability: float) -> float:
    """Rounded, and below 1: no number of votes against one person's makes up for a certainty."""
    return min(round(reliability, DIGITS), 1 - 10**-DIGITS)


def _labels(group: int, preferences: Iterable[Preference], n_images: int) -> Iterable[_Label]:
    for vote, preference in enumerate(preferences):
        if preference.annotator is not None:
            for winner, loser in wins_of(preference, n_images):
                item = f"{group} {min(winner, loser)} {max(winner, loser)}"
                # Which of two images is called the first is chance: were the earlier one often better, as in groups that
                # somebody sorted, who looks would seem to answer the same to everything.
                is_first = (winner < loser) == bool(crc32(item.encode()) & 1)
                yield _Label(vote, item, preference.annotator, "first" if is_first else "second")


def _votes(labels: Iterable[_Label]) -> dict[str, int]:
    seen = defaultdict[str, set[tuple[str, int]]](set)
    for label in labels:
        seen[label.annotator].add((label.item.partition(" ")[0], label.vote))
    return {name: len(votes) for name, votes in seen.items()}


def _mace(labels: list[_Label]) -> dict[str, float]:
    """The reliability of everybody who made these comparisons; below 1, since its prior expects both kinds of answers."""
    aggregation = _crowdkit()
    if not labels:
        return {}
    from pandas import DataFrame

    # By annotator, because a person's first random numbers are those of their place.
    rows = sorted((label.annotator, label.says, label.item) for label in labels)
    frame = DataFrame(rows, columns=["worker", "label", "task"])
    # Its restarts all begin from the same random numbers, so one is as good as many.
    model = aggregation.MACE(n_restarts=1, n_iter=ITERATIONS, random_state=0).fit(frame)
    spamming, knowing = model.spamming_.T  # variational estimates, whose sum is below 1
    epsilon = spamming / (spamming + knowing)
    return {name: 1 - float(epsilon[k]) / 2 for k, name in enumerate(frame["worker"].unique())}


def _crowdkit() -> Any:
    try:
        from crowdkit import aggregation
    except ImportError as error:
        raise LibraryMissing(
            "pair_weights=reliability needs the package crowd-kit, which is not installed where the round trains: "
            "pip install 'd3po[reliability]', or choose pair_weights=margin."
        ) from error
    return aggregation
