"""Loads a pretrained model: its network, parameters, tokenizer and configuration."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.formatting import amount
from jaxnn.names import named_leaves
from jaxnn.network import Network
from jaxnn.pretrained.families import bert, gpt2, llama, resnet, vit
from jaxnn.pretrained.families.family import TOKENS, Plan
from jaxnn.pretrained.gguf_tokenizer import gguf_tokenizer
from jaxnn.pretrained.rules import Link, check_links, link
from jaxnn.pretrained.settings import Settings
from jaxnn.pretrained.source import Source, open_source
from jaxnn.pretrained.tokenizer import Tokenizer, check_fits, read_tokenizer
from jaxnn.scale import memory
from jaxnn.scale._shard import placement_of
from jaxnn.scale.placement import on_device
from jaxnn.scale.rules import Rules, replicated
from jaxnn.typing import Any, Params, State

STATE = "state:"  # the prefix of the names of arrays in the state
_ALL = [each.family for each in (gpt2, llama, bert, vit, resnet)]
FAMILIES = {name: family for family in _ALL for name in family.model_types}


@dataclass(frozen=True)
class Pretrained:
    """A pretrained model.

    Attributes:
      network: a network that computes the same function as the original model.
      params: the parameters of the network.
      state: the state of the network, `{}` for most models.
      tokenizer: converts text to the network's inputs and back; `None` if the model has none.
      config: the configuration of the source, with the keys that transformers uses.
      source: the files and the mapping of their tensors to arrays, which `save` uses.
    """

    network: Network
    params: Params
    state: State
    tokenizer: Tokenizer | None
    config: dict[str, Any]
    source: tuple[Source, tuple[Link, ...]] = field(repr=False)

    def __repr__(self) -> str:
        count = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        return f"Pretrained({self.config.get('model_type')}, {count:,} parameters)"


def load(
    path: str | Path,
    *,
    dtype: Any = None,
    stacked: bool = False,
    mesh: Mesh | None = None,
    rules: Rules | Mapping[str, Any] | Sequence[tuple[str, Any]] = replicated,
) -> Pretrained:
    """Loads a model from a folder, a safetensors file or a GGUF file.

    The files are memory-mapped, and each tensor is read when its array is built. In addition to the
    parameters, loading takes the memory of the two largest arrays. Nothing is downloaded, and no
    code from the files is run: pickles are refused.

        model = load("SmolLM2-135M-Instruct")
        logits, _ = model.network.apply(model.params, model.state, tokens)

    Args:
      path: a folder with `config.json`, as transformers' `save_pretrained` writes it; a safetensors
        file with a `config.json` beside it; or a GGUF file.
      dtype: the dtype of the parameters. The default is the dtype of the source, or float32 if the
        weights of the source are quantized.
      stacked: whether to store the blocks as one repeated block; see `gpt`.
      mesh: the devices to load onto, see `jaxnn.scale.mesh`. The default is the first device. Each
        array is sent to its devices as soon as it is read.
      rules: the rules that shard the parameters over the mesh, as for `fit`.

    Returns:
      The network, its parameters and state, its tokenizer and its configuration.

    Raises:
      InvalidType: if `mesh` or `rules` has the wrong type, or `dtype` is not floating-point.
      InvalidValue: if the family of the model is not supported; if the configuration has an unknown
        key that may change the numbers; if a tensor is unused, is missing, or has the wrong shape;
        if a file is corrupt or a pickle; if there is not enough memory; or if `mesh` and `rules`
        do not match, as described for `jaxnn.scale.shard`.
    """
    source = open_source(Path(path).expanduser())
    plan = plan_of(source, stacked)
    links = tuple(link(plan.rows, _shapes(source), prefix=plan.prefix))
    forms = array_forms(source, stacked)
    check_links(links, forms)
    dtypes = _dtypes(source, links, _floating(dtype))
    shardings = _shardings(forms, mesh, rules)
    _check_memory(source, forms, dtypes, shardings)
    tokenizer = _tokenizer(source, plan)
    arrays = {}
    for name, form in forms.items():
        array = _array(name, form.shape, dtypes[name], links, source.tensors)
        arrays[name] = on_device(array, shardings.get(name))
        del array
    params = {name: x for name, x in arrays.items() if not name.startswith(STATE)}
    state = {name.removeprefix(STATE): x for name, x in arrays.items() if name not in params}
    return Pretrained(
        plan.network, _nested(params), _nested(state), tokenizer, source.config, (source, links)
    )


def _tokenizer(source: Source, plan: Plan) -> Tokenizer | None:
    if source.settings is not None:
        tokenizer = gguf_tokenizer(source.path, source.settings)
    elif plan.inputs is TOKENS:
        tokenizer = read_tokenizer(source.folder, source.config)
    else:
        tokenizer = None
    if tokenizer is not None:
        check_fits(tokenizer, source.config["vocab_size"])
    return tokenizer


def plan_of(source: Source, stacked: bool) -> Plan:
    """Returns the network and the rules for a source; raises if its family is not supported."""
    settings = Settings(source.path.name, source.config, source.steps)
    plan = settings.choice("model_type", FAMILIES).plan(settings, stacked)
    settings.finish()
    return plan


def array_forms(source: Source, stacked: bool) -> dict[str, Any]:
    """Returns the shape and dtype of every array of a network by name, including its state."""
    # The stacked network is always traced: that takes only as long as tracing one block.
    plan = plan_of(source, True)
    params, state = jax.eval_shape(plan.network.init, jax.random.key(0), plan.inputs)
    forms = named_leaves(params) | {f"{STATE}{n}": x for n, x in named_leaves(state).items()}
    apart = _unstacked(forms)
    if stacked and len(apart) == len(forms):
        raise InvalidValue(
            "pretrained.load",
            "the model has no blocks that could be stacked",
            got=f"stacked=True for a {source.config['model_type']}",
            expected="a transformer",
            fix="Leave out stacked",
        )
    return forms if stacked else apart


def _unstacked(forms: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces the stacked arrays of `blocks` with those of `block_1`, `block_2`, and so on."""
    apart = {}
    for name, form in forms.items():
        before, blocks, after = name.partition("/blocks/")
        layers = range(1, form.shape[0] + 1) if blocks else ()
        one = jax.ShapeDtypeStruct(form.shape[1:], form.dtype)
        apart |= {f"{before}/block_{n}/{after}": one for n in layers} or {name: form}
    return apart


def _shapes(source: Source) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in source.tensors.items()}


def _floating(dtype: Any) -> Any:
    """Returns the dtype of the parameters, or `None`; raises unless it is floating-point."""
    if dtype is None:
        return None
    try:
        known = jnp.dtype(dtype)
    except TypeError:
        known = None
    if known is None or not jnp.issubdtype(known, jnp.floating):
        raise InvalidType(
            "pretrained.load",
            "the dtype of the parameters is not floating-point",
            got=f"dtype={dtype!r}",
            expected="float32, bfloat16 or float16",
            fix="Pass dtype=jnp.bfloat16, or leave it out",
        )
    return known


def _dtypes(source: Source, links: tuple[Link, ...], dtype: Any) -> dict[str, Any]:
    """Returns the dtype of each array; raises if a tensor is not floating-point."""
    dtypes = {}
    for each in links:
        for name in each.ours if each.change.is_read else ():
            own = jnp.dtype(source.tensors[each.theirs].dtype)
            if not jnp.issubdtype(own, jnp.floating):
                raise InvalidValue(
                    "pretrained.load",
                    f"{each.theirs} does not hold floating-point numbers",
                    got=f"dtype {own}",
                    expected="float32, bfloat16 or float16",
                    fix="Load the weights of the model before it was quantized",
                )
            dtypes[name] = own if dtype is None or name.startswith(STATE) else dtype
    return dtypes


def _shardings(forms: Mapping[str, Any], mesh: Mesh | None, rules: Any) -> dict[str, Any]:
    """Returns the sharding of each array by name, or an empty dict if there is no mesh."""
    if mesh is None:
        return {}
    placement = placement_of("pretrained.load", mesh, rules)
    state = {name: placement.whole for name in forms if name.startswith(STATE)}
    params = {name: form for name, form in forms.items() if name not in state}
    return state | placement.shardings(params)


def _check_memory(
    source: Source,
    forms: Mapping[str, Any],
    dtypes: Mapping[str, Any],
    shardings: Mapping[str, Any],
) -> None:
    """Raises if the arrays need more memory than is free; runs before any tensor is read."""
    shares = {name: shardings[name].shard_shape(forms[name].shape) for name in shardings}
    sizes = {
        name: math.prod(shares.get(name, form.shape)) * dtypes[name].itemsize
        for name, form in forms.items()
    }
    largest = max((form.size * dtypes[name].itemsize for name, form in forms.items()), default=0)
    needed = sum(sizes.values()) + 2 * largest
    there = memory.available(jax.local_devices()[0])
    if needed > there:
        raise InvalidValue(
            "pretrained.load",
            "the model needs more memory than is free",
            got=f"{amount(needed, 'B')} for {source.path.name}, of which the parameters take"
            f" {amount(sum(sizes.values()), 'B')}",
            expected=f"at most {amount(there, 'B')}",
            fix="Pass dtype=jnp.bfloat16, or mesh=jaxnn.scale.mesh() and rules=jaxnn.scale.fsdp to"
            " spread it over several devices",
        )


def _array(
    name: str,
    shape: tuple[int, ...],
    dtype: Any,
    links: tuple[Link, ...],
    tensors: Mapping[str, Any],
) -> np.ndarray:
    """Reads one array of the network; if blocks are stacked, each layer is read into its slice."""
    array = np.empty(shape, dtype)
    for each in links:
        if each.change.is_read and name in each.ours:
            part = each.change.split(tensors[each.theirs].read())[each.ours.index(name)]
            array[... if each.layer is None else each.layer] = part
    return array


def _nested(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a nested dict of the arrays, split at the slashes of their names."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *nodes, last = name.split("/")
        node = tree
        for each in nodes:
            node = node.setdefault(each, {})
        node[last] = array
    return tree
