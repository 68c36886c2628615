"""Training and inference: the flags by which a model knows which it is, and what they reach.

A flag that nobody switches is a silent fault: dropout that never drops, and batch normalization
that never learns its statistics. So a boolean that may be such a flag is an error until the user
says what it is, and in training the layers that have two modes are checked: if all of a kind
compute as in inference, that is an error too.
"""

import inspect
import typing
from collections.abc import Mapping

from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.typing import Any

# What authors of models call the flag of the mode, and its value in training.
FLAGS = {"train": True, "training": True, "is_training": True}
FLAGS |= {"deterministic": False, "use_running_average": False}


def values(flags: Mapping[str, bool], training: bool) -> dict[str, bool]:
    """Returns the values of flags in a mode."""
    return {name: on is training for name, on in flags.items()}


def chosen_flags(where: str, switch: Any) -> dict[str, bool] | None:
    """Returns the flags that the user names, with their values in training; `None` for a guess.

    Raises:
      InvalidType: unless it is a name, or names with booleans.
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
        fix='Write switch="is_train", or switch={"frozen": False} for one that is off in training',
    )


def check_booleans(where: str, title: str, parameters: Mapping[str, inspect.Parameter]) -> None:
    """Raises `InvalidValue` if an argument of a call may be a flag of the mode that is unknown."""
    unknown = [name for name, one in parameters.items() if _is_boolean(one)]
    if unknown:
        name = unknown[0]
        raise InvalidValue(
            where,
            f"{title} is called with a boolean that may say the mode",
            got=f"{', '.join(unknown)}, which would keep the default in training and in inference",
            expected=f"one of {', '.join(FLAGS)}, or a switch",
            fix=f"Write {where}(..., switch={name!r}) if it is on in training, switch={{{name!r}:"
            " False}} if it is off in training, or switch={} if it is no mode".replace("}}", "}"),
        )


def _is_boolean(parameter: inspect.Parameter) -> bool:
    kinds = (parameter.annotation, *typing.get_args(parameter.annotation))
    return isinstance(parameter.default, bool) or bool in kinds or kinds[0] in ("bool",)


def fixed_setting(where: str, title: str, name: str, value: bool) -> InvalidValue:
    """Returns the error of a module that was built in one mode."""
    return InvalidValue(
        where,
        f"{title} is built with {name}={value}, and would have it in both modes",
        got=f"{title}({name}={value})",
        expected="a flag that training switches, or a word that it stays",
        fix=f"Write {where}(..., switch={name!r}) to have it {FLAGS[name]} in training and"
        f" {not FLAGS[name]} in inference, or switch={{}} to leave it as it is",
    )


def check_reactions(
    where: str, title: str, reactions: Mapping[str, list[bool]], *, explicit: bool, called: bool
) -> None:
    """Raises `InvalidValue` if layers that have two modes do not train in training.

    Args:
      reactions: by the kind of layer, whether each that was called computed as in training.
      explicit: whether the user says how the mode reaches the model; then some may stay.
      called: whether the user calls the model.
    """
    still = [kind for kind, ones in reactions.items() if ones and not any(ones)]
    if not still or (explicit and len(still) < sum(map(bool, reactions.values()))):
        return
    flag = "use_running_average" if still == ["BatchNorm"] else "deterministic"
    fix = (
        f"Let call take a flag, lambda module, inputs, {flag}: ..., and pass it on"
        if called
        else 'Write switch="name" with the flag that starts it, inference=module for a second'
        " module, or call= to call it yourself"
    )
    raise InvalidValue(
        where,
        f"{title} has {' and '.join(still)} that is as in inference while it trains",
        got="a mode that does not reach it",
        expected="dropout that drops and statistics that are learned",
        fix=f"{fix}; switch={{}} leaves it so",
    )
