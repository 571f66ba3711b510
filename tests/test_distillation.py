"""Distillation from a teacher whose weights are in a file, with the loss of the bag of tricks."""
import logging
import os
import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.task import distillation
from torch.nn import functional as F
from train_helpers import arguments, error_line, train

from gradaug_timm.training.arguments import build_parser, parse_arguments
from gradaug_timm.training.loop.epoch import train_epoch
from gradaug_timm.training.prepare import prepare
from gradaug_timm.training.processes import start_process

TEACHER = 'resnet20_cifar'


def make_teacher(num_classes: int = 2) -> torch.nn.Module:
    torch.manual_seed(1)
    teacher = timm.create_model(TEACHER, num_classes=num_classes)
    torch.nn.init.normal_(teacher.head.fc.weight)
    return teacher.eval()


@pytest.fixture
def weights(tmp_path) -> str:
    path = tmp_path / 'teacher.pth'
    torch.save(make_teacher().state_dict(), path)
    return str(path)


@pytest.fixture
def prepared(image_folder, tmp_path, weights):
    def build(**flags):
        flags = {'kd_model_name': TEACHER, 'kd_checkpoint': weights, **flags}
        args, text = parse_arguments(build_parser(), arguments(image_folder, tmp_path, **flags))
        return prepare(args, text, start_process('cpu'))
    return build


def test_the_loss_is_that_of_the_bag_of_tricks(prepared):
    task = prepared(kd_temperature=20, task_loss_weight=1, distill_loss_weight=1, smoothing=0).task
    images, target, T = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 1, 0]), 20.
    student = task.trainable_module.eval()
    result = task(images, target)
    ours = torch.autograd.grad(result['loss'], list(student.parameters()))

    z, r = student(images), make_teacher()(images)
    log_q, p = (z / T).log_softmax(dim=1), (r / T).softmax(dim=1)
    softened = -(p * log_q).sum(dim=1).mean()
    published = F.cross_entropy(z, target) + T ** 2 * softened
    entropy = -(p * p.log()).sum(dim=1).mean()
    torch.testing.assert_close(result['loss'], published - T ** 2 * entropy, rtol=1e-4, atol=1e-4)
    for gradient, expected in zip(ours, torch.autograd.grad(published, list(student.parameters()))):
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('kind', ['pth', 'safetensors', 'run'])
def test_the_teachers_weights_come_from_the_file(image_folder, tmp_path, prepared, weights, kind):
    wanted, path = make_teacher().state_dict(), weights
    if kind == 'safetensors':
        path = str(tmp_path / 'teacher.safetensors')
        save_file(wanted, path)
    if kind == 'run':
        path = train(image_folder, tmp_path, model=TEACHER, model_kwargs=None, experiment='teacher') / 'last.pth.tar'
        wanted = torch.load(path, weights_only=False)['state_dict']
    teacher = prepared(kd_checkpoint=path).task.teacher.model
    assert all(torch.equal(value, wanted[name]) for name, value in teacher.state_dict().items())


def test_the_teacher_neither_learns_nor_sees_training_mode(prepared):
    run = prepared(lr=0.1)
    before = {name: value.clone() for name, value in run.task.teacher.state_dict().items()}
    student = [weight.clone() for weight in run.task.trainable_module.parameters()]
    train_epoch(run, 0)
    assert all(torch.equal(value, before[name]) for name, value in run.task.teacher.state_dict().items())
    assert not any(map(torch.equal, student, run.task.trainable_module.parameters()))
    assert not run.task.teacher.model.training


@pytest.mark.parametrize('flags', [
    dict(), dict(mean=[0.5], std=[0.25]), dict(mean=[0.1, 0.2, 0.3], std=[0.3, 0.2, 0.1]),
])
def test_the_teacher_sees_images_normalised_its_own_way(prepared, flags):
    task = prepared(**flags).task
    own = timm.get_pretrained_cfg(TEACHER)
    pixels = torch.rand(2, 3, 16, 16)
    column = (1, -1, 1, 1)
    mean, std = (torch.tensor(flags.get(name, getattr(own, name))).view(column) for name in ('mean', 'std'))
    seen = []
    task.teacher.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    task((pixels - mean) / std, torch.tensor([0, 1]))
    expected = (pixels - torch.tensor(own.mean).view(column)) / torch.tensor(own.std).view(column)
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-5)


class Unsafe:
    def __init__(self, trace: str):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.mark.parametrize('fault', ['classes', 'architecture', 'text', 'safetensors', 'code', 'empty'])
def test_weights_that_do_not_fit_are_refused_in_one_line(image_folder, tmp_path, capsys, fault):
    path = tmp_path / ('bad.safetensors' if fault == 'safetensors' else 'bad.pth')
    if fault == 'classes':
        torch.save(make_teacher(num_classes=5).state_dict(), path)
    elif fault == 'architecture':
        torch.save(timm.create_model('test_efficientnet').state_dict(), path)
    elif fault == 'code':
        path.write_bytes(pickle.dumps({'state_dict': Unsafe(str(tmp_path / 'ran'))}))
    else:
        path.write_text('' if fault == 'empty' else 'no weights')
    line = error_line(
        capsys, arguments(image_folder, tmp_path, kd_model_name=TEACHER, kd_checkpoint=path))
    assert f'--kd-model-name {TEACHER} with --kd-checkpoint {path} cannot be used as a teacher: ' in line
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(('num_classes', 'told'), [(2, True), (100, False)])
def test_a_teacher_of_other_classes_is_told_of(prepared, monkeypatch, caplog, num_classes, told):
    create = distillation.create_model
    monkeypatch.setattr(distillation, 'create_model', lambda *args, **kw: create(*args, **{**kw, 'pretrained': False}))
    with caplog.at_level(logging.WARNING):
        prepared(kd_checkpoint=None, num_classes=num_classes)
    assert (f'{TEACHER} was trained on 100 classes' in caplog.text) == told


def test_a_missing_file_and_a_missing_teacher_are_refused(image_folder, tmp_path, capsys, weights):
    line = error_line(capsys, arguments(image_folder, tmp_path, kd_model_name=TEACHER, kd_checkpoint='nowhere.pth'))
    assert '--kd-checkpoint nowhere.pth does not exist' in line
    line = error_line(capsys, arguments(image_folder, tmp_path, kd_checkpoint=weights))
    assert f'--kd-checkpoint {weights} needs --kd-model-name, the model of the teacher' in line
