"""Pyramids that run as sub-networks, against physically narrow ones."""
import pytest
import timm
import torch
from torch import nn

pytest.importorskip('faster_coco_eval', reason='needs the extra detection')

from gradaug_timm.detection.detectors import create_detector
from gradaug_timm.detection.freezing import freeze
from gradaug_timm.detection.pyramid import create_backbone
from gradaug_timm.detection.regions import box_difference, recorded, region_losses, with_regions
from gradaug_timm.detection.task import DetectionTask, GradAugDetectionTask
from gradaug_timm.elastic import Subnet, activate
from gradaug_timm.task.settings import GradAugSettings

SMALL = dict(min_size=64, max_size=96, box_batch_size_per_image=16, rpn_post_nms_top_n_train=32)


def batch():
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 64, 80, generator=generator) for _ in range(2)]
    masks = torch.zeros(1, 64, 80, dtype=torch.uint8)
    masks[:, 8:40, 8:48] = 1
    target = {'boxes': torch.tensor([[8., 8., 48., 40.]]), 'labels': torch.tensor([1]), 'masks': masks}
    return images, [target, target]


def detector(kind='mask_rcnn'):
    torch.manual_seed(0)
    return create_detector(kind, create_backbone('resnet10t', channels=16), 2, **SMALL)


def test_the_lateral_convolutions_of_a_narrow_pyramid_take_the_first_channels_of_each_stage():
    torch.manual_seed(0)
    pyramid = create_backbone('resnet10t', channels=16).pyramid.eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad(), activate(pyramid, Subnet(width=0.5)):
        maps, features = pyramid(image), pyramid.body(image)
        channels = [each.shape[1] for each in features]
    whole = pyramid.body.feature_info.channels()
    assert channels == [each // 2 for each in whole]
    upper = None
    for index in reversed(range(4)):  # top-down, as in the paper of feature pyramids
        convolution = pyramid.fpn.inner_blocks[index][0]
        lateral = nn.functional.conv2d(features[index], convolution.weight[:, :channels[index]], convolution.bias)
        upper = lateral if upper is None else lateral + nn.functional.interpolate(upper, lateral.shape[-2:])
        with torch.no_grad():
            torch.testing.assert_close(maps[index], pyramid.fpn.layer_blocks[index](upper))


def test_the_outputs_of_the_whole_pyramid_are_those_of_plain_timm_and_torchvision():
    torch.manual_seed(0)
    pyramid = create_backbone('resnet10t', channels=16).pyramid.eval()
    plain = timm.create_model('resnet10t', features_only=True, out_indices=(1, 2, 3, 4)).eval()
    plain.load_state_dict(pyramid.body.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(pyramid.body(image), plain(image)))


def test_a_task_without_sub_networks_is_the_plain_task():
    results = []
    for build in (DetectionTask, lambda model: GradAugDetectionTask(model, settings=GradAugSettings(subnets=0))):
        model = detector()
        torch.manual_seed(1)
        result = build(model).train()(*batch())
        result['loss'].backward()
        results.append((result['loss'], model.backbone.pyramid.body.conv1[0].weight.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_the_gradient_is_that_of_the_sum_of_all_losses():
    settings = GradAugSettings(subnets=2, sizes=(1.0,))
    model = detector('faster_rcnn')
    task = GradAugDetectionTask(model, settings=settings).train()
    torch.manual_seed(1)
    result = task(*batch())
    result['loss'].backward()
    ours = model.backbone.pyramid.body.layer4[0].conv1.weight.grad

    model = detector('faster_rcnn').train()
    torch.manual_seed(1)
    images, targets = model.transform(*batch())
    full = sum(model(images, targets).values())
    full.backward()
    total = full.detach()
    for draw in task.draws(0):
        with activate(model.backbone.pyramid, draw.subnet):
            loss = sum(model(images, targets).values())
            loss.backward()
        total += loss.detach()
    torch.testing.assert_close(result['loss'], total)
    torch.testing.assert_close(ours, model.backbone.pyramid.body.layer4[0].conv1.weight.grad, rtol=1e-4, atol=1e-6)


def test_a_sub_network_that_is_the_whole_learns_nothing_new_of_classes_and_boxes_from_predictions():
    settings = GradAugSettings(subnets=1, min_width=1.0, sizes=(1.0,))
    model = detector().train()
    task = GradAugDetectionTask(model, settings=settings, targets='predictions')
    images, targets = model.transform(*batch())
    with recorded(model.roi_heads) as predictions:
        model(images, targets)
    assert len(predictions.masks) > 0
    losses = region_losses(model, images, with_regions(model.roi_heads, targets, predictions), predictions)
    assert losses['loss_classifier'].item() == pytest.approx(0, abs=1e-6)
    assert losses['loss_box_reg'].item() == pytest.approx(0, abs=1e-6)
    own = predictions.masks[:, 1].sigmoid()  # the only class in the batch
    entropy = -(own * own.log() + (1 - own) * (1 - own).log()).mean()
    torch.testing.assert_close(losses['loss_mask'], entropy)
    result = task(*batch())
    result['loss'].backward()
    torch.testing.assert_close(result['loss'], result['loss_full'] + result['loss_subnet_0'])


def test_narrow_networks_of_smaller_images_learn_the_regions_of_the_full_network():
    settings = GradAugSettings(subnets=1, min_width=0.5, sizes=(0.75,), batch_fraction=0.5)
    model = detector()
    task = GradAugDetectionTask(model, settings=settings, targets='predictions').train()
    seen = []
    handle = model.roi_heads.box_roi_pool.register_forward_hook(lambda module, inputs, output: seen.append(inputs))
    losses = []
    optimizer = torch.optim.SGD([p for n, p in model.named_parameters() if 'body' in n], lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        result = task(*(part * 2 for part in batch()))
        result['loss'].backward()
        optimizer.step()
        losses.append(result['loss_subnet_0'].item())
    (_, whole, sizes), (_, narrow, narrow_sizes) = seen[:2]
    handle.remove()
    assert [len(whole), len(narrow)] == [4, 2]
    for full, sub in zip(whole, narrow):
        torch.testing.assert_close(sub, full * 0.75)
    assert narrow_sizes == [(48, 60)] * 2 and sizes == [(64, 80)] * 4
    assert losses[-1] < losses[0]


def test_differences_of_boxes_count_by_the_probability_of_their_class():
    logits = torch.tensor([[0., 0., 100.], [100., 0., 0.]])  # the second class; the background
    deltas, wanted = torch.zeros(2, 12), torch.zeros(2, 12)
    deltas[:, 4:8], deltas[:, 8:] = 5., 1.
    assert box_difference(deltas, wanted, logits).item() == pytest.approx(4 * (1 - 0.5 / 9) / 2)


def test_frozen_statistics_stay_and_normalise_the_full_network():
    model = detector('faster_rcnn')
    norm = model.backbone.pyramid.body.bn1
    task = GradAugDetectionTask(model, settings=GradAugSettings(subnets=1), freezes_statistics=True).train()
    before = norm.running_mean.clone()
    task(*batch())
    assert torch.equal(norm.running_mean, before)


@pytest.mark.parametrize('stages, frozen, trained', [(0, None, 'conv1.0.weight'), (1, 'layer1', 'layer2'),
                                                     (2, 'layer2', 'layer3')])
def test_frozen_stages_are_the_first_ones_with_the_stem(stages, frozen, trained):
    body = create_backbone('resnet10t', channels=16).pyramid.body
    freeze(body, stages)
    learns = {name: parameter.requires_grad for name, parameter in body.named_parameters()}
    assert learns['conv1.0.weight'] == (stages == 0)
    assert not any(value for name, value in learns.items() if frozen and name.startswith(frozen))
    assert all(value for name, value in learns.items() if name.startswith(trained))


def test_a_network_of_one_resolution_is_refused():
    with pytest.raises(ValueError, match='a pyramid needs each stage coarser'):
        create_backbone('vit_tiny_patch16_224')


def test_the_anchors_of_each_map_have_the_sizes_that_were_given():
    sizes = (8, 16, 32, 64, 128)
    network = create_detector('faster_rcnn', create_backbone('resnet10t', channels=16), 2, anchor_sizes=sizes, **SMALL)
    of_maps = network.rpn.anchor_generator.cell_anchors
    areas = [(cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1]) for cells in of_maps]
    for size, area in zip(sizes, areas, strict=True):
        torch.testing.assert_close(area, torch.full((3,), float(size ** 2)), rtol=0.2, atol=0.)  # corners are rounded


def test_unknown_targets_are_refused():
    with pytest.raises(ValueError, match='targets=\'labels\' must be one of truth, predictions'):
        GradAugDetectionTask(detector(), settings=GradAugSettings(), targets='labels')


def test_rotation_is_refused():
    with pytest.raises(ValueError, match=r'rotation=.* boxes are only resized'):
        GradAugDetectionTask(detector(), settings=GradAugSettings(rotation=(90.,)))
