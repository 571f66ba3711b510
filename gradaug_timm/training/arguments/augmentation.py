"""Settings of image transforms, mixing, batches of changing size, and the moving average."""
from dataclasses import dataclass

from ...cli import ranged
from ...flags import Settings, needs, only_for, replaced_by, setting, switch
from .conditions import NO_JITTER, ONE_MIXER, UNMIXED, beyond_the_end
from .values import BELOW_ONE, COUNT, INTERPOLATIONS, NATURAL, NON_NEGATIVE, POSITIVE, PROBABILITY, augment_policy


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings(Settings, title='augmentation'):
    """Random transforms of single images."""

    no_aug: bool = switch('no augmentation at all')
    train_crop_mode: str | None = setting(
        None, 'kind of the random crop (default: rrc)', choices=('rrc', 'rkrc', 'rkrr'), idle=(replaced_by('no_aug'),))
    reflect_pad: int = setting(
        0, 'instead of the random resized crop: pad by N reflected pixels and crop the input size (CIFAR: 4)',
        type=COUNT, metavar='N')
    zero_pad: int = setting(0, 'as --reflect-pad, with zeros', type=COUNT, metavar='N')
    scale: tuple[float, ...] = setting(
        (0.08, 1.), 'range of the area of the random resized crop', type=POSITIVE, nargs='+', metavar='S',
        null=(0.08, 1.), idle=(replaced_by('no_aug'), replaced_by('reflect_pad'), replaced_by('zero_pad')))
    ratio: tuple[float, ...] = setting(
        (3. / 4., 4. / 3.), 'range of the aspect ratio of the random resized crop', type=POSITIVE, nargs='+',
        metavar='R', null=(3. / 4., 4. / 3.),
        idle=(replaced_by('no_aug'), replaced_by('reflect_pad'), replaced_by('zero_pad')))
    hflip: float = setting(
        0.5, 'probability of left-right flips (default: 0.5)', type=PROBABILITY, metavar='P',
        idle=(replaced_by('no_aug'),))
    vflip: float = setting(
        0., 'probability of upside-down flips', type=PROBABILITY, metavar='P', idle=(replaced_by('no_aug'),))
    color_jitter: float = setting(
        0.4, 'strength of random brightness, contrast and saturation', type=NON_NEGATIVE, metavar='F', null=0.,
        idle=(replaced_by('no_aug'), NO_JITTER))
    color_jitter_prob: float | None = setting(
        None, 'probability of colour jitter', type=PROBABILITY, metavar='P',
        idle=(needs('color_jitter'), replaced_by('no_aug'), NO_JITTER))
    pca_lighting: float = setting(
        0., 'noise along the principal components of the colours of ImageNet (AlexNet: 0.1)', type=NON_NEGATIVE,
        metavar='STD')
    grayscale_prob: float | None = setting(
        None, 'probability of grayscale', type=PROBABILITY, metavar='P', idle=(replaced_by('no_aug'),))
    gaussian_blur_prob: float | None = setting(
        None, 'probability of blur', type=PROBABILITY, metavar='P', idle=(replaced_by('no_aug'),))
    aa: str | None = setting(
        None, 'AutoAugment, RandAugment or AugMix policy', type=augment_policy, metavar='POLICY',
        idle=(replaced_by('no_aug'),))
    aug_repeats: float = setting(0, 'repeats of each image over processes', type=NON_NEGATIVE, metavar='N')
    aug_splits: int = setting(
        0, 'number of differently augmented parts of a batch, 0 or at least 2', type=COUNT, metavar='N')
    reprob: float = setting(
        0., 'probability of random erasing', type=PROBABILITY, metavar='P', idle=(replaced_by('no_aug'),))
    remode: str = setting(
        'pixel', 'what random erasing fills in', choices=('const', 'rand', 'pixel'),
        idle=(needs('reprob'), replaced_by('no_aug')))
    recount: int = setting(
        1, 'rectangles that random erasing fills per image', type=NATURAL, metavar='N',
        idle=(needs('reprob'), replaced_by('no_aug')))
    resplit: bool = switch(
        'no random erasing in the first part of --aug-splits', idle=(needs('reprob'), replaced_by('no_aug')))
    train_interpolation: str = setting(
        'random', 'filter for resizing training images', choices=(*INTERPOLATIONS, 'random'), null='',
        idle=(replaced_by('no_aug'),))
    device_augment: bool = switch('hold all images on the device; pad, crop, flip and normalise them there (CIFAR)')


@dataclass(frozen=True, kw_only=True)
class MixingSettings(Settings, title='mixing'):
    """Mixup and CutMix."""

    mixup: float = setting(0., 'alpha of Mixup; on above 0', type=NON_NEGATIVE, metavar='ALPHA')
    cutmix: float = setting(0., 'alpha of CutMix; on above 0', type=NON_NEGATIVE, metavar='ALPHA')
    cutmix_minmax: tuple[float, ...] | None = setting(
        None, 'range of the side ratio of CutMix, instead of alpha', type=PROBABILITY, nargs='+', metavar='R')
    mixup_prob: float = setting(1., 'probability that a batch is mixed', type=PROBABILITY, metavar='P', idle=(UNMIXED,))
    mixup_switch_prob: float = setting(
        0.5, 'probability of CutMix when Mixup is on, too', type=PROBABILITY, metavar='P', idle=(UNMIXED, ONE_MIXER))
    mixup_mode: str = setting(
        'batch', 'what shares one draw of Mixup or CutMix', choices=('batch', 'pair', 'elem', 'half'), idle=(UNMIXED,))
    mixup_off_epoch: int = setting(
        0, 'no Mixup and CutMix from this epoch on; 0: never off', type=COUNT, metavar='N',
        idle=(UNMIXED, beyond_the_end('mixup_off_epoch')))
    smoothing: float | None = setting(
        None, 'label smoothing (default: 0.1, and 0 for --task multilabel)', type=BELOW_ONE, metavar='EPS')


@dataclass(frozen=True, kw_only=True)
class SizeScheduleSettings(Settings, title='image sizes by batch'):
    """Batches of different image sizes."""

    train_img_sizes: tuple[int, ...] | None = setting(
        None, 'sizes of square training images, which change from batch to batch', type=NATURAL, nargs='+', metavar='N')
    train_batch_sizes: tuple[int, ...] | None = setting(
        None, 'batch size for each of --train-img-sizes', type=NATURAL, nargs='+', metavar='N')
    train_size_probs: tuple[float, ...] | None = setting(
        None, 'weight of each of --train-img-sizes in the draw', type=NON_NEGATIVE, nargs='+', metavar='P')
    train_size_schedule: str = setting(
        'constant', 'draw sizes evenly, or growing over the epochs', choices=('constant', 'progressive'),
        idle=(needs('train_img_sizes'),))
    train_size_schedule_spread: float = setting(
        0.65, 'progressive sizes: spread around the size that is due', type=NON_NEGATIVE, metavar='S',
        idle=(needs('train_img_sizes'), only_for('train_size_schedule', 'progressive')))
    train_size_random_mix: float = setting(
        0.1, 'progressive sizes: share of batches with evenly drawn sizes', type=PROBABILITY, metavar='P',
        idle=(needs('train_img_sizes'), only_for('train_size_schedule', 'progressive')))
    train_batches_per_epoch: int | None = setting(
        None, 'batches per epoch', flags=('--train-steps-per-epoch',), type=NATURAL, metavar='N',
        idle=(needs('train_img_sizes'),))
    variable_batch_loss_scale: str = setting(
        'none', 'scale gradients by the size of the batch', choices=('none', 'sqrt', 'linear'),
        idle=(needs('train_img_sizes'),))


@dataclass(frozen=True, kw_only=True)
class AveragingSettings(Settings, title='moving average'):
    """Moving average of the weights."""

    model_ema: bool = switch('keep and validate a moving average of the weights')
    model_ema_force_cpu: bool = switch(
        'keep the moving average on the CPU, and do not validate it', idle=(needs('model_ema'),))
    model_ema_decay: float = setting(
        0.9998, 'decay of the moving average', type=ranged(float, minimum=0, maximum=1), metavar='D',
        idle=(needs('model_ema'),))
    model_ema_warmup: bool = switch('smaller decay of the moving average at the start', idle=(needs('model_ema'),))
