"""Training and evaluation of detectors by their commands."""
import csv
import json
import re
from dataclasses import replace

import pytest
import torch
from coco_helpers import make_coco
from train_helpers import at_batch, out_of_memory, read_log, read_summary

pytest.importorskip('faster_coco_eval', reason='needs the extra detection')

from gradaug_timm.detection import coco_metrics, evaluate, train, validate
from gradaug_timm.detection.coco import read_coco, results_of, truth_of
from gradaug_timm.training.arguments import parse_arguments

SMALL = ('--model resnet10t --pyramid-channels 16 --min-size 64 --max-size 96 --batch-size 2 --workers 0 --opt adamw '
         '--lr 0.001 --warmup-epochs 0 --hflip 0 --gradaug-subnets 1 --detector-kwargs box_batch_size_per_image=16 '
         'rpn_pre_nms_top_n_train=64 rpn_post_nms_top_n_train=32 rpn_post_nms_top_n_test=16').split()


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('coco')
    make_coco(root)
    make_coco(root, split='val2017', seed=1)
    return root


def run(data, output, name, *flags):
    train.main([*SMALL, '--data-dir', str(data), '--output', str(output), '--experiment', name, *flags])
    return torch.load(output / name / 'last.pth.tar', weights_only=False)


def test_a_run_that_is_stopped_and_resumed_ends_with_the_same_weights(data, tmp_path, capsys):
    whole = run(data, tmp_path, 'whole', '--gradaug', '--epochs', '2')
    run(data, tmp_path, 'parts', '--gradaug', '--epochs', '2', '--stop-epoch', '1')
    parts = run(data, tmp_path, 'parts', '--gradaug', '--epochs', '2', '--resume', 'auto')
    assert all(torch.equal(value, parts['state_dict'][name]) for name, value in whole['state_dict'].items())
    rows, entries = read_summary(tmp_path / 'whole'), read_log(tmp_path / 'whole')
    assert len(rows) == 2
    epochs = [entry for entry in entries if 'epoch' in entry]
    assert [{name: entry[name] for name in row} for entry, row in zip(epochs, rows)] == [
        {name: float(value) for name, value in row.items()} for row in rows]
    assert {f'step/{name[6:]}' for name in rows[0] if name.startswith('train_loss')} <= set(entries[0])
    assert [entry['step'] for entry in read_log(tmp_path / 'parts')] == [entry['step'] for entry in entries]
    assert float(rows[0]['train_loss_subnet_0']) > 0
    assert {f'eval_{kind}_{name}' for kind in ('box', 'mask') for name in coco_metrics.FIGURES} <= set(rows[0])
    with pytest.raises(SystemExit):
        run(data, tmp_path, 'parts', '--gradaug', '--epochs', '3', '--resume', 'auto',
            '--gradaug-targets', 'predictions')
    assert '--gradaug-targets predictions: the checkpoint' in capsys.readouterr().err


def test_batches_of_like_shape_go_on_within_an_epoch(tmp_path):
    make_coco(tmp_path, images=6, upright=2)
    make_coco(tmp_path, images=1, split='val2017', seed=1)
    boxes = '--epochs', '2', '--detector', 'faster_rcnn'
    flags = *boxes, '--checkpoint-steps', '1', '--resume', 'auto', '--checkpoint-hist', '1'
    with at_batch(5, out_of_memory) as batches, pytest.raises(MemoryError):
        run(tmp_path, tmp_path, 'parts', *flags)
    shapes = [[image.shape[1] > image.shape[2] for image in images] for images, _ in batches]
    parts, whole = run(tmp_path, tmp_path, 'parts', *flags), run(tmp_path, tmp_path, 'whole', *boxes)
    assert all(torch.equal(value, parts['state_dict'][name]) for name, value in whole['state_dict'].items())
    assert sorted(shapes[:3]) == [[False, False], [False, False], [True, True]]


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):
    """Return the folder of a run of one epoch on boxes."""
    output = tmp_path_factory.mktemp('trained')
    run(data, output, 'boxes', '--detector', 'faster_rcnn', '--epochs', '1', '--model-ema')
    return output / 'boxes'


def test_validation_writes_twelve_figures_of_boxes_and_pictures(data, trained, tmp_path):
    figures = validate.main([
        str(trained / 'last.pth.tar'), '--data-dir', str(data), '--workers', '0', '--score', '0',
        '--results-file', str(tmp_path / 'figures.json'), '--pictures', str(tmp_path / 'pictures'),
        '--picture-images', '2'])
    written = json.loads((tmp_path / 'figures.json').read_text())
    assert {name: written[name] for name in figures} == figures
    assert set(written['box_ap_by_category']) == {'colour 3', 'colour 7'}
    assert set(figures) == {f'box_{name}' for name in coco_metrics.FIGURES}
    assert sorted(path.name for path in (tmp_path / 'pictures').iterdir()) == ['10.png', '11.png']
    with open(trained / 'summary.csv') as file:
        row = next(csv.DictReader(file))
    assert float(row['eval_box_ar100']) == pytest.approx(figures['box_ar100'])


def test_figures_are_those_of_pycocotools(data, tmp_path):
    coco = pytest.importorskip('pycocotools.coco', reason='needs pycocotools')
    from pycocotools.cocoeval import COCOeval
    path = data / 'annotations' / 'instances_train2017.json'
    truth = json.loads(path.read_text())
    generator = torch.Generator().manual_seed(0)
    outputs, ids = [], [entry['id'] for entry in truth['images']]
    for image_id in ids:
        objects = [entry for entry in truth['annotations'] if entry['image_id'] == image_id]
        boxes = torch.tensor([entry['bbox'] for entry in objects for _ in range(3)], dtype=torch.float32)
        boxes = (boxes + 6 * torch.randn(boxes.shape, generator=generator)).clamp(min=1).round()
        boxes[:, 2:] += boxes[:, :2]
        masks = torch.zeros(len(boxes), 1, 96, 112)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
            mask[:, y1:y2, x1:x2] = 0.9
        outputs.append({'boxes': boxes, 'labels': torch.tensor([1, 1, 2, 2, 2, 1]), 'masks': masks,
                        'scores': torch.rand(len(boxes), generator=generator)})
    own = read_coco(str(data), 'train2017', masks=True)
    results = coco_metrics.as_results(outputs, range(len(ids)))
    evaluation = coco_metrics.coco_figures(truth_of(own, range(len(ids))), results, ('box', 'mask'))
    ours, results = evaluation.figures, json.loads(json.dumps(results_of(own, results)))
    reference = coco.COCO(str(path))
    for kind, iou_type in coco_metrics.KINDS.items():
        found = [{k: v for k, v in entry.items() if kind == 'box' or k != 'bbox'} for entry in results]
        theirs = COCOeval(reference, reference.loadRes(found), iou_type)
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
        expected = [100 * value if value >= 0 else -1 for value in theirs.stats]
        by_category = 100 * theirs.eval['precision'][:, :, :, 0, -1].mean(axis=(0, 1))
        assert evaluation.by_label[kind] == pytest.approx(by_category.tolist())
        assert [ours[f'{kind}_{name}'] for name in coco_metrics.FIGURES] == pytest.approx(expected)
        assert 0 < ours[f'{kind}_ap'] < 100


def test_the_backbone_begins_with_the_weights_of_a_classifier(data, tmp_path):
    import timm
    classifier = timm.create_model('resnet10t', num_classes=5)
    path = tmp_path / 'last.pth.tar'
    torch.save({'state_dict': classifier.state_dict()}, path)
    args, _ = parse_arguments(
        train.build_parser(), [*SMALL, '--data-dir', str(data), '--checkpoint', str(tmp_path)])
    args = replace(args, num_classes=2)
    body = train.build_detector(args).backbone.pyramid.body
    expected = classifier.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in body.state_dict().items())
    assert args.freeze_stages == 1 and args.freeze_statistics


@pytest.mark.parametrize('flags, message', [
    (['--model', 'resnet10'], 'resnet10'),
    (['--anchor-sizes', '8', '16'], '--anchor-sizes must have 5 numbers, not 2'),
    (['--min-size', '100'], '--min-size 100 must be at most --max-size 96'),
    (['--channels-last'], '--channels-last is not supported in detection: images have different sizes'),
    (['--batch-size', '5'], '--batch-size 5 must be at most the images with objects of a process, 4'),
    (['--eval-metric', 'top1'], '--eval-metric top1 must be one of box_ap'),
    (['--data-dir', 'gone'], '--data-dir gone is not a folder; give the folder of a data set'),
    (['--train-split', 'test'], '; the splits there are train2017, val2017'),
    (['other'], 'the folder of the data is given twice: other and --data-dir'),
    (['--checkpoint', 'gone.pth'], '--checkpoint gone.pth does not exist'),
    (['--detector-kwargs', 'box_score_tresh=3'], 'did you mean box_score_thresh?'),
    (['--model-kwargs', 'in_chans=1'], '--model-kwargs in_chans=1 is not supported in detection: all images are'),
    (['--minsize', '3'], 'unknown flag --minsize, did you mean --min-size?'),
])
def test_wrong_flags_end_in_one_line(data, tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit) as raised:
        run(data, tmp_path, 'wrong', *flags)
    lines = capsys.readouterr().err.strip().splitlines()
    assert raised.value.code == 2
    assert message in lines[-1]
    assert not (tmp_path / 'wrong').exists()


@pytest.mark.parametrize('path, message', [
    ('x.pth', 'is not a checkpoint of gradaug_timm.detection.train'),
    ('.', 'is a folder; give a file'),
    ('gone', 'gone does not exist'),
])
def test_what_is_no_detector_is_refused_in_validation(data, tmp_path, capsys, path, message):
    torch.save({'state_dict': {}}, tmp_path / 'x.pth')
    with pytest.raises(SystemExit):
        validate.main([str(tmp_path / path), '--data-dir', str(data)])
    assert message in capsys.readouterr().err


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.slow
def test_an_epoch_is_kept_when_its_validation_fails_and_resuming_validates_it(data, tmp_path, monkeypatch, capsys):
    def fails(*args, **kwargs):
        raise TypeError('of an evaluator')
    run(data, tmp_path, 'whole', '--detector', 'faster_rcnn', '--epochs', '2')
    with monkeypatch.context() as patched, pytest.raises(TypeError):
        patched.setattr(evaluate, 'coco_figures', fails)
        run(data, tmp_path, 'parts', '--detector', 'faster_rcnn', '--epochs', '2')
    train.main([*SMALL, '--data-dir', str(data), '--output', str(tmp_path), '--experiment', 'parts', '--detector',
                'faster_rcnn', '--epochs', '2', '--resume', 'auto', '--dry-run'])
    assert re.search(r'starts at +epoch 0, batch 2 of ', capsys.readouterr().out)
    parts = run(data, tmp_path, 'parts', '--detector', 'faster_rcnn', '--epochs', '2', '--resume', 'auto')
    whole = torch.load(tmp_path / 'whole' / 'last.pth.tar', weights_only=False)
    assert all(torch.equal(value, parts['state_dict'][name]) for name, value in whole['state_dict'].items())
    ours, expected = read_summary(tmp_path / 'parts'), read_summary(tmp_path / 'whole')
    assert [{**row, 'train_seconds': ''} for row in ours] == [{**row, 'train_seconds': ''} for row in expected]


def test_what_cannot_be_read_or_has_no_area_is_named_and_the_epoch_kept(tmp_path, caplog, capsys):
    _, path = make_coco(tmp_path)
    make_coco(tmp_path, images=3, split='val2017', seed=1)
    change(path, lambda c: c['annotations'][0].update(bbox=[1, 2, 0, 5]))
    for path in (tmp_path / 'train2017' / '12.png', tmp_path / 'val2017' / '11.png'):
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SystemExit) as raised:
        run(tmp_path, tmp_path, 'strict', '--detector', 'faster_rcnn', '--strict-annotations')
    assert raised.value.code == 2 and 'annotation 1 has a box of no area: [1, 2, 0, 5]' in capsys.readouterr().err
    run(tmp_path, tmp_path, 'x', '--detector', 'faster_rcnn', '--epochs', '1')
    assert '1 boxes without area are left out (annotation 1)' in caplog.text
    assert '1 of 3 images of ' in caplog.text and 'left out of the figures: 11.png' in caplog.text
    assert re.search(r'train2017/12\.png can\'t be read \(OSError: .*truncated', caplog.text)
    assert 'Epoch 0: 1 images could not be read and were replaced' in caplog.text
    trained = read_summary(tmp_path / 'x')[0]
    checkpoint = str(tmp_path / 'x' / 'last.pth.tar')
    figures = validate.main([checkpoint, '--data-dir', str(tmp_path), '--workers', '0', '--pictures',
                             str(tmp_path / 'found'), '--score', '1', '--results-file', str(tmp_path / 'f.json')])
    printed = capsys.readouterr().out
    assert f'{checkpoint} on {tmp_path}/annotations/instances_val2017.json, 2 images:' in printed
    assert '2 of 2 pictures show no detection, because none has a score of at least --score 1' in printed
    assert json.loads((tmp_path / 'f.json').read_text())['unreadable_images'] == ['11.png']
    assert figures['box_ap'] == pytest.approx(float(trained['eval_box_ap']))
    change(tmp_path / 'annotations' / 'instances_val2017.json', lambda c: (
        c['images'].pop(1), c.update(annotations=[a for a in c['annotations'] if a['image_id'] != 11])))
    assert validate.main([checkpoint, '--data-dir', str(tmp_path), '--workers', '0']) == figures


def test_a_detector_is_validated_by_the_names_of_its_categories(data, trained, tmp_path, capsys):
    checkpoint, others = str(trained), tmp_path / 'others'
    make_coco(others, split='val2017', seed=1)
    expected = validate.main([checkpoint, '--data-dir', str(data), '--workers', '0'])
    path = others / 'annotations' / 'instances_val2017.json'
    change(path, lambda c: (c.update(categories=[{'id': 1, 'name': 'colour 7'}, {'id': 2, 'name': 'colour 3'}]),
                            [a.update(category_id={7: 1, 3: 2}[a['category_id']]) for a in c['annotations']]))
    capsys.readouterr()
    found = tmp_path / 'found.json'
    assert validate.main([checkpoint, '--data-dir', str(others), '--workers', '0', '--results-file',
                          str(tmp_path / 'f.csv'), '--predictions-file', str(found)]) == expected
    assert re.search(r'category +objects +box AP\ncolour 3 +4 +\S+\ncolour 7 +4 +\S+', capsys.readouterr().out)
    assert 'box_ap_by_category/colour 7' in (tmp_path / 'f.csv').read_text()
    assert {entry['category_id'] for entry in json.loads(found.read_text())} <= {1, 2}
    change(path, lambda c: c['categories'][0].update(name='colour seven'))
    with pytest.raises(SystemExit):
        validate.main([checkpoint, '--data-dir', str(others), '--workers', '0'])
    assert 'categories that are not trained: colour seven' in capsys.readouterr().err
