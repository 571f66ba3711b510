"""What is exported is for other people: it holds no path of this machine, and tells what several labels need."""
import json
import zipfile

import pytest
import timm
import torch
from export_helpers import save_weights
from safetensors.torch import save_file
from train_helpers import make_image_folder, train

from gradaug_timm import open_trained
from gradaug_timm.export.main import main
from gradaug_timm.extraction.main import main as extract
from gradaug_timm.training.checkpoints.public import public_dataset, without_paths
from gradaug_timm.training.checkpoints.weights import recipe

SECRET = '/home/me/secret'


def export(folder, recipe: dict, gradaug: dict | None = None) -> dict[str, str]:
    """Export weights with such metadata to a folder; return the texts by file."""
    state = torch.load(save_weights(folder / 'weights.pth'))
    save_file(state, folder / 'run.safetensors', {'recipe': json.dumps(recipe), 'gradaug': json.dumps(gradaug)})
    main([str(folder / 'run.safetensors'), '-m', 'test_resnet', '--num-classes', '5', '--to', str(folder / 'net')])
    return {name: (folder / 'net' / name).read_text(errors='replace')
            for name in ('README.md', 'config.json', 'model.safetensors')}


@pytest.mark.parametrize(('dataset', 'public'), [
    ('', 'a folder of images'), ('torch/cifar100', 'torch/cifar100'), ('hfds/uoft-cs/cifar10', 'hfds/uoft-cs/cifar10'),
    (f'hfds/{SECRET}', 'hfds, local files'), (f'wds/{SECRET}/train', 'wds, local files'),
    ('hfids/~/secret', 'hfids, local files'), ('hfds/../secret', 'hfds, local files'),
    (r'hfds/C:\secret', 'hfds, local files'), ('tfds/a/secret/folder', 'tfds, local files'), (SECRET, 'local files'),
])
def test_a_data_set_is_named_but_not_its_path(dataset, public):
    assert recipe({'dataset': dataset, 'epochs': 3}).get('dataset', 'a folder of images') == public
    assert public_dataset(public) == public


def test_card_and_metadata_hold_no_path_though_an_older_run_stored_one(tmp_path):
    files = export(tmp_path, {'dataset': f'hfds/{SECRET}', 'epochs': 3})
    assert '- data: hfds, local files\n' in files['README.md'] and 'epochs 3' in files['README.md']
    assert not any('secret' in text or str(tmp_path) in text for text in files.values())


def test_a_relative_folder_that_exists_is_a_path_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'my' / 'cats').mkdir(parents=True)
    assert public_dataset('hfds/my/cats') == 'hfds, local files'
    assert public_dataset('hfds/my/dogs') == 'hfds/my/dogs'


def test_paths_are_left_out_of_every_setting_and_of_the_weights_of_a_run(tmp_path):
    transforms = {'paste': {'files': [f'{SECRET}/a.png'], 'share': 0.5}}
    files = export(tmp_path, {'train_split': f'{SECRET}/shard-{{000..010}}.tar'}, {'transforms': transforms})
    card = files['README.md']
    assert 'secret' not in card and 'share' in card
    told = recipe({'dataset': f'wds/{SECRET}', 'val_split': f'file:{SECRET}/x.tar', 'train_split': 'train[:80%]',
                   'aa': 'rand-m9-mstd0.5-inc1', 'lr': 0.1})
    assert told == {'dataset': 'wds, local files', 'val_split': 'local files', 'train_split': 'train[:80%]',
                    'aa': 'rand-m9-mstd0.5-inc1', 'lr': 0.1}
    plain = {'a': ('x/y', 1, None, 2.5), 'b': 'train-{0000..0019}.tar', 'c': 'bce', 'd': True}
    assert without_paths(plain) == plain


def test_a_network_of_several_labels_says_so(tmp_path):
    files = export(tmp_path, {'task': 'multilabel', 'epochs': 1})
    assert json.loads(files['config.json'])['problem_type'] == 'multi_label_classification'
    assert '- labels: an image may have several: apply a sigmoid to each output' in files['README.md']


def test_a_network_of_one_label_is_described_as_before(tmp_path):
    files = export(tmp_path, {'task': 'classification', 'epochs': 1})
    assert 'problem_type' not in json.loads(files['config.json'])
    assert 'sigmoid' not in files['README.md'] and 'task' not in files['README.md']


@pytest.mark.slow
def test_the_pipeline_of_transformers_applies_a_sigmoid_to_several_labels(tmp_path):
    transformers = pytest.importorskip('transformers')
    from PIL import Image
    scores = {}
    for task in ('multilabel', 'classification'):
        (tmp_path / task).mkdir()
        export(tmp_path / task, {'task': task})
        pipeline = transformers.pipeline('image-classification', model=str(tmp_path / task / 'net'))
        logits = pipeline.model(**pipeline.image_processor(Image.new('RGB', (160, 160), 'red'))).logits[0].detach()
        found = pipeline(Image.new('RGB', (160, 160), 'red'), top_k=5)
        scores[task] = torch.tensor(sorted(one['score'] for one in found)), logits
    found, logits = scores['multilabel']
    torch.testing.assert_close(found, logits.sigmoid().sort().values)
    found, logits = scores['classification']
    torch.testing.assert_close(found, logits.softmax(0).sort().values)


def contents(path) -> list[bytes]:
    """A file, and what it holds if it is an archive."""
    if not zipfile.is_zipfile(path):
        return [path.read_bytes()]
    with zipfile.ZipFile(path) as archive:
        return [path.read_bytes(), *map(archive.read, archive.namelist())]


@pytest.mark.parametrize('network', ['named', pytest.param('of a folder', marks=pytest.mark.slow)])
def test_no_file_for_others_names_a_folder_though_every_setting_of_the_run_does(network, tmp_path):
    home = tmp_path / 'confidential'
    data = make_image_folder(home / 'data')
    (home / 'classes.txt').write_text('b\na\n')
    first = train(data, home / 'first', mean=[0.3, 0.4, 0.5], crop_pct=0.8)
    if network == 'named':
        flags = dict(model_kwargs=['depth=8', f'cache_dir={home}'], pretrained=True,
                     pretrained_path=first / 'model_best.safetensors')
    else:
        main([str(first / 'last.pth.tar'), '--to', str(home / 'net')])
        flags = dict(model=f'local-dir:{home}/net', model_kwargs=None, pretrained=True)
    torch.save(timm.create_model('resnet20_cifar', num_classes=2).state_dict(), home / 'teacher.pth')
    run = train(
        data, home / 'runs', class_map=home / 'classes.txt', kd_model_name='resnet20_cifar',
        kd_checkpoint=home / 'teacher.pth', confusion_matrix=home / 'confusion.json', **flags)
    files = [run / 'model_best.safetensors', tmp_path / 'small.safetensors', tmp_path / 'net.pt2']
    for source in (run / 'last.pth.tar', files[0]):
        more = ['--onnx', str(tmp_path / 'net.onnx')] if network == 'of a folder' else []
        main([str(source), '--to', str(tmp_path / 'net'), '--torch-export', str(files[2]), '--overwrite', *more])
        extract([str(source), '--width', '.5', '--output', str(files[1]), '--overwrite'])
        written = [*files, *(tmp_path / 'net').iterdir(), *tmp_path.glob('*.onnx')]
        assert len(written) == 6 + len(more) // 2
        assert not [path.name for path in written if any(b'confidential' in part for part in contents(path))]
    whole, best = open_trained(run / 'last.pth.tar'), open_trained(files[0])
    assert json.dumps(best.config) == json.dumps(whole.config)  # lists are as good as tuples
    images = torch.randn(2, *whole.config['input_size'])
    with torch.no_grad():
        assert torch.equal(best.network(images), whole.network(images))
