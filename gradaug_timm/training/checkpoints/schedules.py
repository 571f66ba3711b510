"""What a schedule of the learning rate needs to go on: only those that follow the metric have a state."""
from timm.scheduler import PlateauLRScheduler
from timm.scheduler.scheduler import Scheduler

COUNTERS = ('best', 'num_bad_epochs', 'cooldown_counter', 'last_epoch')


def scheduler_state(scheduler: Scheduler | None) -> dict | None:
    """What doesn't follow from the number of the update."""
    if not isinstance(scheduler, PlateauLRScheduler):
        return None
    return {
        'plateau': {name: getattr(scheduler.lr_scheduler, name) for name in COUNTERS},
        'restore_lr': scheduler.restore_lr,
        'rates': [group['lr'] for group in scheduler.optimizer.param_groups],
    }


def restore_scheduler(scheduler: Scheduler | None, state: dict | None) -> None:
    """Puts `scheduler_state` back, with the rates, which a new scheduler has set to those of the beginning."""
    if not state or not isinstance(scheduler, PlateauLRScheduler):
        return
    for name, value in state['plateau'].items():
        setattr(scheduler.lr_scheduler, name, value)
    scheduler.restore_lr = state['restore_lr']
    for group, rate in zip(scheduler.optimizer.param_groups, state['rates']):
        group['lr'] = rate
