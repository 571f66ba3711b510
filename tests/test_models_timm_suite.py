"""timm's own model tests pass on our models (TorchScript and downloads of weights excepted)."""
import re
from pathlib import Path

import pytest
import timm
import timm_suite
import torch

import gradaug_timm  # noqa: F401  (registers the models)

# A network of timm and one of each CIFAR family that isn't planned, and one that is planned at once.
QUICK = ('gradaug_test_resnet', 'gradaug_wide_resnet16_8', 'gradaug_pyramidnet110_a270')
PLANNED = ('gradaug_resnet56_cifar',)
SHALLOW = {
    'gradaug_wide_resnet16_8': dict(depth=10, widen_factor=2), 'gradaug_pyramidnet110_a270': dict(depth=20, alpha=24),
    'gradaug_resnet56_cifar': dict(depth=8)}
CIFAR = timm.list_models(module=['cifar_resnet', 'cifar_wide_resnet', 'cifar_pyramidnet'])
MODULES = sorted(path.stem for path in Path(timm.models.__file__).parent.glob('[!_]*.py'))
TESTS = {'test_model_forward', 'test_model_backward', 'test_model_default_cfgs', 'test_model_forward_features',
         'test_model_forward_intermediates_features', 'test_model_forward_intermediates',
         'test_prune_intermediate_layers_contract', 'test_model_forward_fx', 'test_model_backward_fx'}


def model_of(case: str) -> str:
    """The model without its tag in a test's name, which ends in [1-model.tag] or [model]."""
    return re.search(r'([^-[]+)\]$', case).group(1).partition('.')[0]


def assert_passes(models, report, **options):
    outcome = timm_suite.run_suite(models, report, **options)
    assert outcome.code == 0 and not outcome.failed, f'{outcome.failed}\n{outcome.output}'
    for model in models:
        passed = {case.partition('[')[0] for case in outcome.passed if model_of(case) == model}
        assert passed == TESTS, f'{model}: passed {sorted(passed)}, skipped {outcome.skipped}'


def test_one_model_of_each_kind_planned_or_not_passes_timms_tests(tmp_path):
    assert_passes([*QUICK, *PLANNED], tmp_path / 'report.xml', planned=PLANNED, kwargs=SHALLOW)


@pytest.mark.slow
@pytest.mark.parametrize(
    'model', ['gradaug_resnet10t', 'gradaug_resnet14t', 'gradaug_resnet18', 'gradaug_resnet20_cifar'])
def test_timms_tests_also_pass_after_the_model_was_made_elastic(model, tmp_path):
    assert_passes([model], tmp_path / 'report.xml', planned=[model])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize('model', [
    'gradaug_resnet18', 'gradaug_resnet26', *(name for plain in CIFAR for name in (plain, f'gradaug_{plain}'))])
def test_every_cifar_network_and_whole_resnets_pass_timms_tests(model, tmp_path):
    assert_passes([model], tmp_path / 'report.xml')


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize('module', [module for module in MODULES if timm.list_models(module=module)])
def test_the_smallest_elastic_network_of_a_module_passes_timms_tests(module, tmp_path):
    smallest = min(timm.list_models(module=module), key=parameters_of)
    outcome = timm_suite.run_suite([smallest], tmp_path / 'report.xml', twins=True)
    assert outcome.code == 0 and not outcome.failed, f'{outcome.failed}\n{outcome.output}'
    assert len(outcome.passed) >= 4, outcome


def parameters_of(name: str) -> int:
    with torch.device('meta'):
        return sum(parameter.numel() for parameter in timm.create_model(name).parameters())


def test_a_cache_that_leads_nowhere_is_named_as_the_reason_of_the_skip(tmp_path, monkeypatch):
    (tmp_path / 'cache').symlink_to(tmp_path / 'gone')
    monkeypatch.setenv('TIMM_SUITE_FOLDER', str(tmp_path / 'cache' / 'timm_suite'))
    timm_suite._suite_folder.cache_clear()
    try:
        with pytest.raises(pytest.skip.Exception, match=r'cache/timm_suite, where timm\'s tests would be kept, can\'t'):
            timm_suite.suite_folder()
    finally:
        timm_suite._suite_folder.cache_clear()
