"""Maps operations of a compiled program to parts of the network, by their JAX names.

>>> part_of("jit(looped)/while/body/transpose(jvp(body))/blocks/while/body/closed_call/norm/mul")
'gradient of body/blocks/norm'
>>> part_of("jit(looped)/while/body/optimizer/add"), part_of("jit(looped)/while/body/mul")
('optimizer', '')
"""

import re
from collections.abc import Iterator

from jaxnn.programs import inner_programs, products_of
from jaxnn.typing import Any

_WRAPPED = re.compile(r"^(transpose|jvp|vmap|remat|checkpoint|rematted_computation)\((.*)\)$")
_STRUCTURE = re.compile(r"^(jit|pjit|xla_call|custom_jvp_call|custom_vjp_call)(\(.*\))?$")
_LOOPS = ("while", "closed_call", "checkpoint", "rematted_computation", "scan")
_SUBSCRIPTS = re.compile(r"[,>{}]|->")


def part_of(op_name: str) -> str:
    """Returns the part of an operation: `"body/norm"`, `"gradient of body/norm"`, `"optimizer"`.

    Operations outside of all parts, such as those of batches, losses and metrics, return `""`.
    """
    path, backward = scopes(op_name)
    return ("gradient of " if backward and path else "") + "/".join(path)


def scopes(op_name: str) -> tuple[list[str], bool]:
    """Returns the names of the scopes of an operation, and whether it is part of a gradient."""
    names, backward, loop = [], False, False
    for word in _split(op_name)[:-1]:
        while match := _WRAPPED.match(word):
            backward |= match.group(1) == "transpose"
            word = match.group(2)
        structure = _STRUCTURE.match(word) or not word or _SUBSCRIPTS.search(word)
        # A part may have the name `body`, as in `gpt`. The body of a loop follows a `while`.
        in_loop = word in _LOOPS or (loop and word in ("body", "cond"))
        if not structure and not in_loop:
            names.append(word)
        loop = word == "while"
    return names, backward


def _split(path: str) -> list[str]:
    """Splits a path at slashes outside of parentheses."""
    words, depth, word = [], 0, ""
    for letter in path:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "/" and depth == 0:
            words.append(word)
            word = ""
        else:
            word += letter
    return [*words, word]


def flops_by_scope(jaxpr: Any, scope: str = "", times: int = 1) -> Iterator[tuple[str, int]]:
    """Yields the name and FLOPs of each matrix product and convolution in a traced program."""
    for equation in jaxpr.eqns:
        own = "/".join(filter(None, (scope, str(equation.source_info.name_stack))))
        if products := products_of(equation):
            yield f"{own}/{equation.primitive.name}", 2 * times * products
        for inner, turns in inner_programs(equation):
            yield from flops_by_scope(inner, own, times * turns)
