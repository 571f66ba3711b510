"""The command line has timm's flags and defaults, and rejects flags that exclude each other."""
import argparse

import pytest
from timm.optim import optimizer_kwargs
from timm.scheduler import scheduler_kwargs
from train_helpers import error_line

from gradaug_timm.training.arguments import build_parser, parse_arguments

# what timm's train.py takes (1.0.29) and its default
TIMM = dict(
    data=None, data_dir=None, dataset='', train_split='train', val_split='validation', train_num_samples=None,
    val_num_samples=None, dataset_download=False, class_map='', input_img_mode=None, input_key=None, target_key=None,
    dataset_trust_remote_code=False, model='resnet50', pretrained=False, pretrained_path=None, initial_checkpoint='',
    resume='', no_resume_opt=False, num_classes=None, gp=None, img_size=None, in_chans=None, input_size=None,
    crop_pct=None, mean=None, std=None, interpolation='', batch_size=128, validation_batch_size=None,
    channels_last=False, grad_accum_steps=1, grad_checkpointing=False, fast_norm=False, model_kwargs={},
    head_init_scale=None, head_init_bias=None, torchcompile_mode=None, torchcompile=None, amp=False,
    amp_dtype='float16', model_dtype=None, no_ddp_bb=False, synchronize_step=False, local_rank=0, device_modules=None,
    opt='sgd', opt_eps=None, opt_betas=None, momentum=0.9, weight_decay=2e-5, clip_grad=None, clip_mode='norm',
    layer_decay=None, layer_decay_min_scale=0, layer_decay_no_opt_scale=None, opt_kwargs={}, sched='cosine',
    sched_on_updates=False, lr=None, lr_base=0.1, lr_base_size=256, lr_base_scale='', lr_noise=None, lr_noise_pct=0.67,
    lr_noise_std=1.0, lr_cycle_mul=1.0, lr_cycle_decay=0.5, lr_cycle_limit=1, lr_k_decay=1.0, warmup_lr=1e-5, min_lr=0,
    epochs=300, epoch_repeats=0., start_epoch=None, decay_milestones=[90, 180, 270], warmup_epochs=5,
    warmup_prefix=False, cooldown_epochs=0, patience_epochs=10, decay_rate=0.1, no_aug=False, train_crop_mode=None,
    scale=[0.08, 1.0], ratio=[3 / 4, 4 / 3], hflip=0.5, vflip=0., color_jitter=0.4, color_jitter_prob=None,
    grayscale_prob=None, gaussian_blur_prob=None, aa=None, aug_repeats=0, aug_splits=0, jsd_loss=False, bce_loss=False,
    bce_sum=False, bce_target_thresh=None, bce_pos_weight=None, reprob=0., remode='pixel', recount=1, resplit=False,
    mixup=0.0, cutmix=0.0, cutmix_minmax=None, mixup_prob=1.0, mixup_switch_prob=0.5, mixup_mode='batch',
    mixup_off_epoch=0, train_interpolation='random', drop=0.0, drop_connect=None, drop_path=None, drop_block=None,
    bn_momentum=None, bn_eps=None, sync_bn=False, dist_bn='reduce', split_bn=False, model_ema=False,
    model_ema_force_cpu=False, model_ema_decay=0.9998, model_ema_warmup=False, seed=42, worker_seeding='all',
    log_interval=50, val_interval=1, recovery_interval=0, checkpoint_hist=10, workers=4, save_images=False,
    pin_mem=False, no_prefetcher=False, output='', experiment='', tta=0, use_multi_epochs_loader=False,
    log_wandb=False, wandb_project=None, wandb_tags=[], wandb_resume_id='', train_img_sizes=None,
    train_batch_sizes=None, train_size_probs=None, train_size_schedule='constant', train_size_schedule_spread=0.65,
    train_size_random_mix=0.1, train_batches_per_epoch=None, variable_batch_loss_scale='none', kd_model_name=None,
    kd_distill_type='logit', kd_loss_type='kl', distill_loss_weight=None, task_loss_weight=None, kd_temperature=4.0,
    kd_student_feature_dim=None, kd_teacher_feature_dim=None, kd_token_distill_type='soft',
)
# of which newer releases resolve the default by other flags
RESOLVED = dict(smoothing=0.1, eval_metric='top1')


def parse(*argv: str) -> argparse.Namespace:
    return parse_arguments(build_parser(), list(argv))[0]


def test_defaults_are_timms():
    ours = vars(build_parser().parse_args([]))
    assert {name: ours[name] for name in TIMM} == TIMM


def test_defaults_that_depend_on_the_task_are_timms():
    args = parse()
    assert {name: getattr(args, name) for name in RESOLVED} == RESOLVED
    args = parse('--task', 'multilabel')
    assert (args.smoothing, args.eval_metric) == (0., 'map')


def test_timms_consumers_find_each_key_that_they_read():
    class Recorder:
        def __init__(self, args):
            self.args, self.missing = args, []

        def __getattr__(self, name):
            if not hasattr(self.args, name):
                self.missing.append(name)
            return getattr(self.args, name)

    recorder = Recorder(parse('--lr', '0.1'))
    scheduler_kwargs(recorder)
    optimizer_kwargs(recorder)
    assert recorder.missing == ['opt_args']  # opt_kwargs takes its place


@pytest.mark.parametrize(('argv', 'name', 'value'), [
    (['-b', '64'], 'batch_size', 64),
    (['-vb', '8'], 'validation_batch_size', 8),
    (['-j', '2'], 'workers', 2),
    (['--dr', '0.5'], 'decay_rate', 0.5),
    (['--train-steps-per-epoch', '7', '--train-img-sizes', '32'], 'train_batches_per_epoch', 7),
    (['--torchcompile'], 'torchcompile', 'inductor'),
    (['somewhere'], 'data_dir', 'somewhere'),
    (['--bce-loss'], 'loss', 'bce'),
    (['--bce-loss', '--bce-pos-weight', '2'], 'loss_pos_weight', '2.0'),
    (['--jsd-loss', '--aug-splits', '3'], 'loss', 'jsd'),
    (['--drop-connect', '0.2'], 'drop_path', 0.2),
    (['--opt-kwargs', 'filter_bias_and_bn=False'], 'opt_kwargs', {'filter_bias_and_bn': False}),
    (['--model', 'gradaug_resnet18'], 'gradaug', True),
    (['--model', 'gradaug_resnet18', '--no-gradaug'], 'gradaug', False),
    (['--model', 'gradaug_resnet50.a1_in1k'], 'gradaug', True),
    (['--model', 'resnet18', '--gradaug'], 'gradaug', True),
    (['--model', 'resnet18'], 'gradaug', False),
])
def test_a_flag_means_what_it_does_in_timm(argv, name, value):
    assert getattr(parse(*argv), name) == value


@pytest.mark.parametrize(('argv', 'wanted'), [
    (['--see', '3'], 'unknown flag --see, did you mean --seed?'),
    (['--gradaug-subnet', '3'], 'did you mean --gradaug-subnets?'),
    (['--epochs', '0'], "argument --epochs: '0' must be a whole number at least 1"),
    (['--smoothing', '1'], '--smoothing'),
    (['--lr', '0'], "argument --lr: '0' must be a number above 0"),
    (['--workers', '-1'], '--workers'),
    (['--batch-size', '0'], '--batch-size'),
    (['--eval-metric', 'top2'], '--eval-metric top2 must be one of loss, top1, top5'),
    (['--aa', 'nonsense'], '--aa'),
    (['--opt', 'adamww'], 'did you mean adamw?'),
    (['--sched', 'cosinus'], '--sched'),
    (['--model', 'resnet5'], '--model resnet5 is unknown, did you mean'),
    (['--experiment', '../../x'], '--experiment ../../x must be a name inside the output folder'),
    (['--experiment', '/tmp/x'], '--experiment /tmp/x must be a name inside'),
    (['--resume', 'auto'], '--resume auto needs --experiment'),
    (['--resume', 'nowhere.pth'], '--resume nowhere.pth does not exist'),
    (['--stop-epoch', '5', '--epochs', '3'], '--stop-epoch 5 must be at most 3'),
    (['--task', 'multilabel', '--bce-loss', '--loss', 'asl'], '--bce-loss and --loss asl exclude each other'),
    (['--task', 'multilabel', '--loss', 'twoway', '--mixup', '0.5'], '--loss twoway'),
    (['--task', 'multilabel', '--loss', 'zlpr', '--loss-pos-weight', '2'], '--loss zlpr'),
    (['--jsd-loss'], '--loss jsd'),
    (['--loss', 'zlpr'], '--loss zlpr'),
    (['--task', 'multilabel', '--loss', 'db'], '--loss db'),
    (['--task', 'multilabel', '--loss-class-weight', 'missing.json'], '--loss bce'),
    (['--task', 'multilabel', '--loss-pos-weight', 'neg_pos'], 'class stats'),
    (['--target-format', 'multihot'], '--target-format multihot needs --task multilabel'),
    (['--task', 'multilabel', '--eval-metric', 'top1'], '--eval-metric top1 must be one of loss, map'),
    (['--amp', '--model-dtype', 'bfloat16'], '--amp needs --model-dtype float32'),
    (['--mixup', '0.2', '--batch-size', '7'], '--batch-size 7 must be even'),
    (['--aug-splits', '1'], '--aug-splits 1 must be 0, or at least 2'),
    (['--scale', '0.5', '0.1'], '--scale 0.5 0.1 must be a range: two values, the lower one first'),
    (['--mean', '0.5', '0.5'], '--mean must have 1 or 3 values, one per channel, not 2'),
    (['--pca-lighting', '0.1', '--in-chans', '1'], '--pca-lighting needs images with 3 channels'),
    (['--reflect-pad', '4', '--no-aug'], '--reflect-pad replaces the random resized crop'),
    (['--gradaug-subnets', '2', '--model', 'resnet18'], '--gradaug-subnets needs GradAug: add --gradaug'),
    (['--gradaug', '--kd-model-name', 'resnet18'], '--kd-model-name is not supported with GradAug'),
    (['--gradaug', '--aug-splits', '2'], '--aug-splits'),
    (['--gradaug', '--opt', 'adahessian'], '--opt adahessian needs second derivatives'),
    (['--naflex-loader'], '--naflex-loader is not supported: NaFlex'),
    (['--torchscript'], '--torchscript is not supported: TorchScript'),
    (['--device-modules', 'no_such_module'], '--device-modules no_such_module cannot be imported'),
    (['--decay-milestones', '3', '2'], '--decay-milestones 3 2 must increase'),
    (['--gradaug', '--gradaug-sizes', '7/6'], '--gradaug-sizes'),
    (['--gradaug', '--gradaug-rotation', '361'], "'361' must be a number at least -360 and at most 360"),
    (['--gradaug', '--gradaug-mode', 'widht'], 'did you mean width?'),
    (['--torchcompile', 'inductr'], 'did you mean inductor?'),
    (['--torchcompile-mode', 'max-autotun'], 'did you mean max-autotune?'),
    (['--input-size', '3', '32', '32', '--in-chans', '1'], '--in-chans 1 must equal the 3 channels of --input-size'),
])
def test_a_wrong_command_line_is_refused_in_one_line(capsys, argv, wanted):
    assert wanted in error_line(capsys, argv)


def test_a_crop_may_be_larger_than_the_image_as_in_timm():
    assert parse('--crop-pct', '1.14').crop_pct == 1.14


def test_all_flags_that_do_not_go_together_are_told_at_once(capsys):
    error = error_line(capsys, ['--aug-splits', '1', '--eval-metric', 'top2', '--experiment', '../x'])
    assert error.count(';') == 2
