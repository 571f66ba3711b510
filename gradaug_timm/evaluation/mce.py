"""Errors under corruption, relative to those of another network (Hendrycks and Dietterich, ICLR 2019, section 4.1)."""
from collections.abc import Mapping
from statistics import mean

ALEXNET_CLEAN = 43.5  # per cent, top-1 on ImageNet; the other errors are means over five severities
ALEXNET = {
    'gaussian_noise': 88.6, 'shot_noise': 89.4, 'impulse_noise': 92.3, 'defocus_blur': 82.0, 'glass_blur': 82.6,
    'motion_blur': 78.6, 'zoom_blur': 79.8, 'snow': 86.7, 'frost': 82.7, 'fog': 81.9, 'brightness': 56.5,
    'contrast': 85.3, 'elastic_transform': 64.6, 'pixelate': 71.8, 'jpeg_compression': 60.7,
}


def mean_errors(errors: Mapping[tuple[str, int | float | None], float]) -> dict[str, float]:
    """Return each corruption's mean over severities; `errors` are by corruption and severity."""
    names = dict.fromkeys(name for name, _ in errors)
    return {name: mean(error for (each, _), error in errors.items() if each == name) for name in names}


def mce(errors: Mapping[str, float], baseline: Mapping[str, float]) -> float:
    """Return mCE in per cent: the mean over corruptions of error ratios; both are means over the same severities."""
    return 100 * mean(error / baseline[name] for name, error in errors.items())


def relative_mce(
        errors: Mapping[str, float],
        clean: float,
        baseline: Mapping[str, float],
        baseline_clean: float,
) -> float | None:
    """Return relative mCE in per cent: of the errors beyond those on clean images; None where the baseline has none."""
    gaps = {name: baseline[name] - baseline_clean for name in errors}
    if not all(gaps.values()):
        return None
    return 100 * mean((error - clean) / gaps[name] for name, error in errors.items())
