"""Replay finds where NaN comes from: it does a computation again, one operation at a time.

NaN spreads: from one logarithm to the loss, every gradient and every parameter. Asking which values
are not finite gives a hundred answers; the one that helps is the operation that made the first of
them from finite numbers. `first_not_finite` traces a function, keeps all that its operations give,
and goes back from what came out wrong along the values that made it wrong. So what is not finite on
purpose is not blamed, nor what reaches no output: a mask of `-inf` before a softmax, a best loss
that begins at infinity, a logarithm whose NaN a `where` leaves out.

    >>> import jax.numpy as jnp
    >>> def loss(x):
    ...     with jax.named_scope("output"):
    ...         return jnp.log(x - 1.0).sum()
    >>> finding = first_not_finite(loss, jnp.array([2.0, 1.0, 3.0]))
    >>> finding.operation, finding.gave, finding.layer, finding.inputs
    ('log', '-inf', 'output', ('float32[3] from 0 to 2',))

The rule: NaN is a fault wherever it comes from; an infinity is one if arithmetic made it of finite
numbers, and it, or NaN that came of it, is in an output. Functions that are called, branches and
loops are entered only if they gave something that is not finite, and loops turn by turn.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

from jaxnn.diagnosis.cause import Finding, layer_of, line_of, phase_of, text_of, trouble_of
from jaxnn.typing import Any, Callable

# Operations that do the one program that they hold, once, on their own operands.
_CALLS = {"jit", "closed_call", "core_call", "remat2", "custom_jvp_call", "custom_vjp_call"}
_ENTERED = {*_CALLS, "cond", "scan", "while"}


def first_not_finite(function: Callable[..., Any], *arguments: Any) -> Finding | None:
    """Finds the operation that first gave what is not finite, of those that spoilt the outputs.

    Everything that the operations give is kept until the search is over: many times the memory
    that the compiled program takes.

    Args:
      function: any function of pytrees of arrays, such as the `step` of a learner.
      *arguments: what it is called with; nothing is donated, whatever the function says.

    Returns:
      What was found. `None` if all outputs are finite; if they hold infinities, but none that
      arithmetic made; or if the operations one by one give finite numbers, where the compiled
      program, which may do them in another order, did not.
    """
    program = jax.make_jaxpr(function)(*arguments)
    values = jax.tree.leaves(arguments)
    spoilt = {trouble_of(value) for value in _whole(program, *values)}
    if spoilt <= {""}:
        return None
    findings = _search(program, values, _Place(), itertools.repeat(False))
    first = next(findings, None)
    if first is None:
        return _given(arguments) if "NaN" in spoilt else None
    if first.gave != "NaN" and "NaN" in spoilt:
        nan = next((finding for finding in findings if finding.gave == "NaN"), None)
        return replace(first, then=f"{nan.operation} at {nan.where}" if nan else "")
    return first


def _given(arguments: Any) -> Finding | None:
    """Returns the first argument that holds NaN."""
    for path, value in jax.tree.leaves_with_path(arguments):
        if trouble_of(value) == "NaN":
            where, text = jax.tree_util.keystr(path), text_of(np.asarray(value))
            return Finding("argument", "NaN", "", "forward", where, (), (text,))
    return None


# --- Searching a program -----------------------------------------------------------------------


class _Place(NamedTuple):
    """Where a program was called from: its scopes, its line, and the turns of loops around it."""

    scopes: str = ""
    line: str = ""
    iterations: tuple[int, ...] = ()


def _search(
    program: ClosedJaxpr, arguments: Iterable[Any], place: _Place, late: Iterable[bool]
) -> Iterator[Finding]:
    """Yields what is found in a program in the order of its operations.

    `late` says of each output of the program whether only gradients use it.
    """
    jaxpr = program.jaxpr
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, program.consts))
    values |= zip(jaxpr.invars, arguments)
    for equation in jaxpr.eqns:
        values |= zip(equation.outvars, _results(jaxpr, equation, _operands(equation, values)))
    trouble = {variable: trouble_of(value) for variable, value in values.items()}
    for suspect in _suspects(jaxpr, trouble, late):
        inputs = _operands(suspect.equation, values)
        outputs = [values[variable] for variable in suspect.equation.outvars]
        yield from _findings(suspect, inputs, outputs, place)


class _Suspect(NamedTuple):
    """An operation that may have spoilt the outputs of the program that it is in.

    Attributes:
      equation: the operation.
      late: of each of its results, whether only gradients use it.
      alone: whether nothing that it was given explains what it gave.
    """

    equation: JaxprEqn
    late: list[bool]
    alone: bool


def _suspects(jaxpr: Jaxpr, trouble: dict[Any, str], late: Iterable[bool]) -> list[_Suspect]:
    """Returns what may have spoilt the outputs of a program, in the order of its operations.

    Goes backwards: what spoilt a wanted value is a suspect, unless its operands explain it; then
    those are wanted. NaN explains NaN, and infinity infinity. A constant that is NaN explains
    nothing, since nothing before it is to blame; one that is infinite does, since it was written on
    purpose. What has operations inside is a suspect in any case: they may have done some of it.
    """
    wanted = {variable for variable in _variables(jaxpr.outvars) if trouble[variable]}
    timely = {*_variables(atom for atom, later in zip(jaxpr.outvars, late) if not later)}
    suspects = []
    for equation in reversed(jaxpr.eqns):
        later = [variable not in timely for variable in equation.outvars]
        if not all(later) and phase_of(str(equation.source_info.name_stack)) != "backward":
            timely.update(_variables(equation.invars))
        spoilt = {trouble[variable] for variable in equation.outvars if variable in wanted}
        if spoilt <= {""}:
            continue
        causes = {variable for variable in _variables(equation.invars) if trouble[variable]}
        nans = {variable for variable in causes if trouble[variable] == "NaN"}
        if "NaN" in spoilt:
            wanted |= nans or causes
            alone = nans.issubset(jaxpr.constvars)
        else:
            wanted |= causes
            literals = [atom.val for atom in equation.invars if isinstance(atom, Literal)]
            alone = not causes and not any(map(trouble_of, literals))
        if alone or equation.primitive.name in _ENTERED:
            suspects.append(_Suspect(equation, later, alone))
    return suspects[::-1]


def _findings(suspect: _Suspect, inputs: Any, outputs: Any, place: _Place) -> Iterator[Finding]:
    """Yields what is found inside an operation; if there is nothing, the operation itself."""
    equation, late, alone = suspect
    scopes = f"{place.scopes}/{equation.source_info.name_stack}".strip("/")
    line = line_of(equation) or place.line
    inside = False
    for turn, program, arguments, results in _turns(equation, inputs):
        if any(map(trouble_of, results)):
            below = _Place(scopes, line, place.iterations + turn)
            for finding in _search(program, arguments, below, late):
                inside = True
                yield finding
    gave = {trouble_of(output) for output in outputs}
    # An infinity of operations of which none is to blame for it was written there on purpose.
    if alone and not inside and ("NaN" in gave or equation.primitive.name not in _ENTERED):
        yield Finding(
            operation=equation.params.get("name", equation.primitive.name).strip("_"),
            gave="NaN" if "NaN" in gave else max(gave),
            layer=layer_of(scopes),
            phase=phase_of(scopes, all(late)),
            where=line,
            inputs=tuple(map(text_of, inputs)),
            outputs=tuple(map(text_of, outputs)),
            iterations=place.iterations,
        )


# --- Doing operations --------------------------------------------------------------------------


@partial(jax.jit, static_argnums=0)
def _whole(program: ClosedJaxpr, *arguments: Any) -> Any:
    return jaxpr_as_fun(program)(*arguments)


def _results(jaxpr: Jaxpr, equation: JaxprEqn, operands: list[Any]) -> Any:
    """Does one operation of a program."""
    if equation.primitive.name in _CALLS:
        # Not the call itself, which may use up its operands.
        return _whole(_called(equation), *operands)
    given = {atom: value for atom, value in zip(equation.invars, operands) if _is_variable(atom)}
    alone = jaxpr.replace(constvars=(), invars=[*given], outvars=equation.outvars, eqns=[equation])
    return jaxpr_as_fun(ClosedJaxpr(alone, ()))(*given.values())


def _turns(equation: JaxprEqn, operands: list[Any]) -> Iterator[tuple[Any, ClosedJaxpr, Any, Any]]:
    """Yields `(turn, program, arguments, results)` each time that a program inside is done."""
    name, params = equation.primitive.name, equation.params
    if name in _CALLS:
        program = _called(equation)
        yield (), program, operands, _whole(program, *operands)
    elif name == "cond":
        index, *arguments = operands
        branch = params["branches"][np.clip(index, 0, len(params["branches"]) - 1)]
        yield (), branch, arguments, _whole(branch, *arguments)
    elif name == "scan":
        body, length = params["jaxpr"], params["length"]
        first, last = params["num_consts"], params["num_consts"] + params["num_carry"]
        constants, carry, scanned = operands[:first], operands[first:last], operands[last:]
        for turn in reversed(range(length)) if params["reverse"] else range(length):
            arguments = [*constants, *carry, *(values[turn] for values in scanned)]
            results = _whole(body, *arguments)
            yield (turn,), body, arguments, results
            carry = results[: len(carry)]
    elif name == "while":
        condition, body = params["cond_jaxpr"], params["body_jaxpr"]
        first, last = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        asked, constants, carry = operands[:first], operands[first:last], operands[last:]
        for turn in itertools.count():
            if not _whole(condition, *asked, *carry)[0]:
                break
            arguments = [*constants, *carry]
            carry = _whole(body, *arguments)
            yield (turn,), body, arguments, carry


def _called(equation: JaxprEqn) -> ClosedJaxpr:
    program = equation.params.get("jaxpr") or equation.params["call_jaxpr"]
    return program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, ())


def _operands(equation: Any, values: dict[Any, Any]) -> list[Any]:
    return [
        values[atom] if _is_variable(atom) else np.asarray(atom.val, atom.aval.dtype)
        for atom in equation.invars
    ]


def _variables(atoms: Iterable[Any]) -> list[Any]:
    return [atom for atom in atoms if _is_variable(atom)]


def _is_variable(atom: Any) -> bool:
    return not isinstance(atom, Literal)
