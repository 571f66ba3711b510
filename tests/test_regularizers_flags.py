"""The flags of ShakeDrop, stochastic depth and DropBlock: runs, refusals, and what a resumed run may not change."""
import pytest
import torch
from timm.utils import load_checkpoint_metadata
from train_helpers import arguments, error_line, make_image_folder, read_summary, train

from gradaug_timm.training.arguments import build_parser, parse_arguments
from gradaug_timm.training.building.networks import build_network


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return make_image_folder(tmp_path_factory.mktemp('images'))


@pytest.mark.parametrize('flags', [
    dict(shake_drop=0.5),
    dict(shake_drop=0.5, shake_drop_alpha=[0, 1], shake_drop_beta=[0, 0.5], shake_drop_level='image', gradaug=True),
    dict(shake_drop=0.5, grad_checkpointing=True, amp=True, amp_dtype='bfloat16'),
    dict(shake_drop=0.5, model='pyramidnet110_a270', model_kwargs=['depth=8', 'alpha=9'], channels_last=True),
    dict(shake_drop=0.5, torchcompile='eager'),
    dict(stoch_depth=0.5),
    dict(stoch_depth=0.2, gradaug=True, model_ema=True, amp=True, amp_dtype='float16'),
    dict(
        stoch_depth=0.5, grad_checkpointing=True, model='wide_resnet16_8', model_kwargs=['depth=10', 'widen_factor=1']),
    dict(paper_drop_block=0.1, paper_drop_block_size=3),
    dict(
        paper_drop_block=0.1, gradaug=True, channels_last=True, torchcompile='aot_eager', gradaug_width_steps=1,
        gradaug_sizes=[1]),
    dict(paper_drop_block=0.1, stoch_depth=0.5),
], ids=str)
def test_it_trains(data, tmp_path, flags):
    folder = train(data, tmp_path, **flags)
    assert all(float(value) == float(value) for value in read_summary(folder)[0].values())
    state = load_checkpoint_metadata(folder / 'last.pth.tar')['state_dict']
    assert all(torch.isfinite(value).all() for value in state.values())


def _network(*flags: str):
    torch.manual_seed(0)
    args, _ = parse_arguments(build_parser(), ['--model', 'resnet20_cifar', '--model-kwargs', 'depth=8', *flags])
    return build_network(args)


@pytest.mark.parametrize('flags, found', [
    (['--shake-drop', '0.4'],
     ["ShakeDrop(survival=0.8, alpha=(-1.0, 1.0), beta=(0.0, 1.0), level='pixel')", 'survival=0.4']),
    (['--shake-drop', '0.4', '--shake-drop-alpha', '-2', '0', '--shake-drop-beta', '1', '1',
      '--shake-drop-level', 'batch'], ["alpha=(-2.0, 0.0), beta=(1.0, 1.0), level='batch')"]),
    (['--stoch-depth', '0.4'], ['ResidualScale(factor=0.8)', 'ResidualScale(factor=0.4)']),
    (['--paper-drop-block', '0.2'], ['DropBlock(rate=0.05, size=7)', 'DropBlock(rate=0.2, size=7)']),
    (['--paper-drop-block', '0.2', '--paper-drop-block-size', '3'], ['DropBlock(rate=0.2, size=3)']),
])
def test_the_network_is_what_the_flags_say(flags, found):
    text = str(_network(*flags))
    assert all(part in text for part in found)
    assert 'ShakeDrop' not in str(_network()) and 'DropBlock' not in str(_network())


@pytest.mark.parametrize('flags, part', [
    (dict(shake_drop=0), 'argument --shake-drop: \'0\' must be a number above 0 and at most 1'),
    (dict(stoch_depth=1.5), 'argument --stoch-depth: \'1.5\''),
    (dict(paper_drop_block=1), 'argument --paper-drop-block: \'1\' must be a number above 0 and below 1'),
    (dict(shake_drop_level='pixel'), '--shake-drop-level needs --shake-drop'),
    (dict(shake_drop=0.5, shake_drop_alpha=[1, 0]), '--shake-drop-alpha 1 0 must be a range'),
    (dict(paper_drop_block_size=3), '--paper-drop-block-size needs --paper-drop-block'),
    (dict(paper_drop_block=0.1, drop_block=0.1), '--paper-drop-block and --drop-block exclude each other'),
    (dict(shake_drop=0.5, stoch_depth=0.5), '--shake-drop and --stoch-depth exclude each other'),
    (dict(shake_drop=0.5, drop_path=0.1), '--shake-drop and --drop-path exclude each other'),
    (dict(stoch_depth=0.5, drop_connect=0.1), '--stoch-depth and --drop-path exclude each other'),
    (dict(stoch_depth=0.5, torchcompile='eager'), '--stoch-depth and --torchcompile exclude each other'),
    (dict(stoch_depth=0.5, sync_bn=True), '--stoch-depth and --sync-bn exclude each other'),
    (dict(shake_drop=0.5, model='densenet121', model_kwargs=None),
     '--shake-drop does not support --model densenet121: DenseNet'),
    (dict(stoch_depth=0.5, model='test_vit', model_kwargs=None), '--stoch-depth does not support --model test_vit'),
    (dict(paper_drop_block=0.1, model='wide_resnet16_8', model_kwargs='depth=10'),
     '--paper-drop-block does not support --model wide_resnet16_8: WideResNet'),
], ids=str)
def test_what_has_no_meaning_is_refused_in_one_line_before_training(data, tmp_path, capsys, flags, part):
    assert part in error_line(capsys, arguments(data, tmp_path, **flags))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('before, after, part', [
    (dict(shake_drop=0.5), dict(), '--shake-drop off: the checkpoint'),
    (dict(), dict(stoch_depth=0.5), '--stoch-depth survival=0.5: the checkpoint'),
    (dict(shake_drop=0.5), dict(shake_drop=0.5, shake_drop_level='image'), 'level=image: the checkpoint'),
    (dict(paper_drop_block=0.1), dict(paper_drop_block=0.1, paper_drop_block_schedule='constant'),
     '--paper-drop-block-schedule constant: the checkpoint'),
], ids=str)
def test_a_resumed_run_keeps_its_regularisers(data, tmp_path, capsys, before, after, part):
    train(data, tmp_path, **before)
    assert part in error_line(capsys, arguments(data, tmp_path, experiment='run', resume='auto', epochs=2, **after))
    train(data, tmp_path, resume='auto', epochs=2, **before)


def test_spelling_out_the_defaults_is_no_change(data, tmp_path):
    train(data, tmp_path, shake_drop=0.5)
    folder = train(data, tmp_path, resume='auto', epochs=2, shake_drop=0.5, shake_drop_alpha=[-1, 1],
                   shake_drop_beta=[0, 1], shake_drop_level='pixel')
    assert len(read_summary(folder)) == 2
