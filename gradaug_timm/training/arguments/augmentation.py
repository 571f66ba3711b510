"""Flags of image transforms, mixing, and batches of changing size."""
from ...cli import StrictParser, ranged
from .values import BELOW_ONE, COUNT, INTERPOLATIONS, NATURAL, NON_NEGATIVE, POSITIVE, PROBABILITY, augment_policy


def add_augmentation(parser: StrictParser):
    """Random transforms of single images."""
    add = parser.add_argument_group('augmentation').add_argument
    add('--no-aug', action='store_true', help='no augmentation at all')
    add('--train-crop-mode', choices=('rrc', 'rkrc', 'rkrr'), help='kind of the random crop (default: rrc)')
    add('--reflect-pad', type=COUNT, default=0, metavar='N',
        help='instead of the random resized crop: pad N pixels by reflection, crop the input size (CIFAR: 4)')
    add('--zero-pad', type=COUNT, default=0, metavar='N', help='the same with zeros')
    add('--scale', type=POSITIVE, nargs='+', default=[0.08, 1.], metavar='S', help='area of the crop, from and to')
    add('--ratio', type=POSITIVE, nargs='+', default=[3. / 4., 4. / 3.], metavar='R', help='aspect of the crop')
    add('--hflip', type=PROBABILITY, default=0.5, metavar='P', help='probability of left-right flips (default: 0.5)')
    add('--vflip', type=PROBABILITY, default=0., metavar='P', help='probability of upside-down flips')
    add('--color-jitter', type=NON_NEGATIVE, default=0.4, metavar='F', help='brightness, contrast, saturation')
    add('--color-jitter-prob', type=PROBABILITY, metavar='P', help='probability of colour jitter')
    add('--pca-lighting', type=NON_NEGATIVE, default=0., metavar='STD',
        help='noise along the principal components of ImageNet\'s colours (AlexNet: 0.1)')
    add('--grayscale-prob', type=PROBABILITY, metavar='P', help='probability of grayscale')
    add('--gaussian-blur-prob', type=PROBABILITY, metavar='P', help='probability of blur')
    add('--aa', type=augment_policy, metavar='POLICY', help='AutoAugment, RandAugment or AugMix policy')
    add('--aug-repeats', type=NON_NEGATIVE, default=0, metavar='N', help='repeats of an image over processes')
    add('--aug-splits', type=COUNT, default=0, metavar='N', help='differently augmented parts of a batch, 0 or >= 2')
    add('--reprob', type=PROBABILITY, default=0., metavar='P', help='probability of random erasing')
    add('--remode', default='pixel', choices=('const', 'rand', 'pixel'), help='what erasing fills in')
    add('--recount', type=NATURAL, default=1, metavar='N', help='rectangles that erasing fills')
    add('--resplit', action='store_true', help='no erasing in the first part of --aug-splits')
    add('--train-interpolation', default='random', choices=(*INTERPOLATIONS, 'random'), help='filter of the crop')

    add('--device-augment', action='store_true',
        help='hold all images on the device; pad, crop, flip and normalise them there (CIFAR)')


def add_mixing(parser: StrictParser):
    """Mixup and CutMix."""
    add = parser.add_argument_group('mixing').add_argument
    add('--mixup', type=NON_NEGATIVE, default=0., metavar='ALPHA', help='Mixup, on above 0')
    add('--cutmix', type=NON_NEGATIVE, default=0., metavar='ALPHA', help='CutMix, on above 0')
    add('--cutmix-minmax', type=PROBABILITY, nargs='+', metavar='R', help='CutMix by side ratio, from and to')
    add('--mixup-prob', type=PROBABILITY, default=1., metavar='P', help='probability of mixing')
    add('--mixup-switch-prob', type=PROBABILITY, default=0.5, metavar='P', help='share of CutMix where both are on')
    add('--mixup-mode', default='batch', choices=('batch', 'pair', 'elem', 'half'), help='what shares one draw')
    add('--mixup-off-epoch', type=COUNT, default=0, metavar='N', help='no mixing from this epoch on, 0: never off')
    add('--smoothing', type=BELOW_ONE, metavar='EPS',
        help='label smoothing (default: 0.1, and 0 for --task multilabel)')


def add_schedule_of_sizes(parser: StrictParser):
    """Batches of different image sizes."""
    add = parser.add_argument_group('image sizes by batch').add_argument
    add('--train-img-sizes', type=NATURAL, nargs='+', metavar='N', help='sizes of square images')
    add('--train-batch-sizes', type=NATURAL, nargs='+', metavar='N', help='batch size of each image size')
    add('--train-size-probs', type=NON_NEGATIVE, nargs='+', metavar='P', help='weight of each image size')
    add('--train-size-schedule', default='constant', choices=('constant', 'progressive'), help='order of the sizes')
    add('--train-size-schedule-spread', type=NON_NEGATIVE, default=0.65, metavar='S', help='spread around the size due')
    add('--train-size-random-mix', type=PROBABILITY, default=0.1, metavar='P', help='share of sizes drawn evenly')
    add('--train-batches-per-epoch', '--train-steps-per-epoch', type=NATURAL, metavar='N', help='batches an epoch')
    add('--variable-batch-loss-scale', default='none', choices=('none', 'sqrt', 'linear'),
        help='scale gradients by the batch size')


def add_averaging(parser: StrictParser):
    """Moving average of the weights."""
    add = parser.add_argument_group('moving average').add_argument
    add('--model-ema', action='store_true', help='keep and validate a moving average of the weights')
    add('--model-ema-force-cpu', action='store_true', help='keep it on the CPU, without validating it')
    add('--model-ema-decay', type=ranged(float, minimum=0, maximum=1), default=0.9998, metavar='D', help='decay')
    add('--model-ema-warmup', action='store_true', help='smaller decay at the start')
