"""The base class of the estimators: training on `X` and `y`, and predictions from the state.

An estimator is an adapter: `fit` calls `train` with a learner that estimators of equal settings
share, and `predict` calls `jaxnn.predict`. A fitted estimator holds the training state on the host,
so that it can be pickled.
"""

import math
from dataclasses import KW_ONLY, dataclass

import jax
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from jaxnn.checks import InvalidValue, number, positive, positive_integer, rate
from jaxnn.data import resident
from jaxnn.data._fields import to_float32
from jaxnn.driver import Watch
from jaxnn.learning import Learner
from jaxnn.learning._learner import ORDER, TrainState
from jaxnn.loop import predict, run
from jaxnn.loop.statuses import DIVERGED, RUNNING
from jaxnn.network import Network
from jaxnn.runs import NotFinite
from jaxnn.sklearn.outcome import BATCH, Outcome, Problem, digest_of, solve
from jaxnn.sklearn.population import outcome_of
from jaxnn.sklearn.settings import Settings
from jaxnn.typing import Any

_advance = jax.jit(run, static_argnums=0)
# The metric that early stopping watches for each task, R^2 for regression. `score` returns the same
# metric.
SCORES = {"classification": "accuracy", "multi_label": "exact_match"}


# scikit-learn reads the parameters from the signature of `__init__`, and compares by identity.
@dataclass(eq=False, repr=False)
class Estimator(BaseEstimator):
    """The base class of `Classifier` and `Regressor`, which document the parameters."""

    hidden_layer_sizes: Any = (100,)
    activation: Any = "relu"
    _: KW_ONLY
    network: Any = None
    optimizer: Any = "adam"
    learning_rate_init: Any = 1e-3
    alpha: Any = 1e-4
    dropout: Any = 0.0
    batch_size: Any = "auto"
    max_iter: Any = 200
    tol: Any = 1e-4
    n_iter_no_change: Any = 10
    early_stopping: Any = False
    validation_fraction: Any = 0.1
    warm_start: Any = False
    random_state: Any = None
    verbose: Any = False

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Trains on features and targets, and returns the estimator itself.

        Args:
          X: the features, `[n, features]`.
          y: the targets, `[n]` or `[n, targets]`.
          sample_weight: the weight of each example in the loss, `[n]`.
        """
        warm = self.warm_start and hasattr(self, "_state")
        problem = self._problem(X, y, sample_weight, first=not warm)
        if warm:
            self._check_settings("warm_start=True", problem)
            start = self._state.params, self._state.state
            outcome = solve(problem, start=start, verbose=bool(self.verbose))
        else:
            outcome = outcome_of(problem, verbose=bool(self.verbose))
        if outcome is not None:
            self._set_fitted(problem, outcome)
        return self

    @property
    def network_(self) -> Network:
        """The fitted network."""
        parts: Any = self.learner_.parts
        return parts.network(self._fitted().hparams)

    @property
    def learner_(self) -> Learner:
        """The fitted learner, for use with other functions of jaxnn."""
        self._fitted()
        return self._settings.learner()

    @property
    def params_(self) -> Any:
        """The fitted parameters, a nested dict of arrays."""
        return self._fitted().params

    def _fitted(self) -> TrainState:
        check_is_fitted(self)
        key = jax.random.wrap_key_data(self._state.key)
        return self._state._replace(key=key)

    def _outputs(self, X: Any) -> np.ndarray:
        """Returns the outputs of the network, `[n, outputs]`."""
        check_is_fitted(self)
        state = self._state._replace(opt_state={})  # avoids a slow transfer to the device
        X = to_float32(type(self).__name__, "X", validate_data(self, X, reset=False))
        filled = np.concatenate([X, np.zeros((-len(X) % BATCH, X.shape[1]), np.float32)])
        return predict(self._settings.learner(), state, filled, batch_size=BATCH)[: len(X)]

    # --- Fitting -----------------------------------------------------------------------------

    def _targets(self, y: Any, weights: Any, known: bool) -> tuple[np.ndarray, Any, Any, int]:
        """Returns labels and weights for the objective, the task, and the number of outputs.

        Args:
          y: the targets.
          weights: the weights of the examples, or `None`.
          known: whether the possible targets are known from an earlier call.
        """
        raise NotImplementedError

    def _problem(
        self, X: Any, y: Any, sample_weight: Any, *, first: bool, whole: bool = False
    ) -> Problem:
        """Checks the parameters and the data, and returns the `Problem` to train.

        Args:
          X: the features.
          y: the targets.
          sample_weight: the weight of each example, or `None`.
          first: whether this is the first fit, which sets the number and names of the features.
          whole: whether to train on all examples, with targets that are known already.
        """
        self._check_parameters()
        X, y = validate_data(self, X, y, reset=first, multi_output=True)
        X = to_float32(type(self).__name__, "X", X)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, X, dtype=np.float32, ensure_non_negative=True
            )
        labels, weights, task, outputs = self._targets(y, sample_weight, whole or not first)
        arrays = {"inputs": np.ascontiguousarray(X), "labels": labels}
        if weights is not None:
            arrays["weights"] = np.asarray(weights, np.float32)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        rows, validation = np.arange(len(X)), None
        if self.early_stopping and not whole:
            rows, validation = self._split(labels, seed)
        size = min(200 if self.batch_size == "auto" else self.batch_size, len(rows))
        hidden = np.ravel(self.hidden_layer_sizes).tolist()
        settings = Settings(
            network=self.network,
            hidden=tuple(hidden),
            activation=self.activation,
            has_dropout=self.network is None and self.dropout != 0,
            optimizer=self.optimizer,
            task=task,
            inputs=X.shape[1],
            outputs=outputs,
        )
        hparams = settings.hparams(
            # As in scikit-learn, the penalty is divided by the batch size.
            alpha=self.alpha / size,
            learning_rate=self.learning_rate_init,
            dropout=self.dropout,
        )
        score = SCORES.get(task, "r2")
        metric = "train/loss" if validation is None else f"validation/{score}"
        return Problem(
            settings=settings,
            arrays=arrays,
            rows=rows,
            validation=validation,
            batch_size=size,
            epoch=math.ceil(len(rows) / size),
            epochs=self.max_iter,
            watch=Watch(metric, patience=self.n_iter_no_change, margin=float(self.tol)),
            hparams=hparams,
            seed=seed,
            digest=digest_of([*arrays.values(), *([] if validation is None else [rows])]),
        )

    def _split(self, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rows, validation = train_test_split(
            np.arange(len(labels)),
            test_size=self.validation_fraction,
            random_state=seed,
            stratify=labels if labels.dtype.kind == "i" else None,
        )
        return np.asarray(rows), np.asarray(validation)

    def _check_parameters(self) -> None:
        where = type(self).__name__
        if self.batch_size != "auto":
            positive_integer(where, "batch_size", self.batch_size)
        positive_integer(where, "max_iter", self.max_iter)
        if self.n_iter_no_change is not None:
            positive_integer(where, "n_iter_no_change", self.n_iter_no_change)
        positive(where, "learning_rate_init", self.learning_rate_init)
        number(where, "alpha", self.alpha, low=0.0)
        number(where, "tol", self.tol, low=0.0)
        rate(where, "dropout", self.dropout)

    def _set_fitted(self, problem: Problem, outcome: Outcome) -> None:
        """Sets the attributes of a fitted estimator; raises `NotFinite` if the run diverged."""
        epochs = max(1, math.ceil(outcome.step / problem.epoch))
        curve = outcome.metrics["train/loss"][:epochs].tolist()
        if outcome.status == DIVERGED:
            raise NotFinite(
                type(self).__name__,
                "the loss or a parameter is not finite",
                got=f"a loss of {curve[-1]} in epoch {epochs}",
                expected="finite numbers",
                fix="Lower learning_rate_init, or scale the features with StandardScaler",
            )
        self._settings, self._state = problem.settings, outcome.state
        self.n_outputs_ = problem.settings.outputs
        self.n_iter_, self.loss_curve_, self.loss_ = epochs, curve, curve[-1]
        if problem.validation is not None:
            scores = outcome.metrics[problem.watch.metric][:epochs].tolist()
            self.validation_scores_, self.best_validation_score_ = scores, max(scores)

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any) -> Any:
        first = not hasattr(self, "_state")
        problem = self._problem(X, y, sample_weight, first=first, whole=True)
        learner = problem.settings.learner()
        if first:
            batch = {name: array[:1] for name, array in problem.arrays.items()}
            batch["index"] = np.zeros(1, np.int32)
            state = learner.init(jax.random.key(problem.seed), problem.hparams, batch)
        else:
            self._check_settings("partial_fit", problem)
            hparams = {name: np.float32(value) for name, value in problem.hparams.items()}
            state = self._fitted()._replace(hparams=hparams)
        data = resident(problem.arrays, batch_size=problem.batch_size)
        data = data.shuffled(jax.random.fold_in(state.key, ORDER))
        state, window = _advance(learner, state, data, np.int32(problem.epoch))
        curve = [] if first else self.loss_curve_
        loss = np.asarray(window["loss"].value())
        state = jax.device_get(state._replace(key=jax.random.key_data(state.key)))
        status = RUNNING if np.isfinite(loss) else DIVERGED
        self._set_fitted(problem, Outcome(state, {"train/loss": loss[None]}, status, problem.epoch))
        self.loss_curve_ = [*curve, self.loss_]
        self.n_iter_ = len(self.loss_curve_)
        return self

    def _check_settings(self, what: str, problem: Problem) -> None:
        """Raises `InvalidValue` if the settings differ from those of the previous fit."""
        before, now = self._settings, problem.settings
        changed = [name for name in Settings._fields if getattr(before, name) != getattr(now, name)]
        if changed:
            name = changed[0]
            raise InvalidValue(
                type(self).__name__,
                f"{what} continues with parameters that do not fit",
                got=f"{name}={getattr(now, name)!r} after {name}={getattr(before, name)!r}",
                expected="the network, the optimizer and the outcomes of the last fit",
                fix="Call fit with warm_start=False, or clone(estimator)",
            )
