"""Bootstrap intervals, interquartile means, probability of improvement and performance profiles.

The recipe of rliable (Agarwal et al. 2021) in numpy, with a seeded generator: the same data give
the same interval on any machine. Intervals are 95% percentile intervals. A rate that is the same
for every item has no spread to resample: it gets an interval after Wilson. `scores` are
(seeds, tasks) arrays; without at least two seeds there is no interval over seeds, and those
functions return None.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from mentor_kit.errors import UserError

RESAMPLES = 2000
CONFIDENCE = 0.95
CHUNK = 4_000_000  # weights held at once: 32 MB


class Interval(NamedTuple):
    """A statistic and the bounds of its interval."""

    estimate: float
    low: float
    high: float


def _checked(values: np.ndarray, dimensions: int, what: str) -> np.ndarray:
    array = np.asarray(values, float)
    if array.ndim != dimensions or not array.size or not np.isfinite(array).all():
        raise UserError(f"{what} of shape {array.shape} cannot be resampled: it needs {dimensions} "
                        "dimension(s), at least one value, and no missing ones.")
    return array


def interval(estimate: float, resampled: np.ndarray) -> Interval:
    """The percentile interval of resampled statistics."""
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(estimate), float(low), float(high))


def resampled_means(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Means over items of (items, columns) values, in each bootstrap resample of the items:
    (resamples, columns).

    Items are drawn once for all columns, so differences between columns are paired.
    """
    values = _checked(values, 2, "Values")
    n = len(values)
    if resamples == RESAMPLES and n * resamples <= CHUNK:
        return _drawn(n, seed) @ values / n
    rng, step = np.random.default_rng(seed), max(1, CHUNK // n)
    return np.concatenate([_weights(rng, n, min(step, resamples - i)) @ values / n
                           for i in range(0, resamples, step)])


def _weights(rng: np.random.Generator, n: int, resamples: int) -> np.ndarray:
    """How often each of n items is in each resample: (resamples, n)."""
    drawn = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * resamples).reshape(resamples, n)


def bootstrap_interval(values: np.ndarray, *, resamples: int = RESAMPLES,
                       seed: int = 0) -> Interval:
    """Interval of the mean of one value an item, over resampled items."""
    values = _checked(values, 1, "Values")
    return interval(values.mean(), resampled_means(values[:, None], resamples, seed)[:, 0])


def paired_bootstrap(a: np.ndarray, b: np.ndarray, *, resamples: int = RESAMPLES,
                     seed: int = 0) -> Interval:
    """Interval of mean(a) - mean(b), where a[i] and b[i] are values of the same item.

    Raises:
        UserError: the two have different lengths, or none.
    """
    if np.shape(a) != np.shape(b):
        raise UserError(f"Paired bootstrap of {np.shape(a)} and {np.shape(b)} values: both need "
                        "one value an item.")
    difference = np.asarray(a, float) - np.asarray(b, float)
    return bootstrap_interval(difference, resamples=resamples, seed=seed)


def rate_interval(values: np.ndarray) -> Interval:
    """Interval of the mean of one rate (0..1) an item: `bootstrap_interval`, or `alike_interval`
    where all items have the same rate."""
    values = _checked(values, 1, "Rates")
    if np.ptp(values):
        return bootstrap_interval(values)
    return alike_interval(values[0], len(values), 0, 1)


def paired_rates(a: np.ndarray, b: np.ndarray) -> Interval:
    """Interval of mean(a) - mean(b) of two rates (0..1) an item: `paired_bootstrap`, or
    `alike_interval` where all items have the same difference."""
    found = paired_bootstrap(a, b)
    if np.ptp(np.asarray(a, float) - np.asarray(b, float)):
        return found
    return alike_interval(found.estimate, len(a), -1, 1)


def crossed_interval(values: np.ndarray, lowest: float = 0, highest: float = 1) -> Interval:
    """Interval of the mean of (seeds, items) values, over seeds and items: seeds are resampled
    first, then items, which are the same for all seeds and so are drawn once for all of them (the
    pigeonhole bootstrap, Owen 2007). nan is a value that is not there.

    With one seed only items are resampled, as in `rate_interval` and `paired_rates`. Few seeds give
    a narrow interval: of 3 the spread comes out about a fifth too small. Values lie between
    `lowest` and `highest`; where all are the same, the interval is `alike_interval`.
    """
    values = np.asarray(values, float)
    there = np.isfinite(values)
    if not there.any():
        raise UserError("There is no value to resample.")
    filled, seeds, items = np.where(there, values, 0.0), *values.shape
    mean = float(filled.sum() / there.sum())
    if np.ptp(values[there]) == 0:
        return alike_interval(mean, int(there.any(0).sum()), lowest, highest)
    by_seed, by_item = _drawn(seeds, 0), _drawn(items, 1)
    total, count = (((by_item @ x.T) * by_seed).sum(1) for x in (filled, there.astype(float)))
    return interval(mean, total[count > 0] / count[count > 0])


@lru_cache(maxsize=8)
def _drawn(n: int, stream: int) -> np.ndarray:
    """The same resamples of n for every comparison: (resamples, n) weights."""
    return _weights(np.random.default_rng(stream), n, RESAMPLES)


def alike_interval(value: float, n: int, lowest: float, highest: float) -> Interval:
    """Interval of a mean where n items all have the same value: resamples of a constant would call
    it certain, but Wilson's interval (1927) of 0 of n items says how many others may be otherwise.

    For a rate of 0 or 1 this is Wilson's interval itself: 16 right of 16 is 1 [0.81, 1].
    """
    z2 = ndtri((1 + CONFIDENCE) / 2) ** 2
    otherwise = z2 / (n + z2)
    return Interval(float(value), float(value - otherwise * (value - lowest)),
                    float(value + otherwise * (highest - value)))


def iqm(scores: np.ndarray) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter of all values, seeds
    and tasks together (a quarter is rounded down to whole values)."""
    from scipy.stats import trim_mean  # slow to import

    return float(trim_mean(np.asarray(scores, float), 0.25, axis=None))


def stratified_bootstrap(scores: np.ndarray, statistic: Callable[[np.ndarray], float] = iqm, *,
                         resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
    """Interval of a statistic of (seeds, tasks) scores, seeds resampled within each task; None with
    one seed."""
    scores = _checked(scores, 2, "Scores")
    seeds, tasks = scores.shape
    if seeds < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = rng.integers(seeds, size=(resamples, seeds, tasks))
    drawn = [statistic(scores[r, np.arange(tasks)]) for r in rows]
    return interval(statistic(scores), np.array(drawn))


def improvement(x: np.ndarray, y: np.ndarray) -> float:
    """Probability that a seed of x beats a seed of y, ties counting half, averaged over tasks."""
    x, y = _checked(x, 2, "Scores"), _checked(y, 2, "Scores")
    wins = (x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])
    return float(wins.mean())


def probability_of_improvement(x: np.ndarray, y: np.ndarray, *, resamples: int = RESAMPLES,
                               seed: int = 0) -> Interval | None:
    """`improvement` of (seeds, tasks) scores with a bootstrap over seeds within each task; None
    with one seed.

    Raises:
        UserError: x and y do not have the same tasks.
    """
    x, y = _checked(x, 2, "Scores"), _checked(y, 2, "Scores")
    if x.shape[1] != y.shape[1]:
        raise UserError(f"Improvement over {x.shape[1]} and {y.shape[1]} tasks: both need the same "
                        "tasks.")
    if min(len(x), len(y)) < 2:
        return None
    rng, tasks, drawn = np.random.default_rng(seed), np.arange(x.shape[1]), []
    for _ in range(resamples):
        resampled_x = x[rng.integers(len(x), size=x.shape), tasks]
        resampled_y = y[rng.integers(len(y), size=y.shape), tasks]
        drawn.append(improvement(resampled_x, resampled_y))
    return interval(improvement(x, y), np.array(drawn))


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share of (seed, task) pairs whose score is above each threshold."""
    scores = _checked(scores, 2, "Scores").ravel()
    return (scores[None] > np.asarray(thresholds, float)[:, None]).mean(axis=1)
