"""The settings of every row of the published tables, written by hand from the papers; others are timm's defaults."""
from pathlib import Path

HPARAMS = Path(__file__).resolve().parents[1] / 'hparams'

IMAGENET = dict(
    dataset='', train_split='train', val_split='validation', num_classes=1000, model='resnet50',
    model_kwargs=dict(zero_init_last=False), gradaug=False,
    input_size=[3, 224, 224], mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225],
    interpolation='bilinear', crop_pct=224 / 256, train_interpolation='bilinear',
    scale=[0.08, 1.], ratio=[3 / 4, 4 / 3], hflip=0.5, color_jitter=0.4, pca_lighting=0.,
    batch_size=512, keep_last_batch=True, epochs=120, opt='sgd', momentum=0.9, weight_decay=1e-4,
    decay_all_parameters=True, lr=0.2, min_lr=0, sched='cosine', sched_on_updates=True, warmup_epochs=0, smoothing=0.,
    workers=8,
)
CIFAR = dict(
    dataset='torch/cifar100', train_split='train', val_split='validation', num_classes=100,
    model_kwargs=dict(zero_init_last=False), gradaug=False,
    input_size=[3, 32, 32], mean=[125.3 / 255, 123.0 / 255, 113.9 / 255], std=[63.0 / 255, 62.1 / 255, 66.7 / 255],
    interpolation='bilinear', crop_pct=1., train_interpolation='bilinear', reflect_pad=4, hflip=0.5, color_jitter=0.,
    keep_last_batch=True, opt='sgd', momentum=0.9, decay_all_parameters=True, min_lr=0, warmup_epochs=0,
    smoothing=0., workers=4,
)
COSINE = dict(lr=0.1, sched='cosine', sched_on_updates=True)
WRN = dict(CIFAR, model='wide_resnet28_10', batch_size=128, epochs=200, weight_decay=5e-4, **COSINE)
PYRAMID = dict(
    CIFAR, model='pyramidnet200_a240', batch_size=64, epochs=300, weight_decay=1e-4,
    lr=0.25, sched='multistep', sched_on_updates=True, decay_milestones=[150, 225], decay_rate=0.1)
RESNET110 = dict(CIFAR, model='resnet110_cifar', batch_size=128, epochs=200, weight_decay=1e-4, **COSINE)
CIFAR10 = dict(dataset='torch/cifar10', num_classes=10)


def width(model: str, least: float, sizes: list[int]) -> dict:
    """GradAug by random width as in the paper."""
    return dict(
        model=f'gradaug_{model}', gradaug=True, gradaug_preset='paper', gradaug_subnets=3,
        gradaug_mode='width', gradaug_min_width=least,
        gradaug_width_steps=0, gradaug_divisor=1, gradaug_sizes=[size / sizes[0] for size in sizes])


DEPTH = dict(
    model='gradaug_resnet110_cifar', gradaug=True, gradaug_preset='paper', gradaug_subnets=3, gradaug_mode='depth',
    gradaug_min_survival=0.8,
    gradaug_statistics='all', gradaug_sizes=[32 / 32, 28 / 32, 24 / 32])
GRID = dict(gradaug_width_steps=5, gradaug_divisor=8)
SHAKE_DROP = dict(shake_drop=0.5, shake_drop_alpha=[-1., 1.], shake_drop_beta=[0., 1.], shake_drop_level='pixel')
CUTMIX_PAPER = dict(batch_size=256, epochs=300, lr=0.1, sched='step', sched_on_updates=False, decay_epochs=75)
HUANG = dict(stoch_depth=0.5, epochs=500, sched='multistep', decay_milestones=[250, 375])


def figure(method: str, top1: float, top5: float | None = None) -> dict:
    return dict(method=method, published_top1=top1, published_top5=top5)


def imagenet_rows() -> dict[str, dict]:
    gradaug = width('resnet50', 0.9, [224, 192, 160, 128])
    mixed = dict(keep_last_batch=False)  # its 143 images are odd
    cutmix = dict(mixed, cutmix=1., mixup_prob=1.)
    large = dict(batch_size=1024, lr=0.4, warmup_epochs=5)
    own = dict(
        baseline=figure('Baseline', 76.32, 92.95),
        dropblock=dict(
            figure('DropBlock', 78.13, 94.02), **large, epochs=270, warmup_lr=0., sched='multistep',
            decay_milestones=[125, 200, 250], decay_all_parameters=False, color_jitter=0.,
            model_kwargs=dict(zero_init_last=True), paper_drop_block=0.1, paper_drop_block_schedule='linear',
            paper_drop_block_size=7),
        mixup=dict(
            figure('Mixup', 77.9, 93.9), **large, **mixed, mixup=0.2, epochs=200, warmup_lr=0.1, sched='multistep',
            decay_milestones=[60, 120, 180], color_jitter=0.),
        cutmix=dict(figure('CutMix', 78.60, 94.08), **cutmix, **CUTMIX_PAPER),
        stochdepth=dict(figure('StochDepth', 77.53, 93.73), stoch_depth=0.9, **CUTMIX_PAPER),
        shakedrop=dict(figure('ShakeDrop', 77.5), **SHAKE_DROP),
        gradaug=dict(figure('GradAug', 78.78, 94.43), **gradaug),
        bag_of_tricks=dict(
            figure('bag of tricks', 79.29, 94.38), **large, **mixed, model='resnet50d',
            model_kwargs=dict(zero_init_last=True), epochs=200, warmup_lr=0., decay_all_parameters=False, smoothing=0.1,
            mixup=0.2, kd_model_name='resnet152d.gluon_in1k', kd_distill_type='logit', kd_temperature=20.,
            task_loss_weight=1., distill_loss_weight=1.),
        gradaug_cutmix=dict(figure('GradAug+CutMix', 79.67, 94.93), **gradaug, **cutmix),
    )
    own['gradaug_grid'] = dict(own['gradaug'], **GRID, method='GradAug (grid)')
    own['gradaug_cutmix_grid'] = dict(own['gradaug_cutmix'], **GRID, method='GradAug+CutMix (grid)')
    return {f'imagenet/resnet50_{name}': {**IMAGENET, **settings} for name, settings in own.items()}


def cifar_width_rows(recipe: dict, figures: dict[str, dict]) -> dict[str, dict]:
    gradaug = width(recipe['model'], 0.8, [32, 28, 24])
    cutmix = dict(cutmix=1., mixup_prob=0.5)
    methods = dict(
        baseline={}, mixup=dict(mixup=1.), cutmix=cutmix, shakedrop=SHAKE_DROP, gradaug=gradaug,
        gradaug_cutmix={**gradaug, **cutmix})
    own = {name: {**methods[name], **figures[name]} for name in methods}
    own['gradaug_grid'] = dict(own['gradaug'], **GRID, method='GradAug (grid)')
    own['gradaug_cutmix_grid'] = dict(own['gradaug_cutmix'], **GRID, method='GradAug+CutMix (grid)')
    return {f'cifar100/{recipe["model"]}_{name}': {**recipe, **settings} for name, settings in own.items()}


def resnet110_rows(data_set: str, recipe: dict, baseline: float, dropped: float, gradaug: float) -> dict[str, dict]:
    own = dict(
        baseline=figure('Baseline', baseline),
        stochdepth=dict(figure('StochDepth', dropped), **HUANG),
        gradaug=dict(figure('GradAug', gradaug), **DEPTH))
    return {f'{data_set}/resnet110_{name}': {**recipe, **settings} for name, settings in own.items()}


ROWS = {
    **imagenet_rows(),
    **cifar_width_rows(WRN, dict(
        baseline=figure('Baseline', 81.53, 95.59), mixup=figure('Mixup', 82.5), cutmix=figure('CutMix', 84.08, 96.28),
        shakedrop=figure('ShakeDrop', 81.65, 96.19), gradaug=figure('GradAug', 83.98, 96.17),
        gradaug_cutmix=figure('GradAug+CutMix', 85.35, 96.85))),
    **cifar_width_rows(PYRAMID, dict(
        baseline=figure('Baseline', 83.49, 94.31), mixup=figure('Mixup', 84.37, 96.01),
        cutmix=figure('CutMix', 84.83, 96.73), shakedrop=figure('ShakeDrop', 84.57, 97.08),
        gradaug=figure('GradAug', 85.53, 97.04), gradaug_cutmix=figure('GradAug+CutMix', 86.24, 97.33))),
    **resnet110_rows('cifar10', {**RESNET110, **CIFAR10}, 93.59, 94.75, 95.77),
    **resnet110_rows('cifar100', RESNET110, 72.24, 75.02, 77.63),
}

# Where a figure was published with another recipe than the row's, what is different in it.
OTHER_RECIPES = {
    'imagenet/resnet50_baseline': CUTMIX_PAPER,
    'cifar10/resnet110_baseline': {**HUANG, 'stoch_depth': 1.},
    'cifar100/resnet110_baseline': {**HUANG, 'stoch_depth': 1.},
    'cifar100/wide_resnet28_10_mixup': dict(sched='multistep', decay_milestones=[60, 120, 180], weight_decay=1e-4),
}
