"""What a schedule of the learning rate needs to go on: only those that follow the metric have a state."""
from timm.scheduler import PlateauLRScheduler
from timm.scheduler.scheduler import Scheduler

from ...upstream import load_plateau_state, plateau_state


def scheduler_state(scheduler: Scheduler | None) -> dict | None:
    """What doesn't follow from the number of the update."""
    return plateau_state(scheduler) if isinstance(scheduler, PlateauLRScheduler) else None


def restore_scheduler(scheduler: Scheduler | None, state: dict | None) -> None:
    """Puts `scheduler_state` back, with the rates, which a new scheduler has set to those of the beginning."""
    if state and isinstance(scheduler, PlateauLRScheduler):
        load_plateau_state(scheduler, state)
