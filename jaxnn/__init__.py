"""jaxnn: neural networks as pure functions, and training runs as one compiled program.

Everything is built from three tuples of pure functions. A `Network` maps inputs to outputs, an
`Objective` measures how good outputs are, and a `Learner` updates parameters. `train` and `fit`
run a learner on data.
"""

from jaxnn import (
    data,
    layers,
    learning,
    metrics,
    models,
    objectives,
    pictures,
    planning,
    pretrained,
    scale,
    search,
    streams,
    transforms,
)
from jaxnn.caching import compile_cache
from jaxnn.checks import Caution, Invalid, InvalidType, InvalidValue
from jaxnn.data import (
    Characters,
    Duration,
    Every,
    Resident,
    Windows,
    buckets,
    datasets,
    examples,
    folds,
    pack,
    pad,
    resident,
    split,
    windows,
)
from jaxnn.driver import Execution, Progress, Watch, train
from jaxnn.exporting import Model, export, load_model
from jaxnn.layers import (
    activation,
    attention,
    avg_pool,
    batch_norm,
    conv,
    dropout,
    embedding,
    flatten,
    layer_norm,
    linear,
    max_pool,
    standardize,
)
from jaxnn.learning import (
    Learner,
    TrainState,
    accumulate,
    average,
    ensemble,
    guard,
    learner,
    scale_loss,
)
from jaxnn.loop import evaluate, population, predict, run, unroll
from jaxnn.masked import Masked, per_place
from jaxnn.metrics import Metric
from jaxnn.models import convnet, from_flax, generate, gpt, mlp, resnet, rnn, vae
from jaxnn.names import param_labels
from jaxnn.network import Network, parallel, residual, serial, stateless
from jaxnn.objectives import (
    Objective,
    classification,
    multi_label,
    next_token,
    objective,
    regression,
)
from jaxnn.planning import Plan, plan
from jaxnn.reading import read_table
from jaxnn.runs import NotFinite, Run, fit, load
from jaxnn.search import Sweep, fit_sweep, keys, linear_range, log_range, sweep
from jaxnn.storage.checkpoints import Saving
from jaxnn.storage.directory import Directory, NoCheckpoint
from jaxnn.storage.lock import DirectoryInUse
from jaxnn.streams import Stream, stream
from jaxnn.summary import Table, table
from jaxnn.tables import Columns, fit_columns, fold_table, split_table
from jaxnn.transforms import capture, freeze, lora, mixed_precision, remat, repeat, warm_start

__version__ = "0.1.0"

__all__ = [
    "Caution",
    "Characters",
    "Columns",
    "Directory",
    "DirectoryInUse",
    "Duration",
    "Every",
    "Execution",
    "Invalid",
    "InvalidType",
    "InvalidValue",
    "Learner",
    "Masked",
    "Metric",
    "Model",
    "Network",
    "NoCheckpoint",
    "NotFinite",
    "Objective",
    "Plan",
    "Progress",
    "Resident",
    "Run",
    "Saving",
    "Stream",
    "Sweep",
    "Table",
    "TrainState",
    "Watch",
    "Windows",
    "accumulate",
    "activation",
    "attention",
    "average",
    "avg_pool",
    "batch_norm",
    "buckets",
    "capture",
    "classification",
    "compile_cache",
    "conv",
    "convnet",
    "data",
    "datasets",
    "dropout",
    "embedding",
    "ensemble",
    "evaluate",
    "examples",
    "export",
    "fit",
    "fit_columns",
    "fit_sweep",
    "flatten",
    "fold_table",
    "folds",
    "freeze",
    "from_flax",
    "generate",
    "gpt",
    "guard",
    "keys",
    "layer_norm",
    "layers",
    "learner",
    "learning",
    "linear",
    "linear_range",
    "load",
    "load_model",
    "log_range",
    "lora",
    "max_pool",
    "metrics",
    "mixed_precision",
    "mlp",
    "models",
    "multi_label",
    "next_token",
    "objective",
    "objectives",
    "pack",
    "pad",
    "parallel",
    "param_labels",
    "per_place",
    "pictures",
    "plan",
    "planning",
    "population",
    "predict",
    "pretrained",
    "read_table",
    "regression",
    "remat",
    "repeat",
    "resident",
    "residual",
    "resnet",
    "rnn",
    "run",
    "scale",
    "scale_loss",
    "search",
    "serial",
    "split",
    "split_table",
    "standardize",
    "stateless",
    "stream",
    "streams",
    "sweep",
    "table",
    "train",
    "transforms",
    "unroll",
    "vae",
    "warm_start",
    "windows",
]
