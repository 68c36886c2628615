"""A neural network classifier with the interface of scikit-learn.

>>> import numpy as np
>>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), ["low", "low", "high", "high"]
>>> classifier = Classifier((8,), learning_rate_init=0.05, random_state=0).fit(X, y)
>>> [str(label) for label in classifier.predict([[0.5], [2.5]])]
['low', 'high']
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from jaxnn.checks import InvalidValue
from jaxnn.sklearn.estimator import Estimator
from jaxnn.typing import Any


@dataclass(eq=False, repr=False, kw_only=True)
class Classifier(ClassifierMixin, Estimator):
    """A network that classifies examples into two or more classes, or predicts several labels.

    Multi-label targets are arrays `[n, labels]` of zeros and ones. The network predicts each label
    independently, with a probability of its own.

    Parameters have the names of scikit-learn's `MLPClassifier` where they mean the same.
    `network`, `optimizer`, `dropout` and `class_weight` are additions.

    Args:
      hidden_layer_sizes: the number of nodes in each hidden layer.
      activation: the activation of hidden nodes: `relu`, `tanh`, `logistic`, `identity`, `gelu`,
        `silu`, or a JAX function.
      network: a `Network` to use instead of these layers, or `(n_features, n_outputs) -> Network`.
      optimizer: `adam`, `sgd` (with a Nesterov momentum of 0.9), `lion`, `rmsprop`, a function
        `learning_rate -> optax.GradientTransformation`, or an `optax.GradientTransformation`, which
        has its own learning rate.
      learning_rate_init: the learning rate.
      alpha: the strength of the L2 penalty on weights, which is divided by the batch size.
      dropout: the dropout rate after each hidden layer; unused with a `network`.
      batch_size: the number of examples in a batch; `"auto"` is 200, or all if there are fewer.
      max_iter: the maximum number of epochs.
      tol: the smallest change of the loss, or validation score, that counts as an improvement.
      n_iter_no_change: the number of epochs without improvement after which training stops, or
        `None` to train for all epochs.
      early_stopping: whether to hold out examples, whose score then decides when to stop and which
        epoch's parameters to return.
      validation_fraction: the fraction of examples to hold out for early stopping.
      warm_start: whether `fit` starts from the parameters of the previous fit.
      random_state: an int for identical results in each fit, a `RandomState`, or `None`.
      verbose: whether to print the metrics of each epoch.
      class_weight: `"balanced"`, or a dict from class to weight. For multi-label targets, a list of
        dicts, one per label; the weight of an example is the product over labels.

    Attributes:
      classes_: the sorted class labels; for multi-label targets, the column numbers.
      n_features_in_: the number of features; `feature_names_in_` are their names, if they have any.
      n_outputs_: the number of outputs of the network.
      n_iter_: the number of epochs trained.
      loss_curve_: the mean training loss of each epoch; `loss_` is the last value.
      validation_scores_: with early stopping, the score on held-out examples after each epoch;
        `best_validation_score_` is the highest.
      params_: the fitted parameters, of the network `network_` and the learner `learner_`.
    """

    class_weight: Any = None

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """Trains for one epoch on the given examples, from the state of the previous call.

        Args:
          X: the features, `[n, features]`.
          y: the labels, `[n]` or `[n, labels]`.
          classes: all labels that any call will pass; only required in the first call.
          sample_weight: the weight of each example in the loss.
        """
        if not hasattr(self, "classes_"):
            if classes is None:
                raise InvalidValue(
                    "Classifier",
                    "the first call of partial_fit must know all classes",
                    got="classes=None",
                    expected="every label that will ever come",
                    fix="Pass classes=numpy.unique(all_labels)",
                )
            self.classes_ = np.unique(classes)
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: Any) -> np.ndarray:
        """Returns the most probable class of each example, or zeros and ones for multi-label."""
        outputs = self._outputs(X)
        return (outputs > 0).astype(int) if self._has_marks else self.classes_[outputs.argmax(-1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Returns the probability of each class, `[n, classes]`, in the order of `classes_`."""
        outputs = self._outputs(X)
        return expit(outputs) if self._has_marks else softmax(outputs, -1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Returns the logarithm of each probability, `[n, classes]`."""
        return np.log(self.predict_proba(X))

    @property
    def _has_marks(self) -> bool:
        return self._settings.task == "multi_label"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _targets(self, y, weights, known):
        check_classification_targets(y)
        if type_of_target(y) == "multilabel-indicator":
            return self._marks(y, weights, known)
        y = column_or_1d(y, warn=True)
        if known:
            self._check_labels(y)
        else:
            self.classes_ = np.unique(y)
        labels = np.searchsorted(self.classes_, y).astype(np.int32)
        return labels, self._weights(y, weights), "classification", len(self.classes_)

    def _marks(self, y, weights, known):
        marks = np.asarray(y.toarray() if issparse(y) else y, np.float32)
        columns = np.arange(marks.shape[1])
        if not known:
            self.classes_ = columns
        elif len(self.classes_) != len(columns):
            raise InvalidValue(
                "Classifier",
                "there are other marks than before",
                got=f"y with {len(columns)} columns",
                expected=f"a column for each of the {len(self.classes_)} classes",
                fix="Pass the labels as those of the first call were",
            )
        return marks, self._weights(marks, weights), "multi_label", len(columns)

    def _weights(self, y: np.ndarray, weights: Any) -> Any:
        if self.class_weight is None:
            return weights
        balance = compute_sample_weight(self.class_weight, y)
        return balance if weights is None else weights * balance

    def _check_labels(self, y: np.ndarray) -> None:
        unknown = np.setdiff1d(y, self.classes_)
        if unknown.size:
            raise InvalidValue(
                "Classifier",
                "there are labels of no known class",
                got=f"y with {unknown[0]!r}",
                expected=f"those of classes_: {', '.join(map(str, self.classes_[:10]))}",
                fix="Pass all classes to the first call of partial_fit, or call fit",
            )
