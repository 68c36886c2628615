"""Names of the leaves of a pytree, and rules over them: `{pattern: value}`, the first match wins.

The name of a leaf is its path, such as `layers/hidden_1/weight`: dict keys, sequence indices and
tuple fields, separated by `/`. Rules select leaves to freeze, rename or decay, for example:

    {"layers/*/bias": "no decay", "layers": "decay", "*": "frozen"}

A pattern matches a leaf, or a node together with all leaves below it, as `layers` does. In a
pattern, `*` matches any characters, including `/` and none, and `{n}` matches an integer. `{n+1}`
stands for `n` plus 1, so that a rule `"layers.{n}": "block_{n+1}"` renumbers blocks. A rule that
matches nothing, or only leaves that earlier rules match, is an error.

>>> tree = {"layers": [{"weight": 1.0, "bias": 2.0}], "head": {"weight": 3.0}}
>>> named_leaves(tree)
{'head/weight': 3.0, 'layers/0/bias': 2.0, 'layers/0/weight': 1.0}
>>> chosen("freeze", {"layers/*/weight": True, "*": False}, named_leaves(tree))
['layers/0/weight']
"""

import difflib
import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import optax

from jaxnn.checks import InvalidType, InvalidValue, kind
from jaxnn.typing import Any, Callable

_NUMBER = re.compile(r"\{([a-z])([+-]\d+)?\}")  # `{n}`, `{n+1}`


class Match(NamedTuple):
    """The match of a name: the first pattern that matches it, and the value of that rule."""

    pattern: str
    value: Any
    captured: tuple[str, ...]  # the text that each `*` of the pattern matches
    under: str  # the rest of the name, "/weight", if the pattern matches a node above the leaf
    numbers: Mapping[str, int] = {}  # the value of each `{n}`, by its letter

    def fill(self, where: str, template: str) -> str:
        """Substitutes the captured text and numbers in a template, and appends `under`.

        Raises:
          InvalidValue: if the template has some `*`, but not as many as the pattern.

        Example:
          >>> Match("body/*", "layers/*", ("0",), "/weight").fill("rename", "layers/*")
          'layers/0/weight'
        """
        template = _NUMBER.sub(self._number, template)
        pieces = template.split("*")
        captured = self.captured if len(pieces) > 1 else ()
        if len(pieces) != len(captured) + 1:
            raise InvalidValue(
                where,
                "the two sides of a rule have different numbers of *",
                got=f"{self.pattern!r}: {template!r}",
                expected=f"{len(captured)} * on the right, or none",
                fix="Write as many * on the right as on the left: 'body/*': 'layers/*'",
            )
        filled = itertools.zip_longest(pieces, captured, fillvalue="")
        return "".join(itertools.chain(*filled)) + self.under

    def _number(self, hole: re.Match[str]) -> str:
        letter, offset = hole[1], int(hole[2] or 0)
        return str(self.numbers[letter] + offset) if letter in self.numbers else hole[0]


def match_name(pattern: str, name: str, *, nodes: bool = True) -> Match | None:
    """Matches a pattern with a name or, if `nodes`, a node above it; returns `None` if it fails.

    Example:
      >>> match_name("layers.{n}.w", "layers.3.w").fill("rename", "block_{n+1}/weight")
      'block_4/weight'
    """
    expression, offsets = _compiled(pattern, nodes)
    hit = expression.fullmatch(name)
    if hit is None:
        return None
    numbers = {letter: int(hit[letter]) - offset for letter, offset in offsets.items()}
    *captured, under = (hit[i] for i in range(1, expression.groups + 1) if i not in _named(hit))
    return Match(pattern, None, tuple(captured), under, numbers)


def _named(hit: re.Match[str]) -> set[int]:
    return {*hit.re.groupindex.values()}


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str, nodes: bool) -> tuple[re.Pattern[str], dict[str, int]]:
    """Returns a pattern as a regular expression, and the offset of each numbered letter."""
    offsets = {letter: int(offset or 0) for letter, offset in _NUMBER.findall(pattern)}
    pieces = []
    for piece in re.split(r"(\*|\{[a-z](?:[+-]\d+)?\})", pattern):
        hole = _NUMBER.fullmatch(piece)
        seen = hole is not None and f"(?P<{hole[1]}>" in "".join(pieces)
        number = hole and (f"(?P={hole[1]})" if seen else f"(?P<{hole[1]}>0|[1-9][0-9]*)")
        pieces.append("(.*)" if piece == "*" else number or re.escape(piece))
    return re.compile("".join(pieces) + ("(|/.*)" if nodes else "()"), re.DOTALL), offsets


def named_leaves(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by name, in the order of the tree.

    Raises:
      InvalidValue: if two leaves have the same name, because a key contains `/`.
    """
    leaves = jax.tree.leaves_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidValue(
            "named_leaves",
            "two leaves of a tree have the same name",
            got=f"{twice!r} twice",
            expected="distinct names",
            fix="Use keys without a / in them",
        )
    return {name: leaf for name, (_, leaf) in zip(names, leaves)}


def pairs_of(where: str, rules: Any) -> list[tuple[str, Any]]:
    """Returns rules, `{pattern: value}` or pairs, as a list of pairs.

    Raises:
      InvalidType: if the rules have another form.
    """
    pairs = list(rules.items()) if isinstance(rules, Mapping) else rules
    if isinstance(pairs, list | tuple) and all(
        isinstance(rule, tuple) and len(rule) == 2 and isinstance(rule[0], str) for rule in pairs
    ):
        return list(pairs)
    raise InvalidType(
        where,
        "the rules have the wrong type",
        got=repr(rules),
        expected="{pattern: value}, or a list of pairs (pattern, value), with string patterns",
        fix="Write {'head': value, 'layers/*': value}",
    )


def matched(
    where: str,
    rules: Mapping[str, Any] | Sequence[tuple[str, Any]],
    names: Iterable[str],
    *,
    strict: bool = True,
) -> dict[str, Match]:
    """Returns the match of each name that some rule matches, in the order of the rules.

    Args:
      where: the name of the caller, for errors.
      rules: `{pattern: value}`, or pairs `(pattern, value)`; the first match wins.
      names: the names of the leaves, as in `named_leaves`.
      strict: whether unused rules are errors.

    Raises:
      InvalidType: if the rules have another form.
      InvalidValue: if a pattern matches no name, or only names that earlier patterns match.
    """
    names, matches = list(names), {}
    for pattern, value in pairs_of(where, rules):
        hits = _hits(where, pattern, names, strict=strict)
        fresh = {
            name: hit._replace(value=value) for name, hit in hits.items() if name not in matches
        }
        if strict and not fresh:
            earlier = list(dict.fromkeys(repr(matches[name].pattern) for name in hits))
            raise InvalidValue(
                where,
                "a rule is never used, since earlier rules match all of its names",
                got=f"{pattern!r} after {', '.join(earlier)}",
                expected="rules from the special to the general: the first match wins",
                fix=f"Leave {pattern!r} out, or put it before {earlier[0]}",
            )
        matches |= fresh
    return matches


def chosen(
    where: str, rules: Mapping[str, bool] | Sequence[tuple[str, bool]], names: Iterable[str]
) -> list[str]:
    """Returns the names that rules `{pattern: bool}` map to true; unmatched names are false.

    Raises:
      InvalidType: if the value of a rule is not a bool.
      InvalidValue: as in `matched`.
    """
    names = list(names)
    matches = matched(where, rules, names)
    for pattern, value in {match.pattern: match.value for match in matches.values()}.items():
        kind(where, f"the rule {pattern!r}", value, bool, fix=f"Write {{{pattern!r}: True}}")
    return [name for name in names if name in matches and matches[name].value]


def picked(where: str, patterns: Sequence[str], names: Iterable[str]) -> list[str]:
    """Returns the names that some pattern matches completely, in their order.

    Unlike in rules, the pattern of a node does not match the names below it.

    Raises:
      InvalidType: if the patterns are not strings.
      InvalidValue: if a pattern matches no name.
    """
    check_patterns(where, patterns)
    names = list(names)
    matching = {name for each in patterns for name in _hits(where, each, names, nodes=False)}
    return [name for name in names if name in matching]


def check_patterns(where: str, patterns: Any) -> None:
    """Raises `InvalidType` unless the patterns are a list of strings."""
    if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
        raise InvalidType(
            where,
            "the patterns have the wrong type",
            got=repr(patterns),
            expected="a list of names, in which * matches any characters",
            fix="Write ['head', 'layers/*']",
        )


def param_labels(rules: Mapping[str, Any] | Sequence[tuple[str, Any]]) -> Callable[[Any], Any]:
    """Returns a function that labels each leaf of a tree with the value of its rule, for Optax.

    For example, different learning rates by name, and weight decay except for biases and norms:

        optax.partition({"slow": optax.adam(1e-4), "fast": optax.adam(1e-2)},
                        param_labels({"body": "slow", "*": "fast"}))
        optax.adamw(1e-3, mask=param_labels({"*/bias": False, "*/scale": False, "*": True}))

    Args:
      rules: `{pattern: value}`, or pairs; the first match wins.

    Returns:
      A function `tree -> labels`, with the structure of the tree.

    Raises:
      InvalidType: if the rules have another form.
      InvalidValue: from the function, if no rule matches a leaf, or a rule matches no leaf.

    Example:
      >>> param_labels({"*/bias": False, "*": True})({"layer": {"bias": 1.0, "weight": 2.0}})
      {'layer': {'bias': False, 'weight': True}}
    """
    pairs_of("param_labels", rules)

    def label(tree: Any) -> Any:
        # Leaves that an outer optimizer has masked have names too, since rules may match them.
        structure = jax.tree.structure(tree, is_leaf=lambda x: isinstance(x, optax.MaskedNode))
        names = list(named_leaves(jax.tree.unflatten(structure, range(structure.num_leaves))))
        matches = matched("param_labels", rules, names)
        left = [name for name in names if name not in matches]
        if left:
            raise InvalidValue(
                "param_labels",
                "no rule matches some of the leaves",
                got=f"nothing for {listing(left)}",
                expected="a value for each leaf",
                fix="Add a last rule for all other leaves: '*'",
            )
        return jax.tree.unflatten(structure, [matches[name].value for name in names])

    return label


def listing(names: Iterable[str], most: int = 20) -> str:
    """Returns names as a list for an error message, at most `most` of them."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Returns the name, or node above a name, that is most similar; `None` if none is similar."""
    join = "{}/{}".format
    nodes = {node for path in names for node in itertools.accumulate(path.split("/"), join)}
    return next(iter(difflib.get_close_matches(name, sorted(nodes), n=1, cutoff=0.5)), None)


def _hits(
    where: str, pattern: str, names: list[str], *, nodes: bool = True, strict: bool = True
) -> dict[str, Match]:
    """Returns the match of each name that the pattern matches."""
    matches = ((name, match_name(pattern, name, nodes=nodes)) for name in names)
    hits = {name: match for name, match in matches if match is not None}
    if strict and not hits:
        near = nearest(pattern, names)
        raise InvalidValue(
            where,
            "a rule matches no name",
            got=repr(pattern),
            expected=f"a pattern for some of {listing(names)}",
            fix=f"Did you mean {near!r}?"
            if near
            else "Write one of those names, or * for any part",
        )
    return hits
