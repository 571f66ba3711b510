"""The task against the naive sum of all passes, and against timm's plain task."""
import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from naive import gradient, naive_loss, relative_error
from timm.loss import BinaryCrossEntropy, JsdCrossEntropy, SoftTargetCrossEntropy
from timm.task import ClassificationTask, MultiLabelClassificationTask, TrainingTask
from torch import nn

from gradaug_timm import GradAugSettings, GradAugTask, MultiLabelGradAugTask, Subnet, activate
from gradaug_timm.task.losses import subnet_loss_for

CLASSES, BLOCKS, SIZE = 4, 3, 16


def make_model():
    torch.manual_seed(0)
    return timm.create_model('gradaug_resnet20_cifar', num_classes=CLASSES, depth=8).train()


def make_batch(step=0, count=6):
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(count, 3, SIZE, SIZE, generator=generator)
    return images, torch.randint(0, CLASSES, (count,), generator=generator)


def make_settings(**given):
    return GradAugSettings.preset(SIZE, **{'divisor': 4, 'subnets': 3, 'batch_fraction': 1., **given})


SETTINGS = {
    'width': make_settings(mode='width'),
    'continuous width': make_settings(mode='width', width_steps=0, divisor=1),
    'depth': make_settings(mode='depth', min_survival=0.4),
    'both': make_settings(mode='both', min_survival=0.4, rotation=(0.0, 20.0)),
    'weight and temperature': make_settings(weight=0.5, temperature=3.0),
    'one': make_settings(subnets=1),
    'part of the batch': make_settings(batch_fraction=0.7),
}


@pytest.mark.parametrize('name', SETTINGS)
def test_gradients_equal_the_naive_sum_of_all_passes(name):
    settings = SETTINGS[name]
    model = make_model()
    twin = copy.deepcopy(model)
    task = GradAugTask(model, nn.CrossEntropyLoss(), settings=settings)
    assert isinstance(task, TrainingTask)
    for step in range(3):  # gradients accumulate
        images, target = make_batch(step)
        result = task(images, target)
        result['loss'].backward()
        expected = naive_loss(twin, images, target, settings, step, num_blocks=BLOCKS)
        expected.backward()
        torch.testing.assert_close(result['loss'], expected, rtol=1e-6, atol=1e-6)
    assert relative_error(gradient(model), gradient(twin)) < 1e-5
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), twin.buffers()))


def test_soft_targets_train_as_hard_ones_do():
    images, target = make_batch()
    soft = F.one_hot(target, CLASSES) * 0.7 + 0.3 / CLASSES
    model = make_model()
    twin = copy.deepcopy(model)
    GradAugTask(model, SoftTargetCrossEntropy(), settings=make_settings())(images, soft)['loss'].backward()
    naive_loss(twin, images, soft, make_settings(), 0, num_blocks=BLOCKS, criterion=F.cross_entropy).backward()
    assert relative_error(gradient(model), gradient(twin)) < 1e-5


def test_activation_checkpointing_changes_no_gradient():
    images, target = make_batch()
    model = make_model()
    twin = copy.deepcopy(model)
    model.set_grad_checkpointing()
    GradAugTask(model, nn.CrossEntropyLoss(), settings=SETTINGS['both'])(images, target)['loss'].backward()
    naive_loss(twin, images, target, SETTINGS['both'], 0, num_blocks=BLOCKS).backward()
    assert relative_error(gradient(model), gradient(twin)) < 1e-5


def test_with_no_subnetworks_it_is_the_plain_task_bit_for_bit():
    model = make_model()
    twin = copy.deepcopy(model)
    images, target = make_batch()
    result = GradAugTask(model, nn.CrossEntropyLoss(), settings=make_settings(subnets=0))(images, target)
    plain = ClassificationTask(twin, nn.CrossEntropyLoss())(images, target)
    result['loss'].backward()
    plain['loss'].backward()
    assert torch.equal(result['loss'], plain['loss']) and torch.equal(result['output'], plain['output'])
    assert torch.equal(gradient(model), gradient(twin))
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), twin.buffers()))


@pytest.mark.parametrize('gradients', [True, False])
def test_in_evaluation_and_without_gradients_the_result_is_the_plain_one_and_nothing_is_drawn(gradients):
    model = make_model().train(not gradients)
    twin = copy.deepcopy(model)
    task = GradAugTask(model, nn.CrossEntropyLoss(), settings=make_settings())
    images, target = make_batch()
    with torch.set_grad_enabled(gradients):
        result = task(images, target)
        assert torch.equal(result['loss'], ClassificationTask(twin, nn.CrossEntropyLoss())(images, target)['loss'])
    assert set(result) == {'loss', 'output'} and task.step == 0


def test_components_are_named_and_sum_to_the_loss():
    task = GradAugTask(make_model(), nn.CrossEntropyLoss(), settings=make_settings(weight=0.3))
    result = task(*make_batch())
    components = {name: value for name, value in result.items() if name.startswith('loss_')}
    assert set(components) == {'loss_full', 'loss_subnet_0', 'loss_subnet_1', 'loss_subnet_2'}
    torch.testing.assert_close(sum(components.values()), result['loss'].detach())
    assert not any(value.requires_grad for value in [result['output'], *components.values()])
    result['loss'] /= 2  # timm's loop does so in place when it accumulates
    torch.testing.assert_close(sum(components.values()) / 2, result['loss'].detach())


def test_subnetworks_come_closer_to_the_full_network_by_their_loss_alone():
    model = make_model()
    task = GradAugTask(
        model, lambda logits, _: 0 * logits.sum(), settings=make_settings(subnets=1, min_width=0.5, sizes=(1.0,)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    images, target = make_batch()
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        result = task(images, target)
        result['loss'].backward()
        optimizer.step()
        losses.append(result['loss_subnet_0'].item())
    assert losses[-1] < 0.8 * losses[0]


def test_the_full_network_gets_no_gradient_from_the_target_that_it_gives():
    logits = torch.randn(4, CLASSES, requires_grad=True)
    full = torch.randn(4, CLASSES)
    for criterion in (nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss()):
        subnet_loss_for(criterion)(logits, full, 1.0).backward()
    task = GradAugTask(make_model(), lambda logits, _: 0 * logits.sum(), settings=make_settings(subnets=1, weight=0.0))
    task(*make_batch())['loss'].backward()
    assert gradient(task.trainable_module).abs().max() == 0 and logits.grad is not None


def test_criteria_that_split_or_sum_the_batch_are_refused():
    for criterion, words in (
            (JsdCrossEntropy(3), 'JsdCrossEntropy'), (nn.CrossEntropyLoss(reduction='sum'), 'reduction=\'sum\''),
            (nn.BCEWithLogitsLoss(reduction='none'), 'reduction=\'none\'')):
        with pytest.raises(ValueError, match=words):
            GradAugTask(make_model(), criterion, settings=make_settings())


@pytest.mark.parametrize('criterion', [
    F.binary_cross_entropy_with_logits, nn.Sequential(nn.BCEWithLogitsLoss()), BinaryCrossEntropy()])
def test_binary_criteria_are_recognised_as_functions_and_inside_others(criterion):
    logits, full = torch.randn(4, CLASSES), torch.randn(4, CLASSES)
    expected = F.binary_cross_entropy_with_logits(logits, full.sigmoid())
    torch.testing.assert_close(subnet_loss_for(criterion)(logits, full, 1.0), expected)


def test_parameters_with_gradient_hooks_are_refused():
    model = make_model()
    model.conv1.weight.register_hook(lambda gradient: gradient * 0.5)
    task = GradAugTask(model, nn.CrossEntropyLoss(), settings=make_settings())
    with pytest.raises(ValueError, match='register_hook'):
        task(*make_batch())


def test_a_static_graph_of_ddp_is_refused():
    with pytest.raises(ValueError, match='static_graph'):
        GradAugTask(make_model(), settings=make_settings()).prepare_distributed(static_graph=True)


def test_without_subnetworks_any_network_is_taken():
    network = timm.create_model('test_vit', num_classes=CLASSES)
    task = GradAugTask(network, nn.CrossEntropyLoss(reduction='sum'), settings=make_settings(subnets=0))
    assert task(torch.randn(2, 3, 160, 160), torch.tensor([0, 1]))['loss'].requires_grad


def test_subnetworks_train_on_every_kth_step_and_until_the_off_epoch():
    task = GradAugTask(make_model(), nn.CrossEntropyLoss(), settings=make_settings(interval=2, off_epoch=3))
    batch = make_batch()
    assert ['loss_subnet_0' in task(*batch) for _ in range(4)] == [True, False, True, False]
    task.set_epoch(2)
    assert 'loss_subnet_0' in task(*batch)
    task.set_epoch(3)
    assert ['loss_subnet_0' in task(*batch) for _ in range(2)] == [False, False]


def test_the_epoch_tells_which_sizes_have_joined():
    task = GradAugTask(make_model(), nn.CrossEntropyLoss(), settings=make_settings(size_epochs=2))
    sizes = []
    for epoch in range(3):
        task.set_epoch(epoch)
        sizes.append({draw.transform.steps[0].value for step in range(40) for draw in task.draws(step)})
    assert sizes == [{0.75}, {0.75, 0.875}, {0.75, 0.875, 1.0}]


def test_a_restored_task_goes_on_with_the_same_draws():
    first = GradAugTask(make_model(), nn.CrossEntropyLoss(), settings=make_settings())
    batch = make_batch()
    for _ in range(5):
        first(*batch)
    state = first.get_checkpoint_state()
    second = GradAugTask(make_model(), nn.CrossEntropyLoss(), settings=make_settings())
    second.load_checkpoint_state(state['state_dict'], state['task_state'])
    a, b = first(*batch), second(*batch)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_loss_can_be_differentiated_only_once():
    result = GradAugTask(make_model(), nn.CrossEntropyLoss(), settings=make_settings(subnets=2))(*make_batch())
    result['loss'].backward(retain_graph=True)
    with pytest.raises(RuntimeError, match='only once'):
        result['loss'].backward()


def test_second_derivatives_are_refused():
    model = make_model()
    result = GradAugTask(model, nn.CrossEntropyLoss(), settings=make_settings(subnets=2))(*make_batch())
    with pytest.raises(RuntimeError, match='no second derivatives'):
        result['loss'].backward(create_graph=True)


@pytest.mark.parametrize('task_class, criterion, multi_label', [
    (MultiLabelGradAugTask, None, True), (GradAugTask, nn.BCEWithLogitsLoss(), True)])
def test_independent_classes_learn_sigmoid_targets(task_class, criterion, multi_label):
    images, target = make_batch()
    soft = F.one_hot(target, CLASSES).float()
    model = make_model()
    twin = copy.deepcopy(model)
    task_class(model, criterion, settings=make_settings(temperature=2.0))(images, soft)['loss'].backward()
    naive_loss(twin, images, soft, make_settings(temperature=2.0), 0, num_blocks=BLOCKS, multi_label=True,
               criterion=_plain_bce if criterion is None else criterion).backward()
    assert relative_error(gradient(model), gradient(twin)) < 1e-5


def _plain_bce(logits, target):
    return MultiLabelClassificationTask(nn.Identity())(logits, target)['loss']


def test_binary_cross_entropy_summed_over_classes_scales_the_subnetworks_alike():
    images, target = make_batch()
    results = []
    for sum_classes in (False, True):
        task = GradAugTask(make_model(), BinaryCrossEntropy(sum_classes=sum_classes), settings=make_settings())
        results.append(task(images, target))
    for name in ('loss_full', 'loss_subnet_0', 'loss_subnet_2'):
        torch.testing.assert_close(results[1][name], CLASSES * results[0][name])


def test_multi_label_targets_must_be_dense():
    with pytest.raises(ValueError, match='dense floating-point targets'):
        MultiLabelGradAugTask(make_model(), settings=make_settings())(*make_batch())


def test_a_model_without_blocks_is_refused_for_random_depth():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    with pytest.raises(ValueError, match='mode=\'depth\' needs residual blocks'):
        GradAugTask(model, settings=make_settings(mode='depth'))


def test_frozen_parameters_stay_without_gradient():
    model = make_model()
    model.conv1.requires_grad_(False)
    GradAugTask(model, nn.CrossEntropyLoss(), settings=make_settings())(*make_batch())['loss'].backward()
    assert model.conv1.weight.grad is None and model.bn1.weight.grad is not None


def test_the_average_of_weights_is_elastic_too():
    task = GradAugTask(make_model(), nn.CrossEntropyLoss(), settings=make_settings())
    ema = task.setup_ema(decay=0.5).module
    task(*make_batch())['loss'].backward()
    task.update_ema(step=1)
    with activate(ema, Subnet(0.5)):
        assert ema(make_batch()[0]).shape == (6, CLASSES)


def test_changed_settings_give_what_a_task_made_with_them_gives():
    (images, labels), network = make_batch(), make_model()
    before = GradAugSettings(subnets=0)
    after = GradAugSettings.preset(32, subnets=2, mode='depth', divisor=1, seed=3)
    changed = GradAugTask(copy.deepcopy(network), settings=before, verbose=False)
    changed.change_settings(after)
    made = GradAugTask(copy.deepcopy(network), settings=after, verbose=False)
    results = [task(images, labels) for task in (changed, made)]
    assert sorted(results[0]) == sorted(results[1]) and 'loss_subnet_1' in results[0]
    assert all(torch.equal(results[0][name], value) for name, value in results[1].items())
