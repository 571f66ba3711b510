"""Photos of an annotation file: turned, grey, of another size than their annotations say, or unreadable."""
import numpy as np
import pytest
from coco_helpers import SIZE, make_coco
from PIL import Image
from test_detection_annotations import found_kinds, targets

pytest.importorskip('faster_coco_eval', reason='needs the extra detection')

from gradaug_timm.detection.coco import CocoImages, read_coco


def turn(path, orientation):
    """Store an image as a camera does that is held otherwise: pixels turned back, and the turn in its EXIF."""
    back = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270}[orientation]
    exif = Image.Exif()
    exif[0x112] = orientation
    image = Image.open(path)
    image.load()
    image.transpose(back).save(path, exif=exif)


@pytest.mark.parametrize('orientation', range(2, 9))
def test_a_photo_is_turned_by_its_exif_rotation_where_the_annotations_are_of_the_turned_photo(tmp_path, orientation):
    make_coco(tmp_path, images=2)
    plain = [image for image, _ in CocoImages(read_coco(str(tmp_path), 'train2017', masks=True), masks=True)]
    turn(tmp_path / 'train2017' / '10.png', orientation)
    coco = read_coco(str(tmp_path), 'train2017', masks=True)
    assert all(ours.equal(expected) for (ours, _), expected in zip(CocoImages(coco, masks=True), plain))
    assert found_kinds(coco) == {'undecided_turns' if orientation < 5 else 'turned_images': 1}


def test_a_photo_is_not_turned_where_the_annotations_are_of_the_stored_pixels(tmp_path):
    make_coco(tmp_path, images=1)
    path = tmp_path / 'train2017' / '10.png'
    exif = Image.Exif()
    exif[0x112] = 6
    stored = Image.open(path)
    stored.load()
    stored.save(path, exif=exif)
    coco = read_coco(str(tmp_path), 'train2017', masks=True)
    image, _ = CocoImages(coco, masks=True)[0]
    assert np.array_equal((image * 255).round().byte().permute(1, 2, 0), np.asarray(stored))
    assert not found_kinds(coco)


def test_a_rotation_in_xmp_is_read_like_exif_and_broken_exif_data_are_none(tmp_path):
    make_coco(tmp_path, images=2)
    first, second = (tmp_path / 'train2017' / name for name in ('10.png', '11.png'))
    image = Image.open(first).transpose(Image.Transpose.ROTATE_90)
    image.save(first, 'WEBP', lossless=True, xmp=b'<rdf:Description tiff:Orientation="6"/>')
    Image.open(second).save(second, 'WEBP', lossless=True, exif=b'Exif\0\0broken')
    coco = read_coco(str(tmp_path), 'train2017', masks=True)
    make_coco(tmp_path / 'plain', images=2)
    plain = CocoImages(read_coco(str(tmp_path / 'plain'), 'train2017', masks=True), masks=True)
    assert all(ours.equal(expected) for (ours, _), expected in zip(CocoImages(coco, masks=True), (
        image for image, _ in plain), strict=True))
    assert found_kinds(coco) == {'turned_images': 1}


def test_images_of_which_none_can_be_read_are_an_error_before_training(tmp_path):
    make_coco(tmp_path, images=2)
    for path in (tmp_path / 'train2017').iterdir():
        path.write_bytes(b'')
    with pytest.raises(ValueError, match=r'none of its images can be read, the first is 10\.png .UnidentifiedImageErr'):
        read_coco(str(tmp_path), 'train2017', masks=True)


def test_an_image_of_another_size_is_left_out_and_named(tmp_path):
    make_coco(tmp_path, images=3)
    path = tmp_path / 'train2017' / '11.png'
    Image.open(path).resize((50, 40)).save(path)
    coco = read_coco(str(tmp_path), 'train2017', masks=True)
    assert [target['image_id'].item() for target in targets(coco)] == [0, 2]
    assert coco.findings.kinds['size_mismatches'].examples == ['11.png']
    with pytest.raises(ValueError, match=r'11.png has 50 x 40 pixels, by its annotations 112 x 96'):
        read_coco(str(tmp_path), 'train2017', masks=True, strict=True)


def test_grey_images_of_16_bits_are_turned_and_not_clipped_to_white(tmp_path):
    make_coco(tmp_path, images=1)
    values = np.linspace(0, 65535, SIZE * (SIZE + 16)).astype(np.uint16).reshape(SIZE, SIZE + 16)
    Image.fromarray(values).save(tmp_path / 'train2017' / '10.png')
    image, _ = CocoImages(read_coco(str(tmp_path), 'train2017', masks=True), masks=True)[0]
    assert np.abs(image.numpy() - values / 65535).max() < 1 / 255
    turn(tmp_path / 'train2017' / '10.png', 6)
    turned, _ = CocoImages(read_coco(str(tmp_path), 'train2017', masks=True), masks=True)[0]
    assert turned.equal(image)
