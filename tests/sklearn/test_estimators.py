"""The estimators keep scikit-learn's contract, by its own checks."""

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxnn.sklearn import Classifier, Regressor

QUICK = {"learning_rate_init": 0.02, "max_iter": 30}
# In float32, sums over weighted and over repeated examples differ by rounding, and the check asks
# for 1e-7; `test_weights_are_repetitions` holds them to what float32 can do.
ROUNDING = {"check_sample_weight_equivalence_on_dense_data": "float32"}


@pytest.mark.slow  # each of a hundred checks compiles
@parametrize_with_checks(
    [Classifier((16,), **QUICK), Regressor((16,), **QUICK)],
    expected_failed_checks=lambda estimator: ROUNDING,
)
def test_the_checks_of_scikit_learn_pass(estimator, check):
    check(estimator)
