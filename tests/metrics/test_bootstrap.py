"""Bootstrap, interquartile means and profiles against scipy and hand-computed values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mentor_kit.errors import UserError
from mentor_kit.metrics import bootstrap as s


@pytest.fixture
def values():
    return np.random.default_rng(1).normal(3, 2, size=200)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 5), (5, 7), (3, 8)])
def test_iqm_is_the_mean_without_a_quarter_at_each_end(shape):
    scores = np.random.default_rng(0).random(shape)
    values = np.sort(scores, axis=None)
    cut = len(values) // 4
    assert s.iqm(scores) == pytest.approx(values[cut:len(values) - cut].mean(), abs=1e-12)


def test_iqm_by_hand():
    assert s.iqm(np.array([[0, 100, 1, 2], [3, 4, -50, 5]])) == pytest.approx((1 + 2 + 3 + 4) / 4)


def test_interval_of_a_mean_agrees_with_scipy_and_with_theory(values):
    found = s.bootstrap_interval(values)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=5000, rng=0
    ).confidence_interval
    error = values.std() / np.sqrt(len(values))
    assert found.estimate == pytest.approx(values.mean())
    assert found.low == pytest.approx(theirs.low, abs=0.1 * error)
    assert found.high == pytest.approx(theirs.high, abs=0.1 * error)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.05)


def test_a_constant_has_an_interval_of_no_width():
    assert s.bootstrap_interval(np.ones(20)) == s.Interval(1, 1, 1)


def test_two_values_by_hand():
    # the mean of two draws of {0, 1} is 0, 1/2, 1 with chances 1/4, 1/2, 1/4
    drawn = s.resampled_means(np.array([[0.0], [1.0]]), 20_000)
    assert np.unique(drawn).tolist() == [0, 0.5, 1]
    assert (drawn == 0.5).mean() == pytest.approx(0.5, abs=0.02)


def test_same_seed_same_interval_in_chunks_too(values, monkeypatch):
    whole = s.bootstrap_interval(values)
    monkeypatch.setattr(s, "CHUNK", 1000)
    assert s.bootstrap_interval(values) == whole
    assert s.bootstrap_interval(values, seed=1) != whole


@pytest.mark.parametrize("n", [1, 2, 16, 200])
def test_a_rate_that_is_the_same_for_all_items_has_wilsons_interval(n):
    for value, right in ((0.0, 0), (1.0, n)):
        theirs = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
        found = s.rate_interval(np.full(n, value))
        assert found == pytest.approx((value, theirs.low, theirs.high), abs=1e-12)
    half = s.rate_interval(np.full(n, 0.5))
    assert 0 < half.low < 0.5 < half.high < 1
    mixed = np.array([0.0, 1.0] * 8)
    assert s.rate_interval(mixed) == s.bootstrap_interval(mixed)


def test_methods_that_agree_on_every_item_may_still_differ():
    # Wilson: at most 19.4% of the items may be otherwise, in either direction
    found = s.paired_rates(np.zeros(16), np.zeros(16))
    assert found == pytest.approx((0, -0.1936, 0.1936), abs=1e-4)
    apart = s.paired_rates(np.ones(16), np.zeros(16))
    assert apart == pytest.approx((1, 1 - 2 * 0.1936, 1), abs=1e-4)
    a, b = np.array([0.0, 1.0] * 8), np.zeros(16)
    assert s.paired_rates(a, b) == s.paired_bootstrap(a, b)


def test_pairing_removes_what_the_items_share(values):
    worse = values - 0.5
    assert s.paired_bootstrap(values, worse) == pytest.approx((0.5, 0.5, 0.5))
    unpaired = s.bootstrap_interval(values)
    assert unpaired.high - unpaired.low > 0.4
    with pytest.raises(UserError, match="one value an item"):
        s.paired_bootstrap(values, worse[1:])


@pytest.mark.parametrize("bad", [np.array([]), np.array([1.0, np.nan])])
def test_empty_or_missing_values_are_refused(bad):
    with pytest.raises(UserError, match="missing"):
        s.bootstrap_interval(bad)


def test_stratified_bootstrap_resamples_seeds_within_tasks():
    constant_tasks = np.array([[0.2, 0.9], [0.2, 0.9], [0.2, 0.9]])
    assert s.stratified_bootstrap(constant_tasks, np.mean) == pytest.approx((0.55, 0.55, 0.55))
    # means of a resample: 5 to 6; across tasks they would spread to 11
    two = np.array([[0.0, 10.0], [1.0, 11.0]])
    found = s.stratified_bootstrap(two, np.mean)
    assert (found.estimate, found.low, found.high) == (5.5, 5.0, 6.0)


def test_one_seed_never_gets_an_interval():
    assert s.stratified_bootstrap(np.ones((1, 4))) is None
    assert s.probability_of_improvement(np.ones((1, 4)), np.ones((3, 4))) is None


def test_probability_of_improvement_by_hand():
    x, y = np.array([[1.0], [2.0]]), np.array([[0.0], [2.0]])
    assert s.improvement(x, y) == (1 + 0 + 1 + 0.5) / 4
    u = stats.mannwhitneyu(x[:, 0], y[:, 0]).statistic
    assert s.improvement(x, y) == u / 4
    found = s.probability_of_improvement(x, y)
    assert found.estimate == 0.625 and 0 <= found.low <= found.estimate <= found.high <= 1
    assert s.improvement(y, x) == 1 - 0.625
    with pytest.raises(UserError, match="same tasks"):
        s.probability_of_improvement(np.ones((2, 2)), np.ones((2, 3)))


def test_performance_profile_by_hand():
    scores = np.array([[0.2, 0.5], [0.5, 0.8]])
    assert s.performance_profile(scores, np.array([0.1, 0.2, 0.5, 0.8])).tolist() == [1, 0.75, 0.25,
                                                                                      0]


def test_seeds_are_resampled_before_items_and_items_alike_for_all_seeds():
    """Against the same resampling written as loops."""
    rng = np.random.default_rng(3)
    values = (rng.random((4, 30)) < np.array([[0.2], [0.4], [0.6], [0.8]])).astype(float)
    values[2, :5] = np.nan
    drawn = []
    for _ in range(4000):
        seeds, items = rng.integers(4, size=4), rng.integers(30, size=30)
        drawn.append(np.nanmean(values[np.ix_(seeds, items)]))
    found = s.crossed_interval(values)
    assert found.estimate == pytest.approx(np.nanmean(values))
    assert found[1:] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.03)
    # the spread of seeds is in it, that of items alone is narrower
    items_only = s.bootstrap_interval(np.nanmean(values, axis=0))
    assert found.high - found.low > 1.5 * (items_only.high - items_only.low)


def test_one_seed_has_the_interval_over_items_and_a_constant_that_of_wilson():
    values = (np.arange(40) % 4 > 0).astype(float)
    one = s.crossed_interval(values[None])
    assert one == pytest.approx(s.rate_interval(values), abs=0.03)
    same = s.crossed_interval(np.ones((3, 16)))
    assert same == pytest.approx(s.rate_interval(np.ones(16)))
    with pytest.raises(UserError, match="no value"):
        s.crossed_interval(np.full((2, 3), np.nan))
