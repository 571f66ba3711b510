"""The state of learning rate schedules; only schedules that follow the metric have one."""
from timm.scheduler import PlateauLRScheduler
from timm.scheduler.scheduler import Scheduler

from ...upstream import load_plateau_state, plateau_state


def scheduler_state(scheduler: Scheduler | None) -> dict | None:
    """Return the state that does not follow from the update number; None if there is none."""
    return plateau_state(scheduler) if isinstance(scheduler, PlateauLRScheduler) else None


def restore_scheduler(scheduler: Scheduler | None, state: dict | None) -> None:
    """Restore `scheduler_state` and the learning rates, which a new scheduler has reset to their initial values."""
    if state and isinstance(scheduler, PlateauLRScheduler):
        load_plateau_state(scheduler, state)
