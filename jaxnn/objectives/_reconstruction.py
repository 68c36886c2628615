"""Objectives for autoencoders, whose labels are the inputs: a plain error and the ELBO.

>>> import jax.numpy as jnp
>>> inputs = jnp.array([[0.0, 1.0]])
>>> reconstruction().loss(jnp.array([[0.0, 3.0]]), {"inputs": inputs})[0].tolist()
[2.0]
>>> nothing = {"reconstruction": 0 * inputs, "mean": jnp.ones((1, 3)),
...            "log_variance": jnp.zeros((1, 3))}
>>> elbo().loss(nothing, {"inputs": inputs})[0].round(3).tolist()    # 2 log(2) + 3/2
[2.88600...]
"""

from math import log, pi

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn import metrics as measures
from jaxnn.checks import InvalidType, InvalidValue, choice, number
from jaxnn.masked import Masked, refuse_masked, values_of
from jaxnn.objectives._examples import is_own, shield, shielded_batch
from jaxnn.objectives._objective import Objective, no_check, weights_of
from jaxnn.objectives._places import weigh
from jaxnn.objectives._regression import regression
from jaxnn.typing import Any, Batch, Callable, Number


def _as_they_are(inputs: Any) -> Any:
    return inputs


def reconstruction(
    error: Callable[[Any, Any], Any] = optax.losses.squared_error,
    *,
    targets: Callable[[Any], Any] = _as_they_are,
) -> Objective:
    """Returns the objective for an autoencoder: `regression` with the inputs as labels.

    Outputs have the shape of the targets, `[batch, ...]`. The loss of an example is the mean of its
    errors. The metrics are `r2` and `mae`. Padded positions of `Masked` inputs have weight 0.

    Args:
      error: an elementwise function `(predictions, targets) -> errors`.
      targets: a function `inputs -> targets`, the identity by default. For inputs in bytes, use
        `lambda images: images.astype(jnp.float32) / 255`.

    Raises:
      InvalidValue: when traced, if outputs and targets have different shapes, or `error` is not
        elementwise; before training, if a custom function mixes examples.
      InvalidType: when traced, if targets are not floating-point numbers.
    """
    base = regression(error)

    def labelled(outputs, batch):
        inputs = batch["inputs"]
        if isinstance(inputs, Masked):  # the outputs may be an array of all positions
            outputs, batch = shielded_batch(outputs, weigh(inputs.mask, batch))
        return outputs, {**batch, "labels": targets(values_of(inputs))}

    return Objective(
        shield(lambda outputs, batch: base.loss(*labelled(outputs, batch))),
        shield(lambda outputs, batch: base.metrics(*labelled(outputs, batch))),
        check=None if is_own(error) or is_own(targets) else no_check,
    )


def elbo(
    *,
    beta: Number = 1.0,
    likelihood: str = "bernoulli",
    targets: Callable[[Any], Any] = _as_they_are,
) -> Objective:
    """Returns the negative evidence lower bound of a variational autoencoder, in nats per example.

    Outputs are a dict with `reconstruction`, of the shape of the targets, and the `mean` and
    `log_variance`, `[batch, latent]`, of the approximate posterior, a diagonal normal distribution.
    The prior is the standard normal. The metrics are the two terms of the bound,
    `reconstruction_error` and `kl`.

    The network draws one sample of the latent variables to estimate the expectation in the bound.
    In inference it uses their mean, so the value approximates the bound but does not bound the
    likelihood.

    Args:
      beta: the factor of the KL divergence; 1 gives the bound. May be traced.
      likelihood: the distribution of the targets given the latent variables. For `"bernoulli"`,
        targets are in [0, 1] and `reconstruction` holds logits. For `"gaussian"`, `reconstruction`
        holds means, and the variance is 1: divide the inputs by their noise's standard deviation.
      targets: as in `reconstruction`.

    Raises:
      InvalidValue: if `likelihood` is unknown, `beta` is negative, shapes do not match, or the
        Bernoulli likelihood receives targets outside [0, 1]. (With a custom `targets`, only the
        first 1000 examples are checked.)
      InvalidType: when traced, if outputs are not such a dict, inputs are `Masked`, or targets are
        not floating-point numbers.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014, eq. (10); beta: Higgins
    et al., beta-VAE, ICLR 2017, eq. (4).
    """
    number("elbo", "beta", beta, low=0.0)
    choice("elbo", "likelihood", likelihood, _LIKELIHOODS)

    def parts(outputs, batch):
        refuse_masked("elbo", batch["inputs"])
        wanted = targets(batch["inputs"])
        _check_outputs(outputs, wanted)
        logits = outputs["reconstruction"].astype(jnp.float32)
        errors = _LIKELIHOODS[likelihood](logits, wanted.astype(jnp.float32))
        mean, log_variance = (outputs[k].astype(jnp.float32) for k in ("mean", "log_variance"))
        kl = 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - 1.0 - log_variance, -1)
        return jnp.sum(errors, range(1, errors.ndim)), kl

    def loss(outputs, batch):
        errors, kl = parts(outputs, batch)
        losses = errors + beta * kl
        return losses, weights_of(batch, losses)

    def metrics(outputs, batch):
        errors, kl = parts(outputs, batch)
        weights = weights_of(batch, errors)
        return {
            "reconstruction_error": measures.mean(errors, weights, better="lower"),
            "kl": measures.mean(kl, weights, better="lower"),
        }

    def check(outputs, arrays):
        if likelihood == "bernoulli" and targets is _as_they_are:
            _check_from_0_to_1("inputs", arrays["inputs"], arrays)
        elif likelihood == "bernoulli":
            some = jax.tree.map(lambda x: x[:_CHECKED], arrays["inputs"])
            _check_from_0_to_1("targets", targets(some), arrays)

    return Objective(shield(loss), shield(metrics), check=check)


_CHECKED = 1000


def _gaussian(means: Any, targets: Any) -> Any:
    return 0.5 * (targets - means) ** 2 + 0.5 * log(2 * pi)


_LIKELIHOODS = {"bernoulli": optax.losses.sigmoid_binary_cross_entropy, "gaussian": _gaussian}


def _check_outputs(outputs: Any, targets: Any) -> None:
    names = {"reconstruction", "mean", "log_variance"}
    if not isinstance(outputs, dict) or not names <= outputs.keys():
        fields = ", ".join(sorted(outputs)) if isinstance(outputs, dict) else "no names"
        raise InvalidType(
            "elbo",
            "the outputs are not those of a variational autoencoder",
            got=f"a {type(outputs).__name__} with {fields}",
            expected="a dict with 'reconstruction', 'mean' and 'log_variance'",
            fix="Return all three from the network, or use reconstruction() for a plain"
            " autoencoder",
        )
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        raise InvalidType(
            "elbo",
            "targets are not floating-point numbers",
            got=f"dtype {targets.dtype}",
            expected="float32",
            fix="Pass targets=lambda inputs: inputs.astype(jnp.float32) / 255",
        )
    mean, variance = outputs["mean"].shape, outputs["log_variance"].shape
    if outputs["reconstruction"].shape != targets.shape or mean != variance or len(mean) != 2:
        raise InvalidValue(
            "elbo",
            "the shapes of the outputs do not match",
            got=f"reconstruction {outputs['reconstruction'].shape} of inputs {targets.shape}, mean"
            f" {mean}, log_variance {variance}",
            expected="a reconstruction of the inputs' shape, mean and log_variance [batch, latent]",
            fix="Reshape the decoder's outputs to the shape of the inputs",
        )


def _check_from_0_to_1(name: str, numbers: Any, arrays: Batch) -> None:
    numbers = np.asarray(numbers)
    if "weights" in arrays:
        numbers = numbers[np.asarray(arrays["weights"])[: len(numbers)] != 0]
    low, high = numbers.min(initial=1.0), numbers.max(initial=0.0)
    if low < 0 or high > 1:
        raise InvalidValue(
            "elbo",
            f"{name} are not probabilities, as the Bernoulli likelihood needs",
            got=f"{name} from {low} to {high}",
            expected="numbers from 0 to 1",
            fix="Divide them by their maximum, or pass likelihood='gaussian'",
        )
