"""Suggestions for unknown names: by a table of renamed flags, or else a name that looks like a misspelling."""
import difflib
from collections.abc import Iterable

SIMILAR = 0.8  # below this, a similar name is more often wrong than right

# Flags of older timm, and of other training scripts, by their names in train.py and validate.py.
RENAMED = dict(
    accum_iter='grad_accum_steps',
    accumulation_steps='grad_accum_steps',
    apex_amp='amp',
    arch='model',
    auto_augment='aa',
    blr='lr_base',
    clip_grad_norm='clip_grad',
    cutmix_alpha='cutmix',
    data_path='data_dir',
    data_set='dataset',
    drop_path_rate='drop_path',
    drop_rate='drop',
    dropout='drop',
    ema='model_ema',
    ema_decay='model_ema_decay',
    finetune='pretrained_path',
    gradient_accumulation_steps='grad_accum_steps',
    gradient_clip='clip_grad',
    jsd='jsd_loss',
    label_smoothing='smoothing',
    learning_rate='lr',
    lr_scheduler='sched',
    lr_warmup_epochs='warmup_epochs',
    max_epochs='epochs',
    max_grad_norm='clip_grad',
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
    teacher_model='kd_model_name',
    update_freq='grad_accum_steps',
    use_amp='amp',
    validation_batch_size_multiplier='validation_batch_size',
    wd='weight_decay',
)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name of which `name` may be a misspelling, or None.

    Dashes before flags don't count, and neither does the prefix of GradAug's flags and models: they would make any two
    of them similar. Names that have the prefix, or lack it, as `name` does come first.
    """
    bare: dict[str, str] = {}
    for each in sorted(known, key=lambda each: _prefixed(each) != _prefixed(name)):
        bare.setdefault(_bare(each), each)
    close = difflib.get_close_matches(_bare(name), list(bare), n=1, cutoff=SIMILAR)
    return bare[close[0]] if close else None


def renamed(name: str, known: Iterable[str]) -> str | None:
    """Return the known name of a flag that other scripts or older versions call `name`, or a similar one, or None.

    Args:
        name: An unknown flag with dashes (`--learning-rate`), or an unknown key (`learning_rate`).
        known: Known names, written in the same way.
    """
    known = list(known)
    other = RENAMED.get(name.lstrip('-').replace('-', '_').lower())
    found = other and next((each for each in known if each.lstrip('-').replace('-', '_') == other), None)
    return found or nearest(name, known)


def _bare(name: str) -> str:
    bare = name.lstrip('-').replace('-', '_')
    return bare.removeprefix('gradaug_') or bare


def _prefixed(name: str) -> bool:
    return name.lstrip('-').startswith('gradaug')
