"""A network that tells classes apart, as an estimator of scikit-learn.

>>> import numpy as np
>>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), ["low", "low", "high", "high"]
>>> classifier = Classifier((8,), learning_rate_init=0.05, random_state=0).fit(X, y)
>>> [str(label) for label in classifier.predict([[0.5], [2.5]])]
['low', 'high']
"""

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


class Classifier(ClassifierMixin, Estimator):
    """A network for classes: two or more, of any type; or for several labels of each example.

    Labels `[n, marks]` of zeros and ones are independent of each other: each has a probability.

    Parameters have the names of scikit-learn's `MLPClassifier` where they mean the same. What it
    has not: `network`, `optimizer`, `dropout` and `class_weight`.

    Args:
      hidden_layer_sizes: the number of nodes of each hidden layer.
      activation: of the hidden nodes: `relu`, `tanh`, `logistic`, `identity`, `gelu`, `silu`, or
        a function of jax.
      network: a `Network` instead of these layers, or `(n_features, n_outputs) -> Network`.
      optimizer: `adam`, `sgd` (Nesterov's momentum of 0.9), `lion`, `rmsprop`, a function
        `learning_rate -> optax.GradientTransformation`, or such a transformation, which has its own
        learning rate.
      learning_rate_init: the learning rate.
      alpha: the strength of the L2 penalty on weights, divided by the examples of a batch.
      dropout: the rate of dropout after every hidden layer.
      batch_size: examples in a batch; `"auto"` is 200, or all if there are fewer.
      max_iter: the most epochs.
      tol: by how much the loss, or the validation score, must improve.
      n_iter_no_change: epochs without an improvement after which training stops; `None` for never.
      early_stopping: whether the score on held-out examples decides when to stop, and which epoch's
        parameters are the fitted ones.
      validation_fraction: the share of examples that early stopping holds out.
      warm_start: whether `fit` begins with the parameters of the last fit.
      random_state: an int for the same bits at each fit, a `RandomState`, or `None`.
      verbose: whether to print the loss of each epoch.
      class_weight: `"balanced"`, or a dict of the weight of each class; of labels `[n, marks]` a
        list of such, the product of which is the weight of an example.

    Attributes:
      classes_: the labels, in order; of labels `[n, marks]` the numbers of the columns.
      n_features_in_: the number of features; `feature_names_in_` are their names, if they have any.
      n_outputs_: the outputs of the network.
      n_iter_: the epochs that were trained.
      loss_curve_: the mean training loss of each epoch; `loss_` is the last of them.
      validation_scores_: the accuracy on held-out examples after each epoch, for early stopping;
        `best_validation_score_` is the best.
      params_: the fitted parameters; `network_` and `learner_` are what they belong to.
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        network: Any = None,
        optimizer: Any = "adam",
        learning_rate_init: Any = 1e-3,
        alpha: Any = 1e-4,
        dropout: Any = 0.0,
        batch_size: Any = "auto",
        max_iter: Any = 200,
        tol: Any = 1e-4,
        n_iter_no_change: Any = 10,
        early_stopping: Any = False,
        validation_fraction: Any = 0.1,
        warm_start: Any = False,
        random_state: Any = None,
        verbose: Any = False,
        class_weight: Any = None,
    ):
        super().__init__(
            hidden_layer_sizes,
            activation,
            network=network,
            optimizer=optimizer,
            learning_rate_init=learning_rate_init,
            alpha=alpha,
            dropout=dropout,
            batch_size=batch_size,
            max_iter=max_iter,
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            warm_start=warm_start,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """Trains for one epoch on these examples, and resumes where the last call ended.

        Args:
          X: the features, `[n, features]`.
          y: the labels.
          classes: all labels that there will ever be; needed by the first call only.
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
        """Returns the most probable label of each example; of marks, zeros and ones."""
        outputs = self._outputs(X)
        return (outputs > 0).astype(int) if self._has_marks else self.classes_[outputs.argmax(-1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Returns the probability of each class, `[n, classes]`, in the order of `classes_`."""
        outputs = self._outputs(X)
        return expit(outputs) if self._has_marks else softmax(outputs, -1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Returns the logarithms of the probabilities."""
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
