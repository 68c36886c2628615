"""Every mistake has an answer: what is given to `train`, and what the message says to do instead.

A row is a mistake, the kind of error, words in the message, and an expression for the part that
says how to put it right. Mistakes in networks, objectives and learners: `test_errors_parts.py`.
"""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

import jaxnn
from jaxnn import InvalidType, InvalidValue
from tests.mistakes import (
    COLUMN,
    DATA,
    FEW,
    FLOAT_LABELS,
    INPUTS,
    KEY,
    LABELS,
    NARROW,
    NEGATIVE,
    ONE_HOT,
    RATE,
    ROW,
    WITHOUT_LABELS,
    WRONG_WEIGHTS,
    data,
    judge,
    state,
    train,
)

KEYS = jax.random.split(KEY)
TABLE_OF_KEYS = KEYS[None]
V, T = InvalidValue, InvalidType
CASES = {
    # What is learned from.
    "labels too large": (
        lambda: train(parts=(jaxnn.mlp([8], 2),)),
        V, r"labels\[2\]=2 with 2 outputs; expected integers from 0 to 1",
        r"Number the classes from 0, and give the network an output for each",
    ),
    "labels below zero": (
        lambda: train(NEGATIVE),
        V, r"labels\[1\]=-1 with 3 outputs",
        r"Number the classes from 0",
    ),
    "float labels": (
        lambda: train(FLOAT_LABELS),
        T, r"labels of dtype float32 and shape \(4,\); expected an integer dtype",
        r"\.astype\(np\.int32\), or use regression\(\)",
    ),
    "whole labels of a regression": (
        lambda: train(parts=(None, jaxnn.regression())),
        T, r"labels of dtype int32",
        r"\.astype\(np\.float32\), or use classification\(\)",
    ),
    "no labels": (
        lambda: train(WITHOUT_LABELS),
        V, r"Got fields index, inputs; expected a field 'labels'|Got fields inputs; expected",
        r"Add the labels to the data",
    ),
    "one-hot labels": (
        lambda: train(ONE_HOT),
        V, r"outputs of shape \(4, 3\) and labels of shape \(4, 3\)",
        r"not one-hot: labels\.argmax\(-1\)",
    ),
    "labels without the axis of two outputs": (
        lambda: train(ROW, parts=(jaxnn.mlp([8], 2), jaxnn.regression())),
        V, r"outputs of shape \(4, 2\) and labels of shape \(4,\)",
        r"Give the network one output for each number",
    ),
    "outputs too wide for the labels": (
        lambda: train(COLUMN, parts=(jaxnn.mlp([8], 2), jaxnn.regression())),
        V, r"outputs of shape \(4, 2\) and labels of shape \(4, 1\)",
        r"Give the network one output for each number to predict",
    ),
    "several outputs": (
        lambda: train(parts=(jaxnn.parallel(jaxnn.linear(3), jaxnn.linear(3)),)),
        T, r"outputs are not one array. Got a tuple of 2 arrays",
        r"Combine them into one array, or write a custom loss",
    ),
    "weights that do not fit": (
        lambda: train(WRONG_WEIGHTS),
        V, r"weights of shape \(4, 2\) and values of shape \(4,\)",
        r"Give one weight per example, \[batch\], or one per value",
    ),
    "top_k above the classes": (
        lambda: train(parts=(None, jaxnn.classification(top_k=5))),
        V, r"top_k=5; expected an integer of at least 1 and at most 3",
        r"Pass, say, top_k=1",
    ),
    "a missing value": (
        lambda: data(inputs=np.where(np.arange(48).reshape(12, 4) == 9, np.nan, INPUTS)),
        V, r"inputs has numbers that are not finite. Got nan at \[2, 1\], 1 of them in 1 of 12",
        r"Keep the other examples, numpy\.isfinite\(inputs\)\.all\(1\), or fill in numbers",
    ),
    "an infinite value": (
        lambda: data(labels=np.array([0, np.inf] * 6)),
        V, r"labels has .* Got inf at \[1\], 6 of them in 6 of 12 examples",
        r"Keep the other examples, numpy\.isfinite\(labels\), or",
    ),
    "no examples": (
        lambda: data(inputs=INPUTS[:0], labels=LABELS[:0]),
        V, r"the data are empty. Got shapes inputs \[0, 4\], labels \[0\]: 0 examples",
        r"Give every field one entry for each example",
    ),
    "fields of different lengths": (
        lambda: data(labels=LABELS[:11]),
        V, r"inputs \[12, 4\], labels \[11\]: 11 examples, 12 examples",
        r"Give every field one entry for each example",
    ),
    "text": (
        lambda: data(labels=np.array(["cat"] * 12)),
        T, r"labels does not hold numbers. Got dtype <U3",
        r"Number the classes: names, labels = numpy\.unique",
    ),
    "numbers above 32 bits": (
        lambda: data(labels=LABELS + 2**40),
        V, r"labels holds a number too large for int32. Got 1099511627776 in dtype int64",
        r"Number the classes from 0",
    ),
    "data without names": (
        lambda: jaxnn.resident(INPUTS, batch_size=4),
        T, r"the data must be named fields. Got ndarray",
        r"Pass \{'inputs': inputs, 'labels': labels\}, or examples\(\.\.\.\)",
    ),
    "data under another name": (
        lambda: jaxnn.resident({"x": INPUTS, "y": LABELS}, batch_size=4),
        T, r"Got \['x', 'y'\]; expected a dict with 'inputs'",
        r"Pass \{'inputs': inputs, 'labels': labels\}",
    ),
    "raw arrays for training": (
        lambda: train({"inputs": INPUTS, "labels": LABELS}),
        T, r"train: data has the wrong type. Got a dict; expected a Data",
        r"Pass resident\(\{'inputs': inputs, 'labels': labels\}, batch_size=64\)",
    ),
    "raw arrays for evaluation": (
        lambda: train(evaluate={"inputs": INPUTS, "labels": LABELS}),
        T, r"evaluate\['inputs'\] has the wrong type. Got a ndarray; expected a Data",
        r"Pass resident\(\{'inputs': inputs, 'labels': labels\}, batch_size=64\)",
    ),
    "raw arrays to evaluate()": (
        lambda: jaxnn.evaluate(*state(), {"inputs": INPUTS, "labels": LABELS}),
        T, r"evaluate: data has the wrong type. Got a dict",
        r"Pass resident\(",
    ),
    "evaluation data of another shape": (
        lambda: train(evaluate={"held_out": NARROW}),
        V, r"in the data 'held_out', linear: .* Got inputs of shape \(4, 3\); expected .*, 4\)",
        r"Pass inputs with those features",
    ),
    "evaluation labels out of range": (
        lambda: train(evaluate=NEGATIVE),
        V, r"in the data 'test', classification: labels are out of range. Got labels\[1\]=-1",
        r"Number the classes from 0",
    ),
    "evaluation under the name of training": (
        lambda: train(evaluate={"train": DATA}),
        V, r"the name train is reserved for the metrics of training",
        r"Write evaluate=\{'training': data, \.\.\.\}",
    ),
    "predict with another shape": (
        lambda: jaxnn.predict(*state(), INPUTS[:, :3]),
        V, r"Got inputs of shape \(\d+, 3\); expected shape \(\.\.\., 4\)",
        r"Pass inputs with those features, or initialise the parameters again with init",
    ),
    "predict of nothing": (
        lambda: jaxnn.predict(*state(), INPUTS[:0]),
        V, r"the data are empty",
        r"Give every field one entry for each example",
    ),
    # How much, how often, how long.
    "a batch larger than the data": (
        lambda: train(FEW),
        V, r"batch_size=16 and 12 examples",
        r"Pass batch_size=12",
    ),
    "a batch of none": (
        lambda: data(batch_size=0),
        V, r"batch_size=0; expected an integer of at least 1",
        r"Pass, say, batch_size=1",
    ),
    "no steps": (lambda: train(steps=0), V, r"Got steps=0;", r"Pass, say, steps='10 epochs'"),
    "negative steps": (
        lambda: train(steps=-5), V, r"Got steps=-5;", r"Pass, say, steps='10 epochs'",
    ),
    "fractional steps": (
        lambda: train(steps=2.5), V, r"Got steps=2\.5;", r"Pass, say, steps='10 epochs'",
    ),
    "no epochs": (
        lambda: train(steps="0 epochs"), V, r"steps='0 epochs';", r"Pass, say, steps='10 epochs'",
    ),
    "negative epochs": (
        lambda: train(steps="-1 epochs"), V, r"steps='-1 epochs'", r"Pass, say, steps='10 epochs'",
    ),
    "an unknown unit": (
        lambda: train(steps="3 epoks"),
        V, r"'3 epoks'; expected a number of steps, or '300 steps', '10 epochs', '50000 examples'",
        r"Pass, say, steps='10 epochs'",
    ),
    "a share of itself": (
        lambda: train(steps="5%"),
        V, r"'5%', only for parts of a run",
        r"Pass, say, steps='10 epochs'",
    ),
    "reports never": (
        lambda: train(every=0), V, r"every=0; .* or '5%'", r"Pass, say, every='10 epochs'",
    ),
    "an unknown form": (
        lambda: train(form="looping"),
        V, r"form='looping'; expected one of looped, stepped",
        r"Did you mean 'looped'\?$",
    ),
    "a seed for a key": (
        lambda: train(key=0),
        T, r"key is not a random key. Got key=0; expected one key",
        r"Pass key=jax\.random\.key\(0\)",
    ),
    "keys of two axes": (
        lambda: train(key=TABLE_OF_KEYS),
        T, r"Got a key of shape \(1, 2\)", r"Pass key=jax\.random\.key\(0\)",
    ),
    # Hyper-parameters.
    "a learning rate of zero": (
        lambda: train(hparams={"learning_rate": 0}),
        V, r"learning_rate=0\.0; expected a number above 0\. ",
        r"Pass, say, learning_rate=0\.001",
    ),
    "a negative learning rate": (
        lambda: train(hparams={"learning_rate": -0.1}),
        V, r"learning_rate=-0\.1",
        r"Pass, say, learning_rate=0\.001",
    ),
    "a hyper-parameter that is not finite": (
        lambda: train(hparams={"decay": float("nan")}),
        V, r"decay=nan; expected a finite number",
        r"Pass, say, decay=0\.001",
    ),
    "a hyper-parameter that is a word": (
        lambda: train(hparams={"activation": "relu"}),
        T, r"activation='relu'; expected a number: hyper-parameters are inputs of the compiled",
        r"Use other values outside of the program, when the network is built",
    ),
    "a hyper-parameter that is missing": (
        lambda: train(parts=(None, None, lambda h: optax.sgd(h["learning_rate"]))),
        V, r"the optimizer reads .* Got hparams with nothing; expected 'learning_rate' in hparams",
        r"Pass hparams=\{'learning_rate': number\}\.",
    ),
    "a hyper-parameter nearly given": (
        lambda: train(parts=(None, None, lambda h: optax.sgd(h["learn_rate"])), hparams=RATE),
        V, r"hparams with learning_rate; expected 'learn_rate'",
        r"or read 'learning_rate', which was given",
    ),
    "dropout of all": (
        lambda: jaxnn.mlp([8], 3, dropout=1.0),
        V, r"dropout: rate is out of range. Got rate=1\.0; expected .* of at least 0 and below 1\.",
        r"Pass, say, rate=0\.5",
    ),
    "dropout below none": (lambda: jaxnn.dropout(-0.1), V, r"rate=-0\.1", r"say, rate=0\.5"),
    "a hyper-parameter that nothing reads": (
        lambda: train(hparams={"dropout": 0.3}),
        V, r"never read. Got dropout=0\.3; expected only the ones that are read: none",
        r"Leave it out, or read it",
    ),
    "a Flax model as it is": (
        lambda: train(parts=(nnx.Linear,)),
        T, r"the network has the wrong type",
        r"Pass from_flax\(model\)",
    ),
    "dropout of all, traced": (
        lambda: train(
            parts=(lambda h: jaxnn.mlp([8], 3, dropout=h["dropout"]),), hparams={"dropout": 1.5}
        ),
        V, r"dropout: rate is out of range. Got rate=1\.5",
        r"Pass, say, rate=0\.5",
    ),
    "smoothing of all": (
        lambda: jaxnn.classification(label_smoothing=1.0),
        V, r"label_smoothing=1\.0",
        r"Pass, say, label_smoothing=0\.5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_answered_before_anything_compiles(name, compilations):
    judge(CASES[name], compilations)


def test_the_counter_of_compilations_counts(compilations):
    compilations.clear()
    jax.jit(lambda x: x * 3 + 1)(np.float32(2))
    assert len(compilations) == 1


def test_a_good_call_compiles_nothing_but_the_key_of_the_order(compilations):
    """What `train` does at the call is all tracing: the program compiles at the first report."""
    jax.random.fold_in(KEY, 2)
    compilations.clear()
    train(hparams=RATE, parts=(None, None, lambda h: optax.sgd(h["learning_rate"])))
    assert not compilations


def test_errors_are_also_those_of_python():
    assert issubclass(InvalidValue, ValueError) and issubclass(InvalidType, TypeError)
