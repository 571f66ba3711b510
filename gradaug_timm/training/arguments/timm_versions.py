"""The flags of timm's train.py and validate.py by version, from 0.4 to 1.0.31: names, and defaults that have changed.

A flag came with the release under which it is listed; for 0.8, which has only development releases, with the first one
that has it. train.py itself is not part of timm's packages; these are facts of its history.
"""
from collections.abc import Iterable, Mapping
from typing import Any

Version = tuple[int, ...]

ADDED = {  # version: flags of train.py
    '0.4.5': '''
        data data_dir dataset train_split val_split model pretrained initial_checkpoint resume no_resume_opt num_classes
        gp img_size input_size crop_pct mean std interpolation batch_size validation_batch_size_multiplier opt opt_eps
        opt_betas momentum weight_decay clip_grad clip_mode sched lr lr_noise lr_noise_pct lr_noise_std lr_cycle_mul
        lr_cycle_limit warmup_lr min_lr epochs start_epoch decay_epochs warmup_epochs cooldown_epochs patience_epochs
        decay_rate no_aug scale ratio hflip vflip color_jitter aa aug_splits jsd reprob remode recount resplit mixup
        cutmix cutmix_minmax mixup_prob mixup_switch_prob mixup_mode mixup_off_epoch smoothing train_interpolation drop
        drop_connect drop_path drop_block bn_tf bn_momentum bn_eps sync_bn dist_bn split_bn model_ema
        model_ema_force_cpu model_ema_decay seed log_interval recovery_interval checkpoint_hist workers save_images amp
        apex_amp native_amp channels_last pin_mem no_prefetcher output eval_metric tta local_rank
        use_multi_epochs_loader torchscript''',
    '0.4.9': 'epoch_repeats experiment log_wandb',
    '0.4.12': '',
    '0.5.4': '''
        dataset_download class_map validation_batch_size lr_cycle_decay lr_k_decay aug_repeats jsd_loss bce_loss
        bce_target_thresh worker_seeding no_ddp_bb''',
    '0.6.5': 'aot_autograd fuser grad_checkpointing layer_decay decay_milestones',
    '0.6.11': 'fast_norm',
    '0.6.13': '',
    '0.8.0': '''
        in_chans torchcompile sched_on_updates lr_base lr_base_size lr_base_scale amp_dtype amp_impl warmup_prefix''',
    '0.8.8': 'model_kwargs opt_kwargs',
    '0.8.20': 'grad_accum_steps head_init_scale head_init_bias synchronize_step',
    '0.9.16': '''
        train_num_samples val_num_samples input_img_mode input_key target_key pretrained_path device device_modules
        color_jitter_prob grayscale_prob gaussian_blur_prob bce_sum bce_pos_weight model_ema_warmup train_crop_mode''',
    '1.0.10': 'torchcompile_mode',
    '1.0.12': 'wandb_tags wandb_resume_id',
    '1.0.13': 'dataset_trust_remote_code model_dtype wandb_project',
    '1.0.16': '''
        naflex_loader naflex_train_seq_lens naflex_max_seq_len naflex_patch_sizes naflex_patch_size_probs
        naflex_loss_scale''',
    '1.0.17': 'layer_decay_min_scale layer_decay_no_opt_scale',
    '1.0.22': '',
    '1.0.23': '''
        val_interval kd_model_name kd_distill_type kd_loss_type distill_loss_weight task_loss_weight kd_temperature
        kd_student_feature_dim kd_teacher_feature_dim''',
    '1.0.25': 'kd_token_distill_type',
    '1.0.27': 'naflex_patchify_channels_first',
    '1.0.31': '',  # all others that timm has today
}
REMOVED = {  # flag of train.py: first version without it
    'validation_batch_size_multiplier': '0.5.4',
    'jsd': '0.5.4',
    'bn_tf': '0.5.4',
    'apex_amp': '0.8.0',
    'native_amp': '0.8.0',
    'aot_autograd': '0.8.20',
    'amp_impl': '1.0.23',
}
DEFAULTS: dict[str, dict[str, Any]] = {  # flag of train.py: defaults, from which version on
    'model': {'0.4.5': 'resnet101', '0.5.4': 'resnet50'},
    'batch_size': {'0.4.5': 32, '0.5.4': 128},
    'weight_decay': {'0.4.5': 1e-4, '0.5.4': 2e-5},
    'sched': {'0.4.5': 'step', '0.5.4': 'cosine'},
    'lr': {'0.4.5': 0.01, '0.5.4': 0.05, '0.8.0': None},
    'warmup_lr': {'0.4.5': 1e-4, '0.8.0': 1e-5},
    'min_lr': {'0.4.5': 1e-5, '0.5.4': 1e-6, '0.8.0': 0},
    'epochs': {'0.4.5': 200, '0.5.4': 300},
    'decay_epochs': {'0.4.5': 30, '0.5.4': 100, '0.8.0': 90},
    'decay_milestones': {'0.6.5': [30, 60], '0.8.0': [90, 180, 270]},
    'warmup_epochs': {'0.4.5': 3, '0.8.0': 5},
    'cooldown_epochs': {'0.4.5': 10, '0.8.0': 0},
    'remode': {'0.4.5': 'const', '0.5.4': 'pixel'},
    'dist_bn': {'0.4.5': '', '0.5.4': 'reduce'},
}
NEWEST = '1.0.31'
NAMES = frozenset(name for names in ADDED.values() for name in names.split())


def parsed(version: str) -> Version:
    """Return a version as numbers; parts such as `dev0` are left out.

    Raises:
        ValueError: The text is no version.
    """
    return tuple(int(part) for part in version.removeprefix('v').split('.') if part[:3] not in ('dev', 'rc', 'pos'))


def span(names: Iterable[str]) -> tuple[str, str]:
    """Return the first and the last version, as far as they are listed here, that have all of these flags.

    If no version has all of them, the last version is before the first; the flags come from a changed script.
    """
    names = set(names)
    added = [version for version, flags in ADDED.items() if names & set(flags.split())]
    removed = [REMOVED[name] for name in names if name in REMOVED]
    first = max(added, key=parsed, default='0.4.5')
    if not removed:
        return first, NEWEST
    end = parsed(min(removed, key=parsed))
    return first, max((version for version in ADDED if parsed(version) < end), key=parsed)


def defaults_at(version: str) -> Mapping[str, Any]:
    """Return the defaults of a version of train.py, of flags whose default has changed since 0.4."""
    found = {}
    for name, values in DEFAULTS.items():
        known = [since for since in values if parsed(since) <= max(parsed(version), parsed('0.4.5'))]
        if known:
            found[name] = values[max(known, key=parsed)]
    return found


def was_default(name: str, value: Any) -> bool:
    """Return whether some version of timm had this default."""
    values = [list(each) if isinstance(each, (list, tuple)) else each for each in (*DEFAULTS.get(name, {}).values(),)]
    return (list(value) if isinstance(value, (list, tuple)) else value) in values
