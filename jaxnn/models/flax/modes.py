"""Training and inference: the flags that set the mode of a model, and checks that they take effect.

A flag that is never switched is a silent error: dropout never drops, or batch normalization never
updates its statistics. A boolean that may be such a flag is therefore an error until the user says
what it means. In training, layers with two modes are also checked: it is an error if all layers of
a kind compute as in inference.
"""

import inspect
import typing
from collections.abc import Mapping

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.typing import Any

# The usual names of the flag that sets the mode, with their values in training.
FLAGS = {"train": True, "training": True, "is_training": True}
FLAGS |= {"deterministic": False, "use_running_average": False}


def values(flags: Mapping[str, bool], training: bool) -> dict[str, bool]:
    """Returns the values of flags in training or in inference."""
    return {name: on is training for name, on in flags.items()}


def chosen_flags(where: str, switch: Any) -> dict[str, bool] | None:
    """Returns the flags that the user names, with their values in training; `None` for defaults.

    Raises:
      InvalidType: unless `switch` is a name, or a dict from names to booleans.
    """
    if switch is None:
        return None
    if isinstance(switch, str) and switch:
        return {switch: FLAGS.get(switch, True)}
    if isinstance(switch, Mapping):
        pairs = dict(switch)
        if all(isinstance(k, str) and isinstance(v, bool) for k, v in pairs.items()):
            return pairs
    raise InvalidType(
        where,
        "switch has the wrong type",
        got=f"switch={switch!r}",
        expected="the name of a flag, or {name: its value in training}",
        fix='Write switch="is_train", or {"frozen": False} for a flag that is false in training',
    )


def check_booleans(where: str, title: str, parameters: Mapping[str, inspect.Parameter]) -> None:
    """Raises `InvalidValue` if an argument of a call may be a mode flag that is not declared."""
    unknown = [name for name, one in parameters.items() if _is_boolean(one)]
    if unknown:
        name = unknown[0]
        raise InvalidValue(
            where,
            f"the call of {title} has a boolean that may be a flag for the mode",
            got=f"{', '.join(unknown)}, which would keep the default in training and in inference",
            expected=f"one of {', '.join(FLAGS)}, or a switch",
            fix=f"Write {where}(..., switch={name!r}) if it is true in training,"
            f" switch={{{name!r}: False}} if it is false in training, or switch={{}} if it is not a"
            " flag for the mode",
        )


def _is_boolean(parameter: inspect.Parameter) -> bool:
    kinds = (parameter.annotation, *typing.get_args(parameter.annotation))
    return isinstance(parameter.default, bool) or bool in kinds or kinds[0] in ("bool",)


def fixed_setting(where: str, title: str, name: str, value: bool) -> InvalidValue:
    """Returns the error for a module that is built with a fixed mode."""
    return InvalidValue(
        where,
        f"{title} is built with {name}={value}, which would apply in both modes",
        got=f"{title}({name}={value})",
        expected="a flag that follows the mode, or a statement that it does not",
        fix=f"Write {where}(..., switch={name!r}) to have it {FLAGS[name]} in training and"
        f" {not FLAGS[name]} in inference, or switch={{}} to leave it as it is",
    )


def check_reactions(
    where: str, title: str, reactions: Mapping[str, list[bool]], *, explicit: bool, called: bool
) -> None:
    """Raises `InvalidValue` if all layers of a kind compute as in inference during training.

    Args:
      where: the name of the public function, for the error.
      title: the name of the model.
      reactions: for each kind of layer, whether each layer that was called computed as in training.
      explicit: whether the user says how the mode reaches the model; then some kinds may be fixed.
      called: whether the user passes `call`.
    """
    still = [kind for kind, ones in reactions.items() if ones and not any(ones)]
    if not still or (explicit and len(still) < sum(map(bool, reactions.values()))):
        return
    flag = "use_running_average" if still == ["BatchNorm"] else "deterministic"
    fix = (
        f"Let call take a flag, lambda module, inputs, {flag}: ..., and pass it on"
        if called
        else 'Write switch="name" with the flag for the mode, inference=module for a second'
        " module, or call= to call the model yourself"
    )
    raise InvalidValue(
        where,
        f"{title} has {' and '.join(still)} that stays in inference mode during training",
        got="layers that the mode does not reach",
        expected="dropout that drops, and statistics that are updated",
        fix=f"{fix}; switch={{}} accepts it",
    )
