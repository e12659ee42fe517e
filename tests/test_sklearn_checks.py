"""scikit-learn's own checks of an estimator: a handful always, the rest when slow."""

from typing import Any

import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import estimator_checks_generator

import aljax

pytestmark = [
    pytest.mark.usefixtures("as_users_run_it"),
    # The checks fit a few rows, and warn of estimators that are not scikit-learn's.
    pytest.mark.filterwarnings("ignore"),
]
QUICK: Any = {"n_neighbors": 5, "n_epochs": 5, "n_shifts": 5}
# None: every check passes.  An exception would stand here with its reason.
EXCEPTIONS: dict[str, str] = {}
CHEAP = (
    *("check_estimator_cloneable", "check_estimator_repr", "check_mixin_order"),
    *("check_no_attributes_set_in_init", "check_parameters_default_constructible"),
    *("check_get_params_invariance", "check_set_params", "check_transformers_unfitted"),
    *("check_estimator_tags_renamed", "check_complex_data", "check_fit1d"),
    *("check_valid_tag_types", "check_estimators_empty_data_messages"),
    "check_do_not_raise_errors_in_init_or_set_params",
)
GENERATED: Any = estimator_checks_generator(aljax.UMAP(**QUICK), legacy=True)
CHECKS = [check for _, check in GENERATED]


def name_of(check: Any) -> str:
    return getattr(check, "func", check).__name__


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(
            check,
            marks=[] if name_of(check) in CHEAP else pytest.mark.slow,
            id=f"{name_of(check)}-{place}",
        )
        for place, check in enumerate(CHECKS)
    ],
)
def test_scikit_learns_check_passes(check):
    if name_of(check) in EXCEPTIONS:
        pytest.skip(EXCEPTIONS[name_of(check)])
    check(clone(aljax.UMAP(**QUICK)))


def test_the_handful_is_there():
    assert {*CHEAP} <= {name_of(check) for check in CHECKS}
