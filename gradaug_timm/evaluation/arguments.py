"""The command line of validate.py: timm's flags, and those of sub-networks."""
import argparse
import importlib.util
import os

from ..cli import Keywords, Refuse, StrictParser, compile_backend, compile_mode, file_to_write, ranged
from .corruptions import COMMON, EXTRA, SEVERITIES

NATURAL = ranged(int, minimum=1)
COUNT = ranged(int, minimum=0)
SHARE = ranged(float, above=0, maximum=1)
POSITIVE = ranged(float, above=0)
SCALINGS = ('shake_drop', 'stoch_depth', 'scale_residuals')  # of residual branches
INTERPOLATIONS = ('nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos')
NO_TORCHSCRIPT = 'TorchScript is deprecated in torch; use --torchcompile'
NO_NAFLEX = 'NaFlex models change their input from batch to batch'


def build_parser() -> StrictParser:
    """The parser of validate.py."""
    parser = StrictParser(
        prog='validate.py', usage='%(prog)s [flags] [DIR]',
        description='Evaluates a model, a checkpoint or its sub-networks.')
    for add in GROUPS:
        add(parser)
    return parser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments, after the checks that concern more than one."""
    parser = build_parser()
    args = parser.parse_args(argv)
    for problem, message in (*_conflicts(args), *_robustness_conflicts(args)):
        if problem:
            parser.error(message)
    return args


def _conflicts(args):
    multilabel = args.task == 'multilabel'
    single_label_only = args.valid_labels or args.real_labels or args.metrics_avg
    scalings = [f'--{name.replace("_", "-")}' for name in SCALINGS if getattr(args, name) is not None]
    widths = args.width or []
    channels = image_channels(args)
    return (
        (args.target_format == 'multihot' and not multilabel, '--target-format multihot needs --task multilabel'),
        (multilabel and not args.dataset, '--task multilabel needs a --dataset: images in folders have one label each'),
        (multilabel and single_label_only,
         '--valid-labels, --real-labels and --metrics-avg are for --task classification'),
        (args.metrics_avg and importlib.util.find_spec('sklearn') is None,
         '--metrics-avg needs the package scikit-learn'),
        (args.amp and args.model_dtype not in (None, 'float32'),
         f'--amp needs --model-dtype float32, not {args.model_dtype}'),
        (args.width is not None and args.test_pool, '--width goes without --test-pool'),
        (len(set(widths)) < len(widths), f'--width {" ".join(map(str, widths))} names a width twice'),
        (len(scalings) > 1, f'{" and ".join(scalings)} exclude each other: all of them scale the residual branches'),
        (args.divisor is not None and args.width is None, '--divisor needs --width'),
        (args.input_size and args.input_size[0] != channels,
         f'--in-chans {channels} contradicts the channels of --input-size {args.input_size}'),
        *((len(values or [0]) not in {1, channels},
           f'{flag} {values} must have one value or one for each of {channels} channels')
          for flag, values in (('--mean', args.mean), ('--std', args.std))),
    )


def _robustness_conflicts(args):
    asked = bool(args.corruptions or args.fgsm_eps)
    low_precision = args.amp or args.model_dtype not in (None, 'float32')
    others = [flag for flag, value in (
        ('--width', args.width), ('--task multilabel', args.task == 'multilabel'), ('--test-pool', args.test_pool),
        ('--valid-labels', args.valid_labels), ('--real-labels', args.real_labels), ('--metrics-avg', args.metrics_avg),
        ('--torchcompile', args.torchcompile), ('--reparam', args.reparam),
        ('--tf-preprocessing', args.tf_preprocessing),
    ) if value]
    alone = [flag for flag, value in (
        ('--compare', args.compare), ('--robustness-dir', args.robustness_dir)) if value]
    missing = [path for path in (args.checkpoint, *(args.compare or ()), args.mce_baseline or '')
               if path not in ('', 'alexnet') and not os.path.isfile(path)]
    extra = set(args.corruptions or ()) & {'extra', *EXTRA}
    return (
        (asked and others, f'--corruptions and --fgsm-eps go without {", ".join(others)}'),
        (alone and not asked, f'{", ".join(alone)} needs --corruptions or --fgsm-eps'),
        (args.mce_baseline and not args.corruptions, '--mce-baseline needs --corruptions'),
        (args.corruptions_dir and not args.corruptions, '--corruptions-dir needs --corruptions'),
        (args.pgd_steps and not args.fgsm_eps, '--pgd-steps needs --fgsm-eps, the distances'),
        (args.pgd_step_size and not args.pgd_steps, '--pgd-step-size needs --pgd-steps'),
        (args.fgsm_eps and low_precision, '--fgsm-eps needs gradients in float32, without --amp and --model-dtype'),
        (asked and missing, f'{", ".join(missing)} is no file'),
        (args.corruptions_dir and not os.path.isdir(args.corruptions_dir or ''),
         f'--corruptions-dir {args.corruptions_dir} is no folder'),
        (args.mce_baseline == 'alexnet' and extra,
         f'--mce-baseline alexnet has no errors of {", ".join(sorted(extra))}; name a checkpoint'),
        (args.mce_baseline == 'alexnet' and sorted(set(args.severities)) != list(SEVERITIES),
         '--mce-baseline alexnet is of all five severities'),
        (args.corruptions and image_channels(args) != 3, '--corruptions needs images of 3 channels'),
        (args.corruptions and not args.corruptions_dir and importlib.util.find_spec('imagecorruptions') is None,
         '--corruptions needs the package imagecorruptions-imaug: pip install "gradaug_timm[robustness]"'),
        (args.robustness_dir and importlib.util.find_spec('matplotlib') is None,
         '--robustness-dir needs the package matplotlib: pip install "gradaug_timm[robustness]"'),
    )


def image_channels(args: argparse.Namespace) -> int:
    """Channels of the images: those given, else 3."""
    return args.in_chans or (args.input_size[0] if args.input_size else 3)


def _add_data(parser: StrictParser):
    add = parser.add_argument_group('data').add_argument
    add('data', nargs='?', metavar='DIR', help='folder of the data; --data-dir is the newer spelling')
    add('--data-dir', metavar='DIR', help='folder of the data')
    add('--dataset', default='', metavar='NAME', help='"<kind>/<name>"; a folder or tar of images when empty')
    add('--split', default='validation', metavar='NAME', help='split that is evaluated (default: validation)')
    add('--num-samples', type=NATURAL, metavar='N', help='length of an iterable data set that doesn\'t know its own')
    add('--dataset-download', action='store_true', help='let torch/ and tfds/ data sets download themselves')
    add('--dataset-trust-remote-code', action='store_true', help='let an hfds/ data set run code of its repository')
    add('--class-map', default='', metavar='FILE', help='file that maps class names to indexes')
    add('--input-key', help='field of the images')
    add('--input-img-mode', help='PIL mode of the images (default: RGB, or L for one channel)')
    add('--target-key', help='field of the labels; several, comma-separated, for --task multilabel')
    add('--target-format', default='indices', choices=('indices', 'multihot'), help='form of multi-label targets')
    add('-j', '--workers', type=COUNT, default=4, metavar='N', help='loader processes (default: 4)')
    add('-b', '--batch-size', type=NATURAL, default=256, metavar='N', help='images a batch (default: 256)')
    add('--no-prefetcher', action='store_true', help='normalise in the loader processes, not on the device')
    add('--pin-mem', action='store_true', help='pinned memory in the loader')
    add('--tf-preprocessing', action='store_true', help='TensorFlow\'s preprocessing (needs TensorFlow)')


def _add_model(parser: StrictParser):
    add = parser.add_argument_group('model').add_argument
    add('-m', '--model', default='dpn92', metavar='NAME',
        help='a model, a pattern, "all", or a file of names (default: dpn92)')
    add('--pretrained', action='store_true', help='timm\'s pretrained weights; so without a --checkpoint')
    add('--checkpoint', default='', metavar='PATH', help='weights to load; a folder evaluates every .pth(.tar) in it')
    add('--use-ema', action='store_true', help='averaged weights of the checkpoint where it has them')
    add('--num-classes', type=NATURAL, metavar='N', help='outputs of the model (default: the model\'s)')
    add('--in-chans', type=NATURAL, metavar='N', help='channels of the images (default: 3)')
    add('--gp', metavar='POOL', help='global pooling (default: the model\'s)')
    add('--model-kwargs', nargs='*', default={}, action=Keywords, metavar='KEY=VALUE', help='more model arguments')
    add('--test-pool', action='store_true', help='pool at test time where images are larger than in training')
    add('--reparam', action='store_true', help='merge the branches of re-parameterisable blocks')
    add('--fast-norm', action='store_true', help='timm\'s faster low-precision normalisation')


def _add_subnet(parser: StrictParser):
    add = parser.add_argument_group('sub-network').add_argument
    add('--width', type=SHARE, nargs='+', metavar='W',
        help='evaluate the sub-network that keeps this share of the channels; several for a table')
    add('--divisor', type=NATURAL, metavar='N',
        help='channel counts are rounded to its multiples (default: as the checkpoint was trained, else 8)')
    add('--recalibration-batches', type=COUNT, default=16, metavar='N',
        help='training batches for the sub-network\'s BatchNorm; 0 takes the full network\'s (default: 16)')
    add('--train-split', default='train', metavar='NAME', help='split of those batches (default: train)')


def _add_residuals(parser: StrictParser):
    group = parser.add_argument_group('residual branches, by default as the checkpoint was trained (1: not scaled)')
    add = group.add_argument
    add('--shake-drop', type=SHARE, metavar='P', help='expected value of ShakeDrop that ends at this survival')
    add('--stoch-depth', type=SHARE, metavar='P', help='survival probabilities of stochastic depth that ends at this')
    add('--scale-residuals', type=SHARE, metavar='P',
        help='linear from 1 at the first to P at the last, as the original evaluates random depth')


def _add_preprocessing(parser: StrictParser):
    add = parser.add_argument_group('preprocessing, by default the model\'s').add_argument
    add('--img-size', type=NATURAL, metavar='N', help='side of the images')
    add('--input-size', type=NATURAL, nargs=3, metavar='N', help='channels, height and width of the images')
    add('--use-train-size', action='store_true', help='the model\'s size of training, not of testing')
    add('--crop-pct', type=POSITIVE, metavar='N', help='share of the resized image that is kept')
    add('--crop-mode', choices=('squash', 'border', 'center'), help='how images are cropped')
    add('--crop-border-pixels', type=COUNT, metavar='N', help='pixels cut off at the image\'s border')
    add('--mean', type=float, nargs='+', metavar='MEAN', help='mean of the pixels, in 0 to 1')
    add('--std', type=POSITIVE, nargs='+', metavar='STD', help='standard deviation of the pixels')
    add('--interpolation', default='', choices=INTERPOLATIONS, help='how images are resized')


def _add_execution(parser: StrictParser):
    add = parser.add_argument_group('execution').add_argument
    add('--device', metavar='NAME', help='device (default: the accelerator if there is one, else cpu)')
    add('--num-gpu', type=NATURAL, default=1, metavar='N', help='GPUs that share a batch (default: 1)')
    add('--channels-last', action='store_true', help='channels-last memory layout')
    add('--amp', action='store_true', help='mixed precision')
    add('--amp-dtype', default='float16', choices=('float16', 'bfloat16'), help='its type (default: float16)')
    add('--model-dtype', choices=('float32', 'float16', 'bfloat16'), help='type of the weights (default: float32)')
    add('--torchcompile', type=compile_backend, nargs='?', const='inductor', metavar='BACKEND',
        help='torch.compile (default: inductor)')
    add('--torchcompile-mode', type=compile_mode, metavar='MODE', help='its mode')
    add('--retry', action='store_true', help='try smaller batches when one model runs out of memory')
    add('--seed', type=COUNT, default=42, metavar='N', help='random seed (default: 42)')


def _add_metrics(parser: StrictParser):
    add = parser.add_argument_group('metrics and results').add_argument
    add('--task', default='classification', choices=('classification', 'multilabel'), help='kind of labels')
    add('--multilabel-threshold', type=ranged(float, above=0, below=1), default=0.5, metavar='P',
        help='probability from which F1 counts a label as given (default: 0.5)')
    add('--metrics-avg', choices=('micro', 'macro', 'weighted'), help='add precision, recall and F1, so averaged')
    add('--real-labels', default='', metavar='FILE', help='JSON of ImageNet\'s re-assessed labels')
    add('--valid-labels', default='', metavar='FILE', help='text file of the outputs that count, one index a line')
    add('--log-freq', type=NATURAL, default=10, metavar='N', help='batches between log lines (default: 10)')
    add('--results-file', type=file_to_write(), default='', metavar='FILE', help='file for the results')
    add('--results-format', default='csv', choices=('csv', 'json'), help='its format (default: csv)')


def _add_robustness(parser: StrictParser):
    add = parser.add_argument_group('robustness').add_argument
    add('--corruptions', nargs='+', choices=('all', 'extra', *COMMON, *EXTRA), metavar='NAME',
        help='errors under corruptions of ImageNet-C: all of its 15, the extra 4, or names')
    add('--severities', type=ranged(int, minimum=1, maximum=5), nargs='+', default=list(SEVERITIES), metavar='N',
        help='how severe, from 1 to 5 (default: all)')
    add('--corruptions-dir', metavar='DIR', help='ImageNet-C\'s folder (default: corrupt the images as they are read)')
    add('--mce-baseline', metavar='PATH',
        help='what mCE relates errors to: alexnet (published, for ImageNet), or a checkpoint')
    add('--fgsm-eps', type=SHARE, nargs='+', metavar='EPS',
        help='errors on adversarial images this far from the real ones, whose pixels are in 0 to 1')
    add('--pgd-steps', type=NATURAL, metavar='N', help='steps of projected gradient descent in place of one')
    add('--pgd-step-size', type=POSITIVE, metavar='S', help='length of each (default: 2.5 EPS / N)')
    add('--compare', nargs='+', metavar='PATH', help='more checkpoints of the model, beside --checkpoint')
    add('--robustness-dir', metavar='DIR', help='folder for errors.csv, with all severities, and errors.png')


def _add_refused(parser: StrictParser):
    add = parser.add_argument
    add('--torchscript', action=Refuse, nargs=0, reason=NO_TORCHSCRIPT)
    add('--aot-autograd', action=Refuse, nargs=0, reason=NO_TORCHSCRIPT)
    add('--fuser', action=Refuse, reason=NO_TORCHSCRIPT)
    add('--naflex-loader', action=Refuse, nargs=0, reason=NO_NAFLEX)
    add('--naflex-max-seq-len', action=Refuse, reason=NO_NAFLEX)


GROUPS = (
    _add_data, _add_model, _add_subnet, _add_residuals, _add_preprocessing, _add_execution, _add_metrics,
    _add_robustness, _add_refused,
)
