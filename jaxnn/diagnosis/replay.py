"""Locates the origin of NaN by repeating a computation one operation at a time.

NaN spreads from one logarithm to the loss, every gradient and every parameter. The useful answer is
the operation that first computed it from finite numbers. `first_not_finite` traces a function,
stores every intermediate value, and follows the non-finite outputs back to their causes. So it
ignores intended infinities and those that do not reach an output: a mask of `-inf` before a
softmax, a best loss that is initially infinite, a logarithm whose NaN a `where` discards.

    >>> import jax.numpy as jnp
    >>> def loss(x):
    ...     with jax.named_scope("output"):
    ...         return jnp.log(x - 1.0).sum()
    >>> finding = first_not_finite(loss, jnp.array([2.0, 1.0, 3.0]))
    >>> finding.operation, finding.gave, finding.layer, str(finding.inputs[0])
    ('log', '-inf', 'output', 'float32[3] from 0 to 2')

NaN is always reported. An infinity is reported if an operation computed it from finite numbers, and
if it, or NaN that it caused, reaches an output. The search enters called functions, branches and
loops only if their results are not finite, and repeats loops one iteration at a time.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

from jaxnn.diagnosis.cause import Finding, layer_of, line_of, nonfinite_of, phase_of, summary_of
from jaxnn.typing import Any, Callable

# Operations that call one inner program once, with their own operands.
_CALLS = {"jit", "closed_call", "core_call", "remat2", "custom_jvp_call", "custom_vjp_call"}
_ENTERED = {*_CALLS, "cond", "scan", "while"}


def first_not_finite(function: Callable[..., Any], *arguments: Any) -> Finding | None:
    """Returns the first operation whose NaN or infinity reaches the outputs of a function.

    The search stores all intermediate values until it ends, which takes many times the memory of
    the compiled program. No arguments are donated.

    Args:
      function: a function of pytrees of arrays, such as the `step` of a learner.
      *arguments: its arguments.

    Returns:
      A `Finding`, or `None`: if all outputs are finite, if no operation computed their infinities,
      or if the operations give finite numbers when executed separately (the compiled program may
      evaluate them in another order).
    """
    program = jax.make_jaxpr(function)(*arguments)
    values = jax.tree.leaves(arguments)
    bad = {nonfinite_of(value) for value in _whole(program, *values)}
    if bad <= {""}:
        return None
    findings = _search(program, values, _Place(), itertools.repeat(False))
    first = next(findings, None)
    if first is None:
        for path, value in jax.tree.leaves_with_path(arguments) if "NaN" in bad else ():
            if nonfinite_of(value) == "NaN":
                where, held = jax.tree_util.keystr(path), summary_of(np.asarray(value))
                return Finding("argument", "NaN", "", "forward", where, (), (held,))
        return None
    if first.gave != "NaN" and "NaN" in bad:
        nan = next((finding for finding in findings if finding.gave == "NaN"), None)
        return replace(first, then=f"{nan.operation} at {nan.where}" if nan else "")
    return first


# --- Searching a program -----------------------------------------------------------------------


class _Place(NamedTuple):
    """The caller of a program: its scopes, its line, and the iterations of the loops outside."""

    scopes: str = ""
    line: str = ""
    iterations: tuple[int, ...] = ()


def _search(
    program: ClosedJaxpr, arguments: Iterable[Any], place: _Place, for_gradient: Iterable[bool]
) -> Iterator[Finding]:
    """Yields the findings in a program, in the order of its operations.

    `for_gradient` contains, for each output of the program, whether only gradients use it.
    """
    jaxpr = program.jaxpr
    values: dict[Var, Any] = dict(zip(jaxpr.constvars, program.consts))
    values |= zip(jaxpr.invars, arguments)
    for equation in jaxpr.eqns:
        values |= zip(equation.outvars, _results(jaxpr, equation, _operands(equation, values)))
    held = {variable: nonfinite_of(value) for variable, value in values.items()}
    for equation, only, alone in _suspects(jaxpr, held, for_gradient):
        inputs = _operands(equation, values)
        outputs = [values[variable] for variable in equation.outvars]
        yield from _findings(equation, inputs, outputs, place, only, alone)


def _suspects(
    jaxpr: Jaxpr, held: dict[Var, str], for_gradient: Iterable[bool]
) -> list[tuple[JaxprEqn, list[bool], bool]]:
    """Returns the possible causes of a program's non-finite outputs, in order.

    Each is a triple: an operation; for each of its results, whether only gradients use it; and
    whether no operand explains its result.

    The search runs backwards. An operation that computed a wanted non-finite value is a suspect,
    unless an operand explains it; then that operand is wanted. NaN explains NaN, and infinity
    explains infinity. A NaN constant explains nothing, since no earlier operation can be the cause.
    An infinite constant does, since it is intended. An operation with an inner program is always a
    suspect, since part of the cause may be inside.
    """
    wanted = {variable for variable in _variables(jaxpr.outvars) if held[variable]}
    forward = {*_variables(atom for atom, only in zip(jaxpr.outvars, for_gradient) if not only)}
    suspects = []
    for equation in reversed(jaxpr.eqns):
        only = [variable not in forward for variable in equation.outvars]
        if not all(only) and phase_of(str(equation.source_info.name_stack)) != "backward":
            forward.update(_variables(equation.invars))
        bad = {held[variable] for variable in equation.outvars if variable in wanted}
        if bad <= {""}:
            continue
        causes = {variable for variable in _variables(equation.invars) if held[variable]}
        nans = {variable for variable in causes if held[variable] == "NaN"}
        if "NaN" in bad:
            wanted |= nans or causes
            alone = nans.issubset(jaxpr.constvars)
        else:
            wanted |= causes
            literals = [atom.val for atom in equation.invars if isinstance(atom, Literal)]
            alone = not causes and not any(map(nonfinite_of, literals))
        if alone or equation.primitive.name in _ENTERED:
            suspects.append((equation, only, alone))
    return suspects[::-1]


def _findings(
    equation: JaxprEqn,
    inputs: list[Any],
    outputs: list[Any],
    place: _Place,
    for_gradient: list[bool],
    alone: bool,
) -> Iterator[Finding]:
    """Yields the findings inside an operation; if there are none, the operation itself."""
    scopes = f"{place.scopes}/{equation.source_info.name_stack}".strip("/")
    line = line_of(equation) or place.line
    inside = False
    for iteration, program, arguments, results in _runs_inside(equation, inputs):
        if any(map(nonfinite_of, results)):
            below = _Place(scopes, line, place.iterations + iteration)
            for finding in _search(program, arguments, below, for_gradient):
                inside = True
                yield finding
    gave = {nonfinite_of(output) for output in outputs}
    # An infinity inside that no operation computed is an intended constant.
    if alone and not inside and ("NaN" in gave or equation.primitive.name not in _ENTERED):
        yield Finding(
            operation=equation.params.get("name", equation.primitive.name).strip("_"),
            gave="NaN" if "NaN" in gave else max(gave),
            layer=layer_of(scopes),
            phase=phase_of(scopes, all(for_gradient)),
            where=line,
            inputs=tuple(map(summary_of, inputs)),
            outputs=tuple(map(summary_of, outputs)),
            iterations=place.iterations,
        )


# --- Running operations --------------------------------------------------------------------------


@partial(jax.jit, static_argnums=0)
def _whole(program: ClosedJaxpr, *arguments: Any) -> list[Any]:
    return jaxpr_as_fun(program)(*arguments)


def _results(jaxpr: Jaxpr, equation: JaxprEqn, operands: list[Any]) -> list[Any]:
    """Runs one operation of a program."""
    if equation.primitive.name in _CALLS:
        # Executes the inner program, since the call itself may donate its operands.
        return _whole(_called(equation), *operands)
    given = {x: v for x, v in zip(equation.invars, operands) if not isinstance(x, Literal)}
    alone = jaxpr.replace(constvars=(), invars=[*given], outvars=equation.outvars, eqns=[equation])
    return jaxpr_as_fun(ClosedJaxpr(alone, ()))(*given.values())


def _runs_inside(
    equation: JaxprEqn, operands: list[Any]
) -> Iterator[tuple[tuple[int, ...], ClosedJaxpr, list[Any], list[Any]]]:
    """Yields `(iteration, program, arguments, results)` for each call of an inner program."""
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
        for iteration in reversed(range(length)) if params["reverse"] else range(length):
            arguments = [*constants, *carry, *(values[iteration] for values in scanned)]
            results = _whole(body, *arguments)
            yield (iteration,), body, arguments, results
            carry = results[: len(carry)]
    elif name == "while":
        condition, body = params["cond_jaxpr"], params["body_jaxpr"]
        first, last = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        asked, constants, carry = operands[:first], operands[first:last], operands[last:]
        for iteration in itertools.count():
            if not _whole(condition, *asked, *carry)[0]:
                break
            arguments = [*constants, *carry]
            carry = _whole(body, *arguments)
            yield (iteration,), body, arguments, carry


def _called(equation: JaxprEqn) -> ClosedJaxpr:
    program = equation.params.get("jaxpr") or equation.params["call_jaxpr"]
    return program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, ())


def _operands(equation: Any, values: dict[Var, Any]) -> list[Any]:
    return [
        values[atom] if isinstance(atom, Var) else np.asarray(atom.val, atom.aval.dtype)
        for atom in equation.invars
    ]


def _variables(atoms: Iterable[Var | Literal]) -> list[Var]:
    return [atom for atom in atoms if not isinstance(atom, Literal)]
