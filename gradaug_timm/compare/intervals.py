"""Means, and differences between methods paired by seed, with 95 % intervals."""
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# Quantile 0.975 of Student's t distribution, by degrees of freedom from 1.
T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
               2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)


class Interval(NamedTuple):
    """A mean with a 95 % interval; the half width is infinite for one value.

    Args:
        mean: The mean.
        half: Half of the width.
        number: Number of values.
    """
    mean: float
    half: float
    number: int

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of values with the interval of Student's t distribution."""
    number, mean = len(values), statistics.mean(values)
    if number == 1:
        return Interval(mean, math.inf, 1)
    return Interval(mean, t_quantile(number - 1) * statistics.stdev(values) / math.sqrt(number), number)


def t_quantile(freedom: int) -> float:
    """Return the quantile 0.975 of Student's t distribution."""
    if freedom <= len(T_QUANTILES):
        return T_QUANTILES[freedom - 1]
    normal = statistics.NormalDist().inv_cdf(0.975)
    return normal + (normal ** 3 + normal) / (4 * freedom)  # first terms of its expansion


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Interval | None:
    """Return the difference of values by seed, over the seeds that both have; None if there are none."""
    common = sorted(one.keys() & other.keys())
    return interval([one[seed] - other[seed] for seed in common]) if common else None
