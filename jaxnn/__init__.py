"""jaxnn: neural networks as pure functions, and training runs as one compiled program.

Three nouns, and functions from one to the same: a `Network` is how inputs become outputs, an
`Objective` what a good output is, a `Learner` how parameters change. `train` and `fit` run them.
"""

from jaxnn import metrics, pictures
from jaxnn.checks import Explained, Invalid, InvalidType, InvalidValue
from jaxnn.data import datasets
from jaxnn.data.characters import Characters
from jaxnn.data.durations import Duration, steps_of
from jaxnn.data.examples import examples
from jaxnn.data.resident import Resident, resident
from jaxnn.data.split import split
from jaxnn.data.windows import Windows, windows
from jaxnn.layers import (
    activation,
    attention,
    avg_pool,
    batch_norm,
    conv,
    conv_general_dilated,
    conv_transpose,
    depthwise_conv,
    dropout,
    embedding,
    flatten,
    group_norm,
    gru,
    layer_norm,
    linear,
    lstm,
    max_pool,
    positions,
    rms_norm,
    standardize,
    stochastic_depth,
)
from jaxnn.learner import Gradients, Halves, Learner, TrainState, learner
from jaxnn.learning.accumulate import accumulate
from jaxnn.learning.averaged import averaged
from jaxnn.learning.guarded import guarded
from jaxnn.learning.loss_scaled import loss_scaled
from jaxnn.metrics import Metric
from jaxnn.models.convnet import convnet
from jaxnn.models.flax import flax_parameters, from_flax, to_flax
from jaxnn.models.generate import generate
from jaxnn.models.gpt import gpt
from jaxnn.models.mlp import mlp
from jaxnn.models.resnet import resnet
from jaxnn.models.rnn import rnn
from jaxnn.models.vae import vae
from jaxnn.names import labels
from jaxnn.network import Network, parallel, residual, serial, stateless
from jaxnn.objectives import (
    Objective,
    absolute_error,
    augmented,
    batchwise,
    classification,
    distilled,
    elbo,
    example_keys,
    focal,
    info_nce,
    next_token,
    objective,
    reconstruction,
    regression,
    weights_of,
)
from jaxnn.records.checkpoints import Saving
from jaxnn.records.directory import DirectoryInUse, NoCheckpoint
from jaxnn.run.ensemble import ensemble
from jaxnn.run.evaluate import evaluate, predict
from jaxnn.run.fit import NotFinite, Run, fit
from jaxnn.run.fit_sweep import Swept, fit_sweep
from jaxnn.run.keeper import Caution
from jaxnn.run.load import Loaded, load
from jaxnn.run.population import population
from jaxnn.run.ranges import linear_range, log_random_range, log_range, random_range
from jaxnn.run.rate_range import RateRange, learning_rate_range
from jaxnn.run.run import run
from jaxnn.run.selection import population_based_training, successive_halving
from jaxnn.run.sweep import Sweep, keys, sweep
from jaxnn.run.train import train
from jaxnn.run.training import Progress, Training
from jaxnn.run.trial import STATUSES, Best, Trial, Watch
from jaxnn.run.unroll import unroll
from jaxnn.run.warm_start import WarmStart, resized, warm_start
from jaxnn.table import Table, table
from jaxnn.transforms.captured import captured
from jaxnn.transforms.frozen import frozen
from jaxnn.transforms.lora import lora, merged
from jaxnn.transforms.mixed_precision import mixed_precision
from jaxnn.transforms.remat import remat
from jaxnn.transforms.repeat import repeat

__version__ = "0.1.0"

__all__ = [
    "Best",
    "Caution",
    "Characters",
    "DirectoryInUse",
    "Duration",
    "Explained",
    "Gradients",
    "Halves",
    "Invalid",
    "InvalidType",
    "InvalidValue",
    "Learner",
    "Loaded",
    "Metric",
    "Network",
    "NoCheckpoint",
    "NotFinite",
    "Objective",
    "Progress",
    "RateRange",
    "Resident",
    "Run",
    "STATUSES",
    "Saving",
    "Sweep",
    "Swept",
    "Table",
    "TrainState",
    "Training",
    "Trial",
    "WarmStart",
    "Watch",
    "Windows",
    "absolute_error",
    "accumulate",
    "activation",
    "attention",
    "augmented",
    "averaged",
    "avg_pool",
    "batch_norm",
    "batchwise",
    "captured",
    "classification",
    "conv",
    "conv_general_dilated",
    "conv_transpose",
    "convnet",
    "datasets",
    "depthwise_conv",
    "distilled",
    "dropout",
    "elbo",
    "embedding",
    "ensemble",
    "evaluate",
    "example_keys",
    "examples",
    "fit",
    "fit_sweep",
    "flatten",
    "flax_parameters",
    "focal",
    "from_flax",
    "frozen",
    "generate",
    "gpt",
    "group_norm",
    "gru",
    "guarded",
    "info_nce",
    "keys",
    "labels",
    "layer_norm",
    "learner",
    "learning_rate_range",
    "linear",
    "linear_range",
    "load",
    "log_random_range",
    "log_range",
    "lora",
    "loss_scaled",
    "lstm",
    "max_pool",
    "merged",
    "metrics",
    "mixed_precision",
    "mlp",
    "next_token",
    "objective",
    "parallel",
    "pictures",
    "population",
    "population_based_training",
    "positions",
    "predict",
    "random_range",
    "reconstruction",
    "regression",
    "remat",
    "repeat",
    "resident",
    "residual",
    "resized",
    "resnet",
    "rms_norm",
    "rnn",
    "run",
    "serial",
    "split",
    "standardize",
    "stateless",
    "steps_of",
    "stochastic_depth",
    "successive_halving",
    "sweep",
    "table",
    "to_flax",
    "train",
    "unroll",
    "vae",
    "warm_start",
    "weights_of",
    "windows",
]
