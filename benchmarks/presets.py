"""Measure time, multiply-adds and memory of a step with each preset of GradAug, relative to plain training."""
from dataclasses import asdict

from torch import nn

from gradaug_timm import GradAugSettings, make_elastic
from gradaug_timm.task.budget import choose_preset
from gradaug_timm.task.cost import RelativeCost
from gradaug_timm.task.fit_inputs import fit_inputs
from gradaug_timm.task.presets import PRESETS

from .case import Case, case_from, case_parser, gradaug_step, plain_step
from .memory import peak_of_steps
from .record import report
from .timing import ratio, take_turns

PLAIN = 'plain'
MEMORY_STEPS = 3


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = case_parser('presets', __doc__ or '').parse_args(argv)
    case = case_from(args)
    network = make_elastic(case.network())
    cost = RelativeCost(network, (3, case.size, case.size), batch=case.batch)
    settings = {name: settings_of(case, network, name, cost) for name in PRESETS}
    steps = {PLAIN: plain_step(case), **{name: gradaug_step(case, **each) for name, each in settings.items()}}
    times = take_turns(steps, repeats=args.repeats, warmup=args.warmup, device=case.device)
    plain = peak_of_steps(plain_step, case, MEMORY_STEPS)
    rows = []
    for name, each in settings.items():
        peak = peak_of_steps(lambda case, each=each: gradaug_step(case, **each), case, MEMORY_STEPS)
        rows.append({'preset': name, 'time': ratio(times, [name], [PLAIN]), 'multiply-adds': cost(
            GradAugSettings(**each)), 'memory': peak / plain})
    report('presets', args, rows)


def settings_of(case: Case, network: nn.Module, preset: str, cost: RelativeCost) -> dict:
    """Return the fields of the settings with which `train.py` runs a preset.

    Args:
        case: The case.
        network: The case's network, elastic.
        preset: Name of the preset.
        cost: The cost of settings for the case's network.
    """
    settings = GradAugSettings.preset(case.size, preset, mode=case.mode)
    settings = fit_inputs(network, settings, (3, case.size, case.size))
    return {**asdict(choose_preset(preset, None, lambda _: settings, cost)[1]), 'transforms': {}}


if __name__ == '__main__':
    main()
