"""Loading: a model of others as a network, its parameters, its tokenizer and its configuration."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxnn.checks import InvalidValue
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

STATE = "state:"  # before the names of arrays of the state
_ALL = [each.family for each in (gpt2, llama, bert, vit, resnet)]
FAMILIES = {name: family for family in _ALL for name in family.model_types}


@dataclass(frozen=True)
class Pretrained:
    """A model that others have trained.

    Attributes:
      network: that computes what theirs does.
      params: its parameters.
      state: its state, `{}` for most.
      tokenizer: from text to the network's inputs and back; `None` where it has none.
      config: what the source says of the model, as transformers writes it.
      source: the files, and where their tensors belong, for `save`.
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
    """Loads a model from a folder, or from a file of safetensors or GGUF.

    The files are mapped, and each tensor is read when its array is built: beside the parameters it
    takes the memory of the two largest arrays. Nothing is downloaded, and no code from the files
    runs: pickles are refused.

        model = load("SmolLM2-135M-Instruct")
        logits, _ = model.network.apply(model.params, model.state, tokens)

    Args:
      path: a folder as Hugging Face's `save_pretrained` writes it, with `config.json`; a file of
        safetensors with a `config.json` beside it; or a GGUF file.
      dtype: of the parameters; by default that of the source, and float32 where that has weights in
        few bits.
      stacked: whether the blocks are one block that is repeated, see `gpt`.
      mesh: the devices to load onto, see `jaxnn.scale.mesh`; by default the first device. Each
        array is sent to its devices as soon as it is read.
      rules: the rules for the sharding of the parameters on the mesh, as for `fit`.

    Raises:
      InvalidType: if `mesh` or `rules` has the wrong type.
      InvalidValue: if the model is of no known family; if a key of its configuration may alter
        numbers and is not understood; if a tensor would not be used, is missing, or has another
        shape; if a file is corrupt, or a pickle; if there is less memory than it takes; or
        if `mesh` and `rules` do not match, as described for `jaxnn.scale.shard`.
    """
    source = open_source(Path(path).expanduser())
    plan = plan_of(source, stacked)
    links = tuple(link(plan.rows, _shapes(source), prefix=plan.prefix))
    forms = array_forms(source, stacked)
    check_links(links, forms)
    dtypes = _dtypes(source, links, None if dtype is None else jnp.dtype(dtype))
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
    """Returns the network of a source and its rules; raises if its family is not known."""
    settings = Settings(source.path.name, source.config, source.steps)
    plan = settings.choice("model_type", FAMILIES).plan(settings, stacked)
    settings.finish()
    return plan


def array_forms(source: Source, stacked: bool) -> dict[str, Any]:
    """Returns the shapes of all arrays of a network by name, those of its state among them."""
    # Of blocks that are one it is known as fast as of one block.
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
            fix="Leave stacked out",
        )
    return forms if stacked else apart


def _unstacked(forms: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the forms with `block_1`, `block_2`, ... instead of the layers of `blocks`."""
    apart = {}
    for name, form in forms.items():
        before, blocks, after = name.partition("/blocks/")
        layers = range(1, form.shape[0] + 1) if blocks else ()
        one = jax.ShapeDtypeStruct(form.shape[1:], form.dtype)
        apart |= {f"{before}/block_{n}/{after}": one for n in layers} or {name: form}
    return apart


def _shapes(source: Source) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in source.tensors.items()}


def _dtypes(source: Source, links: tuple[Link, ...], dtype: Any) -> dict[str, Any]:
    """Returns the dtype of each array; raises if a tensor does not hold floats."""
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
                    fix="Load the weights as they were before they were quantized",
                )
            dtypes[name] = own if dtype is None or name.startswith(STATE) else dtype
    return dtypes


def _shardings(forms: Mapping[str, Any], mesh: Mesh | None, rules: Any) -> dict[str, Any]:
    """Returns the sharding of each array; without a mesh there are none."""
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
    """Raises if the arrays need more memory than a device has free, before the first is read."""
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
            "the model is larger than the memory that is free",
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
    """Reads one array of the network, layer by layer into its place where they are stacked."""
    array = np.empty(shape, dtype)
    for each in links:
        if each.change.is_read and name in each.ours:
            part = each.change.split(tensors[each.theirs].read())[each.ours.index(name)]
            array[... if each.layer is None else each.layer] = part
    return array


def _nested(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a tree of dicts of arrays by name."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *nodes, last = name.split("/")
        node = tree
        for each in nodes:
            node = node.setdefault(each, {})
        node[last] = array
    return tree
