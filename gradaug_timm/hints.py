"""Suggestions for unknown names: by a table of renamed flags, or else a name that looks like a misspelling."""
from collections.abc import Iterable

SHORT = 7  # letters up to which only one may be wrong; else two
ABBREVIATED = 3  # fewest letters of an abbreviation

# Flags of older timm, and of other training scripts, by their names in train.py and validate.py; '': there is none.
RENAMED = dict(
    accum_iter='grad_accum_steps',
    accumulation_steps='grad_accum_steps',
    apex_amp='amp',
    arch='model',
    auto_augment='aa',
    bf16='amp',
    blr='lr_base',
    bs='batch_size',
    clip_grad_norm='clip_grad',
    compile='torchcompile',
    cutmix_alpha='cutmix',
    data_path='data_dir',
    data_set='dataset',
    drop_path_rate='drop_path',
    drop_rate='drop',
    dropout='drop',
    ema='model_ema',
    ema_decay='model_ema_decay',
    eval='',
    finetune='pretrained_path',
    fp16='amp',
    gpu='device',
    gradient_accumulation_steps='grad_accum_steps',
    gradient_clip='clip_grad',
    jsd='jsd_loss',
    label_smoothing='smoothing',
    learning_rate='lr',
    lr_scheduler='sched',
    lr_warmup_epochs='warmup_epochs',
    max_epochs='epochs',
    max_grad_norm='clip_grad',
    mixed_precision='amp',
    mixup_alpha='mixup',
    native_amp='amp',
    nb_classes='num_classes',
    num_epochs='epochs',
    num_workers='workers',
    optim='opt',
    optimizer='opt',
    output_dir='output',
    print_freq='log_interval',
    ra_reps='aug_repeats',
    random_erase='reprob',
    repeated_aug='aug_repeats',
    scheduler='sched',
    teacher='kd_model_name',
    teacher_model='kd_model_name',
    tensorboard='log_tensorboard',
    update_freq='grad_accum_steps',
    use_amp='amp',
    validation_batch_size_multiplier='validation_batch_size',
    wandb='log_wandb',
    warmup='warmup_epochs',
    wd='weight_decay',
)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name of which `name` may be a misspelling, or None.

    Dashes before flags don't count, and neither does the prefix of GradAug's flags and models: they would make any two
    of them similar. Names that have the prefix, or lack it, as `name` does come first; others must be the same.
    """
    bare: dict[str, str] = {}
    wanted = _bare(name)
    for each in sorted(known, key=lambda each: _prefixed(each) != _prefixed(name)):
        if _bare(each) == wanted or (_prefixed(each) == _prefixed(name) and len(_bare(each)) > 1):
            bare.setdefault(_bare(each), each)
    distances = [(_mistakes(wanted, each), each) for each in bare if abs(len(each) - len(wanted)) <= 2]
    least, close = min(distances, default=(len(wanted), ''), key=lambda pair: pair[0])
    return bare[close] if least < len(wanted) and least <= (1 if len(wanted) <= SHORT else 2) else None


def renamed(name: str, known: Iterable[str]) -> str | None:
    """Return the known name of a flag that other scripts or older versions call `name`, or a similar one, or None.

    An abbreviation counts as similar if one of the names that it may stand for begins all the others.

    Args:
        name: An unknown flag with dashes (`--learning-rate`), or an unknown key (`learning_rate`).
        known: Known names, written in the same way.
    """
    known = list(known)
    other = RENAMED.get(name.lstrip('-').replace('-', '_').lower())
    if other == '':
        return None
    found = other and next((each for each in known if each.lstrip('-').replace('-', '_') == other), None)
    return found or _unabbreviated(name, known) or nearest(name, known)


def _unabbreviated(name: str, known: list[str]) -> str | None:
    dashed = name.replace('_', '-')
    longer = [each for each in known if each.replace('_', '-').startswith(dashed)]
    shortest = min(longer, key=len, default=None)
    if shortest is None or len(_bare(name)) < ABBREVIATED:
        return None
    return shortest if all(each.startswith(shortest) for each in longer) else None


def _bare(name: str) -> str:
    bare = name.lstrip('-').replace('-', '_')
    return bare.removeprefix('gradaug_') or bare


def _mistakes(one: str, other: str) -> int:
    """Return how many letters were left out, added, replaced or swapped with their neighbours."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        current = [row]
        for column, wanted in enumerate(other, 1):
            cost = min(last[column] + 1, current[-1] + 1, last[column - 1] + (letter != wanted))
            if row > 1 and column > 1 and letter == other[column - 2] and one[row - 2] == wanted:
                cost = min(cost, before[column - 2] + 1)
            current.append(cost)
        before, last = last, current
    return last[-1]


def _prefixed(name: str) -> bool:
    return name.lstrip('-').startswith('gradaug')
