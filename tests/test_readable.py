"""Training skips and counts unreadable images, and ends with an error if no image can be read."""
import logging
import multiprocessing

import pytest
from PIL import Image
from test_health import failure
from test_resuming import RECIPE, assert_equal_runs
from train_helpers import arguments, at_batch, error_line, make_image_folder, train

from gradaug_timm.files import read_checkpoint

BROKEN = {
    'text': lambda path: path.write_text('no image'),
    'empty': lambda path: path.write_bytes(b''),
    'truncated': lambda path: path.write_bytes(path.read_bytes()[:60]),
    'bomb': lambda path: Image.new('RGB', (64, 64)).save(path),  # more than the limit below
}


@pytest.mark.parametrize('workers', [0, 2])
def test_images_that_cannot_be_read_are_skipped_and_counted(tmp_path, caplog, monkeypatch, workers):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    data = make_image_folder(tmp_path / 'data', images=6)
    for index, spoil in enumerate(BROKEN.values()):
        spoil(data / 'train' / 'a' / f'{index}.png')
    with caplog.at_level(logging.WARNING):
        train(data, tmp_path, batch_size=4, workers=workers, epochs=2)
    counted = [text for text in caplog.messages if 'images could not be read' in text]
    assert counted == [f'Epoch {epoch}: 4 images could not be read and were replaced by others.' for epoch in (0, 1)]


def test_a_folder_whose_images_are_all_broken_is_named_before_training(tmp_path, capsys):
    data = make_image_folder(tmp_path / 'data', images=30)
    for path in (data / 'train').rglob('*.png'):
        path.write_text('no image')
    line = error_line(capsys, arguments(data, tmp_path, experiment='run'))
    assert 'images in a row can\'t be read' in line and str(data / 'train') in line


def test_a_run_whose_worker_dies_is_saved_and_goes_on_equal(tmp_path, capsys):
    data = make_image_folder(tmp_path / 'data', images=12)
    recipe = {**RECIPE, 'workers': 1, 'experiment': 'run', 'resume': 'auto'}
    whole = train(data, tmp_path / 'whole', **recipe)

    def kill_workers(*_):
        workers = multiprocessing.active_children()
        assert len(workers) == 1
        workers[0].kill()
        workers[0].join()
    with at_batch(3, kill_workers):
        line = failure(capsys, arguments(data, tmp_path / 'parts', **recipe))
    assert 'reading training images failed: DataLoader worker (pid' in line
    position = read_checkpoint(tmp_path / 'parts' / 'run' / 'last.pth.tar')['position']
    assert position['epoch'] == 0 and position['batch'] >= 3
    assert_equal_runs(train(data, tmp_path / 'parts', **recipe), whole)
