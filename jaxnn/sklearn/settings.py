"""Builds a learner from the parameters of an estimator; equal settings share one learner.

Programs are compiled per learner. The numbers `alpha`, `learning_rate_init` and `dropout` are
hyper-parameters, which are inputs of the program; the other parameters are in `Settings`. Fits on
data of the same shape therefore compile once, also in cross-validation and in a grid search.
"""

from functools import lru_cache
from typing import NamedTuple

import jax
import optax

from jaxnn.checks import InvalidType, choice
from jaxnn.learning import Learner, learner
from jaxnn.models import mlp
from jaxnn.network import Network
from jaxnn.objectives import Objective, classification, multi_label, regression
from jaxnn.objectives._regression import absolute_error
from jaxnn.typing import Any, Callable, Hparams

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": jax.nn.relu,
    "tanh": jax.nn.tanh,
    "logistic": jax.nn.sigmoid,
    "identity": lambda x: x,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}
OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "adam": optax.adam,
    "sgd": lambda learning_rate: optax.sgd(learning_rate, momentum=0.9, nesterov=True),
    "lion": optax.lion,
    "rmsprop": optax.rmsprop,
}
ERRORS: dict[str, Callable[[Any, Any], Any]] = {
    "squared_error": optax.losses.squared_error,
    "absolute_error": absolute_error,
    "huber": optax.losses.huber_loss,
}


class Settings(NamedTuple):
    """The parameters that determine a learner and its compiled programs.

    Attributes:
      network: a `Network`, or `(n_features, n_outputs) -> Network`; `None` for an `mlp`.
      hidden: the number of nodes in each hidden layer of the `mlp`.
      activation: the name of one of `ACTIVATIONS`, or a function.
      has_dropout: whether dropout follows the hidden layers.
      optimizer: a name in `OPTIMIZERS`, an `optax.GradientTransformation`, or a function
        `learning_rate -> optax.GradientTransformation`.
      task: `"classification"`, `"multi_label"`, the name of one of `ERRORS`, or an error function.
      inputs: the number of features.
      outputs: the number of outputs of the network.
    """

    network: Any
    hidden: tuple[int, ...]
    activation: Any
    has_dropout: bool
    optimizer: Any
    task: Any
    inputs: int
    outputs: int

    @property
    def has_rate(self) -> bool:
        """Whether the optimizer is a function of the learning rate."""
        return not isinstance(self.optimizer, optax.GradientTransformation)

    def hparams(self, **numbers: Any) -> Hparams:
        """Returns the subset of `numbers` that the learner reads."""
        read = {"learning_rate": self.has_rate, "dropout": self.has_dropout}
        return {name: value for name, value in numbers.items() if read.get(name, True)}

    def learner(self) -> Learner:
        """Returns the learner; equal settings return the same object."""
        return _learner(self)


@lru_cache(256)
def _learner(settings: Settings) -> Learner:
    make: Any = settings.optimizer
    if isinstance(make, str):
        choice("optimizer", "optimizer", make, OPTIMIZERS)
        make = OPTIMIZERS[make]

    def optimizer(hparams: Hparams) -> optax.GradientTransformation:
        inner = make(hparams["learning_rate"]) if settings.has_rate else make
        decay = optax.add_decayed_weights(hparams["alpha"], _is_weight)
        return optax.chain(decay, inner)

    return learner(_network(settings), _objective(settings.task), optimizer)


def _is_weight(params: Any) -> Any:
    """Returns a mask of the weights, which excludes biases and scales from the penalty."""
    return jax.tree.map(lambda x: x.ndim > 1, params)


def _network(settings: Settings) -> Network | Callable[[Hparams], Network]:
    given = settings.network
    if isinstance(given, Network):
        return given
    if given is not None:
        if not callable(given):
            raise InvalidType(
                "network",
                "it is neither a network nor a function that makes one",
                got=f"a {type(given).__name__}",
                expected="a Network, or (n_features, n_outputs) -> Network",
                fix="Pass lambda n_features, n_outputs: jaxnn.mlp([64], n_outputs)",
            )
        network: Any = given(settings.inputs, settings.outputs)
        return network
    function = settings.activation
    if isinstance(function, str):
        choice("activation", "activation", function, ACTIVATIONS)
        function = ACTIVATIONS[function]

    def build(hparams: Hparams) -> Network:
        rate = hparams["dropout"] if settings.has_dropout else 0.0
        return mlp(settings.hidden, settings.outputs, activation=function, dropout=rate)

    return build


def _objective(task: Any) -> Objective:
    if task == "classification":
        return classification()
    if task == "multi_label":
        return multi_label()
    if isinstance(task, str):
        choice("Regressor", "loss", task, ERRORS)
        task = ERRORS[task]
    return regression(task)
