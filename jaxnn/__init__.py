"""jaxnn: neural networks as pure functions, and training runs as one compiled program.

Three nouns, and functions from one to the same: a `Network` is how inputs become outputs, an
`Objective` what a good output is, a `Learner` how parameters change. `train` and `fit` run them.
"""

from jaxnn import metrics, pictures
from jaxnn.checks import Caution, Explained, Invalid, InvalidType, InvalidValue
from jaxnn.data import datasets
from jaxnn.data._examples import examples
from jaxnn.data._resident import Resident, resident
from jaxnn.data._split import split
from jaxnn.data._windows import Windows, windows
from jaxnn.data.characters import Characters
from jaxnn.data.durations import Duration, steps_of
from jaxnn.driver._train import train
from jaxnn.driver.chunks import Progress, Training
from jaxnn.driver.trial import Best, Trial, Watch
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
from jaxnn.learning._accumulate import accumulate
from jaxnn.learning._average import average
from jaxnn.learning._ensemble import ensemble
from jaxnn.learning._guard import guard
from jaxnn.learning._learner import Gradients, Learner, TrainState
from jaxnn.learning._scale_loss import scale_loss
from jaxnn.learning._supervised import learner
from jaxnn.loop._evaluate import evaluate, predict
from jaxnn.loop._population import population
from jaxnn.loop._run import run
from jaxnn.loop._unroll import unroll
from jaxnn.loop.statuses import STATUSES
from jaxnn.metrics import Metric
from jaxnn.models._convnet import convnet
from jaxnn.models._generate import generate
from jaxnn.models._gpt import gpt
from jaxnn.models._mlp import mlp
from jaxnn.models._resnet import resnet
from jaxnn.models._rnn import rnn
from jaxnn.models._vae import vae
from jaxnn.models.flax import flax_parameters, from_flax, to_flax
from jaxnn.names import param_labels
from jaxnn.network import Network, parallel, residual, serial, stateless
from jaxnn.objectives import (
    Objective,
    absolute_error,
    augment,
    batchwise,
    classification,
    distill,
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
from jaxnn.runs._fit import NotFinite, Run, fit
from jaxnn.runs._load import Loaded, load
from jaxnn.search._fit_sweep import Swept, fit_sweep
from jaxnn.search._sweep import Sweep, keys, sweep
from jaxnn.search.ranges import linear_range, log_random_range, log_range, random_range
from jaxnn.search.rate_range import RateRange, learning_rate_range
from jaxnn.search.selection import population_based_training, successive_halving
from jaxnn.storage.checkpoints import Saving
from jaxnn.storage.directory import DirectoryInUse, NoCheckpoint
from jaxnn.summary import Table, table
from jaxnn.transforms._capture import capture
from jaxnn.transforms._freeze import freeze
from jaxnn.transforms._lora import lora, merge_lora
from jaxnn.transforms._mixed_precision import mixed_precision
from jaxnn.transforms._remat import remat
from jaxnn.transforms._repeat import repeat
from jaxnn.transforms._warm_start import WarmStart, resize, warm_start

__version__ = "0.1.0"

__all__ = [
    "Best",
    "Caution",
    "Characters",
    "DirectoryInUse",
    "Duration",
    "Explained",
    "Gradients",
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
    "augment",
    "average",
    "avg_pool",
    "batch_norm",
    "batchwise",
    "capture",
    "classification",
    "conv",
    "conv_general_dilated",
    "conv_transpose",
    "convnet",
    "datasets",
    "depthwise_conv",
    "distill",
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
    "freeze",
    "from_flax",
    "generate",
    "gpt",
    "group_norm",
    "gru",
    "guard",
    "info_nce",
    "keys",
    "layer_norm",
    "learner",
    "learning_rate_range",
    "linear",
    "linear_range",
    "load",
    "log_random_range",
    "log_range",
    "lora",
    "lstm",
    "max_pool",
    "merge_lora",
    "metrics",
    "mixed_precision",
    "mlp",
    "next_token",
    "objective",
    "parallel",
    "param_labels",
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
    "resize",
    "resnet",
    "rms_norm",
    "rnn",
    "run",
    "scale_loss",
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
