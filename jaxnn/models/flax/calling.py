"""How a model is called: its inputs, mode and randomness, passed by name.

A model is called through a function `call(module, inputs, **mode)`. The module is an NNX module, or
a Linen module that is bound to its variables. Several inputs, keyword inputs, masks, carries and
other methods take one line each:

    from_flax(Classifier(), call=lambda module, x, **mode: module(x["tokens"], x["mask"], **mode))
    from_flax(Autoencoder(), call=lambda module, x, key: module.encode(x, key))

The arguments of `call` after the first two select what it receives: a flag by any of the usual
names (`train`, `deterministic`), with the meaning of the name; `key`, a random key; `rngs`, for an
NNX model that is called with them. `**mode` receives the model's own flags. Without `call`, the
model is called on the inputs with its flags; a dict of inputs is passed as keyword arguments if its
keys are the names of the model's inputs.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax

from jaxnn.checks import Invalid, InvalidType, InvalidValue
from jaxnn.masked import refuse_masked
from jaxnn.models.flax.modes import FLAGS, check_booleans, chosen_flags, values
from jaxnn.names import listing, nearest
from jaxnn.typing import Any, Callable


class Options(NamedTuple):
    """The arguments of `from_flax` with these names."""

    call: Callable[..., Any] | None = None
    switch: str | Mapping[str, bool] | None = None
    inference_key: Any = None
    sown: Any = None
    paired: bool = False  # whether there is a second module for inference


@dataclass(frozen=True)
class Calling:
    """The way to call a model: `calling(module, inputs, key)`, where a key means training.

    Attributes:
      where: the name of the public function, for errors.
      title: the name of the model.
      inputs: the arguments of its `__call__` that are inputs, by name.
      flags: the flags that are arguments of its `__call__`, with their values in training.
      settings: the flags that are fields or attributes, with their values in training.
      options: the user's options.
      make_rngs: returns the `rngs` argument of the call for a key; `None` if it takes none.
    """

    where: str
    title: str
    inputs: dict[str, inspect.Parameter]
    flags: dict[str, bool]
    settings: dict[str, bool]
    options: Options
    make_rngs: Callable[[Any], Any] | None = None

    def key(self, key: Any) -> Any:
        """Returns the key of a call: in inference the user's `inference_key`, or `None`."""
        return self.options.inference_key if key is None else key

    def __call__(self, module: Any, inputs: Any, key: Any) -> Any:
        """Calls a module on the inputs."""
        training, call, key = key is not None, self.options.call, self.key(key)
        mode = values(self.flags, training)
        if self.make_rngs:
            mode |= {"rngs": None if key is None else self.make_rngs(key)}
        if call is None:
            refuse_masked(self.where, inputs)
            arguments, named = self._spread(inputs)
            return module(*arguments, **named, **mode)
        offered = {**values(FLAGS, training), **mode, "key": key}
        named, takes_others = _mode_arguments(call)
        mode = mode if takes_others else {}
        return call(module, inputs, **mode | {n: offered[n] for n in named if n in offered})

    @property
    def is_explicit(self) -> bool:
        """Whether the options determine how the mode reaches the model."""
        if self.options.call is None:
            return bool(self.options.switch) or self.options.paired
        named, takes_others = _mode_arguments(self.options.call)
        return bool(self.options.switch) or takes_others or bool(named.keys() & FLAGS.keys())

    @property
    def is_left(self) -> bool:
        """Whether the options declare that the model has no mode (`switch={}`)."""
        return self.options.switch is not None and not self.options.switch

    def _spread(self, inputs: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Converts the inputs to positional and keyword arguments of the model's call."""
        needed = [name for name, one in self.inputs.items() if one.default is one.empty]
        if isinstance(inputs, dict) and needed and {*needed} <= inputs.keys() <= {*self.inputs}:
            return (), inputs
        if type(inputs) is tuple and 1 < len(needed) <= len(inputs) <= len(self.inputs):
            return (), dict(zip(self.inputs, inputs))
        if len(needed) > 1:
            got = jax.tree.map(lambda x: getattr(x, "shape", x), inputs)
            raise InvalidType(
                self.where,
                f"{self.title} is called with {len(needed)} inputs: {', '.join(needed)}",
                got=f"inputs {got}",
                expected=f"a dict with these keys{self._others(needed)}, or an argument call",
                fix=f"Pass inputs {{{', '.join(f'{name!r}: ...' for name in needed)}}}, or write"
                f" {self.where}(..., call=lambda module, inputs, **mode:"
                f" module({', '.join('...' for _ in needed)}, **mode))",
            )
        first = self.inputs[needed[0]] if needed else None
        if first is not None and first.kind is first.KEYWORD_ONLY:
            return (), {first.name: inputs}
        return (inputs,), {}

    def _others(self, needed: list[str]) -> str:
        others = [name for name in self.inputs if name not in needed]
        return f" (and optionally {', '.join(others)})" if others else ""


def read_call(
    where: str, kind: type, options: Options, make_rngs: Callable[[Any], Any] | None = None
) -> Calling:
    """Determines how a model is called, from the signature of its class and the user's options.

    Raises:
      InvalidType: if `call` is not a function of `(module, inputs)`, or the model has no call.
      InvalidValue: if a boolean argument may be an undeclared flag for the mode, or `call` has an
        unknown argument.
    """
    parameters = call_parameters(kind)
    if not any("__call__" in vars(each) for each in kind.__mro__) and options.call is None:
        raise InvalidType(
            where,
            f"{kind.__name__} has no __call__",
            got="no call",
            expected="an argument call that calls the model",
            fix=f"Write {where}(..., call=lambda module, inputs: module.method(inputs))",
        )
    chosen = chosen_flags(where, options.switch)
    known = FLAGS if chosen is None else chosen
    flags = {name: on for name, on in known.items() if name in parameters}
    settings = {name: on for name, on in (chosen or {}).items() if name not in flags}
    inputs = {
        name: one
        for name, one in parameters.items()
        if name not in {*flags, "rngs"} and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    }
    calling = Calling(where, kind.__name__, inputs, flags, settings, options, make_rngs)
    if options.call is not None:
        _check_call(calling)
    elif chosen is None and not flags and not kind.__module__.startswith("flax."):
        check_booleans(where, kind.__name__, inputs)
    return calling


def call_parameters(kind: type) -> dict[str, inspect.Parameter]:
    """Returns the parameters of the `__call__` of a class, by name, without `self`."""
    call = next((vars(each)["__call__"] for each in kind.__mro__ if "__call__" in vars(each)), None)
    return dict([*inspect.signature(call).parameters.items()][1:]) if call else {}


def as_setting(calling: Calling, name: str) -> Calling:
    """Returns the calling with a flag of the call turned into a setting of the module."""
    flags, settings = dict(calling.flags), dict(calling.settings)
    settings[name] = flags.pop(name)
    return replace(calling, flags=flags, settings=settings)


def unknown_setting(calling: Calling, name: str, names: Any) -> Invalid:
    """Returns the error for a flag that the model does not have."""
    names = [*dict.fromkeys([*calling.inputs, *calling.flags, *names])]
    near = nearest(name, names)
    return InvalidValue(
        calling.where,
        f"{calling.title} has no flag {name!r}",
        got=f"switch={calling.options.switch!r}",
        expected=f"an argument of its call, or one of its settings: {listing(names)}",
        fix=f"Did you mean {near!r}?" if near else "Name the flag for the mode, or pass call=",
    )


def _check_call(calling: Calling) -> None:
    call = calling.options.call
    example = f"{calling.where}(..., call=lambda module, inputs, **mode: module(inputs, **mode))"
    try:
        arguments = [*inspect.signature(call).parameters.values()]  # pyright: ignore
    except (TypeError, ValueError):
        arguments = []
    positional = [
        one for one in arguments if one.kind in (one.POSITIONAL_ONLY, 1, one.VAR_POSITIONAL)
    ]
    if len(positional) < 2 and not any(one.kind is one.VAR_POSITIONAL for one in positional):
        raise InvalidType(
            calling.where,
            "call is not a function of the module and the inputs",
            got=f"call={call!r}",
            expected="call(module, inputs, ...)",
            fix=f"Write {example}",
        )
    offered = {*FLAGS, *calling.flags, "key"} | ({"rngs"} if calling.make_rngs else set())
    named, _ = _mode_arguments(call)
    for name, one in named.items():
        if name not in offered and one.default is one.empty:
            near = nearest(name, offered)
            raise InvalidValue(
                calling.where,
                "call has an unknown argument",
                got=f"an argument {name!r}",
                expected=f"some of {listing(sorted(offered))}, or **mode: the model's own flags",
                fix=f"Did you mean {near!r}?" if near else f"Write {example}",
            )
    wants_key = "key" in named and named["key"].default is inspect.Parameter.empty
    if wants_key and calling.options.inference_key is None:
        raise InvalidValue(
            calling.where,
            "call requires a key, but inference has none",
            got="an argument 'key'",
            expected="inference_key, or key=None if inference samples nothing",
            fix=f"Write {calling.where}(..., inference_key=jax.random.key(0))",
        )


def _mode_arguments(call: Any) -> tuple[dict[str, inspect.Parameter], bool]:
    """Returns the arguments of `call` after the first two, and whether it takes `**mode`."""
    arguments = [*inspect.signature(call).parameters.values()]
    first = sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in arguments)
    named = [*arguments[min(first, 2) : first], *(a for a in arguments if a.kind is a.KEYWORD_ONLY)]
    return {one.name: one for one in named}, any(a.kind is a.VAR_KEYWORD for a in arguments)
