import gzip

import numpy as np
import pytest
from helpers import refused

from experiments.data.fashion import PARTS, fashion_mnist, name_classes, read_idx


def idx(array: np.ndarray) -> bytes:
    shape = np.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + shape + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    for start, part in enumerate(PARTS):
        images = np.arange(start, start + 3 * 28 * 28).reshape(3, 28, 28) % 251
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        packed = gzip.compress(idx(np.arange(3) + 3 * start))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(packed)
    return tmp_path


def test_four_files_plain_or_packed_become_rows_and_classes(folder):
    images, classes = fashion_mnist(folder)
    assert images.shape == (6, 784)
    assert images[0, :3].tolist() == [0, 1, 2]
    assert images[3, :3].tolist() == [1, 2, 3]
    assert classes.tolist() == [0, 1, 2, 3, 4, 5]


def test_missing_files_are_said_with_both_ways_to_get_them(tmp_path):
    with refused("data.folder", "apt-get install", "`data.folder`"):
        fashion_mnist(tmp_path)


def test_files_of_other_shapes_are_refused(folder):
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(idx(np.zeros((2, 28, 28))))
    with refused("data.folder", "the train files", "(2, 28, 28)"):
        fashion_mnist(folder)


@pytest.mark.parametrize("kept", range(0, 28, 3))
def test_a_file_cut_anywhere_is_refused(tmp_path, kept):
    path = tmp_path / "cut"
    path.write_bytes(idx(np.arange(12).reshape(3, 4) + 1)[:-1][:kept])
    with refused("data.folder", str(path)):
        read_idx(path)
    packed = tmp_path / "cut.gz"
    packed.write_bytes(gzip.compress(idx(np.ones(30)))[:kept])
    with refused("data.folder", str(packed)):
        read_idx(packed)


def test_a_declared_size_over_the_bound_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(bytes([0, 0, 8, 2]) + np.array([2**31, 2**31], ">u4").tobytes())
    with refused("data.folder", f"({2**31}, {2**31})", f"at most {2**28} bytes"):
        read_idx(path)


def test_what_follows_the_array_is_refused(tmp_path):
    path = tmp_path / "long"
    path.write_bytes(idx(np.ones(4)) + b"x")
    with refused("data.folder", "4 bytes", "holds more"):
        read_idx(path)


def test_classes_have_names_where_the_images_are_known_to_be_clothes(folder):
    classes = fashion_mnist(folder)[1]
    assert name_classes(classes, None)[:2].tolist() == ["T-shirt/top", "Trouser"]
    assert name_classes(classes, folder) is classes
