"""timm's own model tests pass on our models (TorchScript and downloads of weights excepted)."""
import re

import pytest
import timm
import timm_suite

import gradaug_timm  # noqa: F401  (registers the models)

# One ResNet of each block, one network of each CIFAR family and block.
QUICK = ('gradaug_resnet18', 'gradaug_resnet26', 'gradaug_resnet20_cifar', 'gradaug_wide_resnet16_8',
         'gradaug_pyramidnet110_a270', 'wide_resnet16_8')
OURS = timm.list_models(module=['gradaug_models', 'cifar_resnet', 'cifar_wide_resnet', 'cifar_pyramidnet'])
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


def test_one_model_of_each_kind_passes_timms_tests(tmp_path):
    assert_passes(QUICK, tmp_path / 'report.xml')


@pytest.mark.parametrize('model', ['gradaug_resnet18', 'gradaug_resnet20_cifar'])
def test_timms_tests_also_pass_after_the_model_was_made_elastic(model, tmp_path):
    assert_passes([model], tmp_path / 'report.xml', planned=True)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize('model', [name for name in OURS if name not in QUICK])
def test_every_other_model_passes_timms_tests(model, tmp_path):
    assert_passes([model], tmp_path / 'report.xml')
