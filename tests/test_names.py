"""Names of leaves and rules over them: what matches what, and what is said of useless rules."""

import re
from collections import namedtuple

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxnn
from jaxnn.checks import InvalidType, InvalidValue
from jaxnn.names import Match, chosen, listing, matched, named_leaves, nearest
from tests.mistakes import judge

NAMES = ["body/0/bias", "body/0/weight", "body/10/weight", "head/weight", "header/weight"]


def values(rules, names=NAMES):
    return {name: match.value for name, match in matched("freeze", rules, names).items()}


def said(error, call):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


# --- Names -------------------------------------------------------------------------------------


def test_a_name_is_the_path_through_dicts_sequences_and_fields():
    pair = namedtuple("pair", ["left", "right"])
    tree = {"b": [1, (2, 3)], "a": pair(4, {"deep": 5}), "none": None, "empty": {}}
    assert named_leaves(tree) == {"a/left": 4, "a/right/deep": 5, "b/0": 1, "b/1/0": 2, "b/1/1": 3}
    assert named_leaves(7) == {"": 7}


def test_names_are_in_the_order_of_the_tree():
    params, _ = jaxnn.mlp([2] * 11, 1).init(jax.random.key(0), jnp.ones((1, 2)))
    shapes = [x.shape for x in jax.tree.leaves(params)]
    assert [x.shape for x in named_leaves(params).values()] == shapes
    assert list(named_leaves(params))[:4] == [
        "hidden_1/bias", "hidden_1/weight", "hidden_10/bias", "hidden_10/weight",
    ]  # fmt: skip


def test_chosen_names_have_the_order_of_the_names():
    """And not that of a set, which differs between processes: draws by it would, too."""
    names = [*"hgfedcbaij"]
    assert chosen("lora", {"j": True, "a": False, "*": True}, iter(names)) == [*"hgfedcbij"]


def test_the_memory_of_an_optimizer_has_names_too():
    memory = optax.adam(0.1).init({"layer": {"weight": jnp.ones(2)}})
    assert list(named_leaves(memory)) == ["0/count", "0/mu/layer/weight", "0/nu/layer/weight"]


def test_two_leaves_of_one_name_are_told_apart_by_nobody():
    text = said(InvalidValue, lambda: named_leaves({"a": {"b": 1}, "a/b": 2}))
    assert text == (
        "named_leaves: two leaves of a tree have the same name. Got 'a/b' twice; expected distinct"
        " names. Use keys without a / in them."
    )


# --- Rules -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        ("head/weight", [3]),
        ("head", [3]),  # a node: all that is under it, and not what only begins alike
        ("head*", [3, 4]),
        ("body", [0, 1, 2]),
        ("body/0", [0, 1]),
        ("body/*/weight", [1, 2]),
        ("body/*0", [0, 1, 2]),
        ("*weight", [1, 2, 3, 4]),
        ("*/0/*", [0, 1]),
        ("*", [0, 1, 2, 3, 4]),
    ],
)
def test_a_pattern_matches_whole_names_and_nodes(pattern, places):
    assert values({pattern: 1}) == {NAMES[place]: 1 for place in places}


def test_what_is_special_in_other_patterns_is_plain_here():
    names = ["a.b[0]/w?", "axb0/wx"]
    assert values({"a.b[0]": 1}, names) == {"a.b[0]/w?": 1}
    assert values({"*w?": 1}, names) == {"a.b[0]/w?": 1}


def test_a_pattern_matches_the_name_of_a_tree_that_is_one_leaf():
    assert values({"*": 1}, named_leaves(7)) == {"": 1}


def test_the_first_rule_that_matches_counts():
    rules = [("body/0/*", "a"), ("body", "b"), ("*bias", "never"), ("head", None)]
    with pytest.raises(InvalidValue, match="'\\*bias' after 'body/0/\\*'"):
        matched("freeze", rules, NAMES)
    del rules[2]
    assert values(rules) == values(dict(rules)) == {
        "body/0/bias": "a", "body/0/weight": "a", "body/10/weight": "b", "head/weight": None,
    }  # fmt: skip


def test_no_rules_say_nothing():
    assert matched("freeze", (), NAMES) == matched("freeze", {}, NAMES) == {}


@pytest.mark.parametrize(
    ("pattern", "template", "filled"),
    [
        ("body/*", "layers/*", "layers/10/weight"),
        ("body", "layers", "layers/10/weight"),
        ("body/10", "first", "first/weight"),
        ("body/*/weight", "kernels/*", "kernels/10"),
        ("b*y/*0", "*_*", "od_1/weight"),
        ("body/*/weight", "shared", "shared"),
        ("body/10/weight", "one", "one"),
    ],
)
def test_a_template_is_filled_with_what_was_captured(pattern, template, filled):
    match = matched("rename", {pattern: template}, NAMES)["body/10/weight"]
    assert match.fill("rename", match.value) == filled


# --- Mistakes ----------------------------------------------------------------------------------


def test_a_rule_that_matches_nothing():
    text = said(InvalidValue, lambda: matched("freeze", {"hed/weight": 1}, NAMES))
    assert text == (
        "freeze: a rule matches no name. Got 'hed/weight'; expected a pattern for some of"
        " body/0/bias, body/0/weight, body/10/weight, head/weight, header/weight."
        " Did you mean 'head/weight'?"
    )
    text = said(InvalidValue, lambda: matched("freeze", {"*": 1, "qqq": 2}, ["head/weight"]))
    assert text == (
        "freeze: a rule matches no name. Got 'qqq'; expected a pattern for some of head/weight."
        " Write one of those names, or * for any part."
    )
    with pytest.raises(InvalidValue, match="for some of none. Write"):
        matched("freeze", {"*": 1}, [])


def test_a_rule_that_earlier_ones_leave_nothing():
    rules = {"body/*": 1, "he*": 2, "*weight": 3}
    text = said(InvalidValue, lambda: matched("freeze", rules, NAMES))
    assert text == (
        "freeze: a rule is never used, since earlier rules match all of its names. Got '*weight'"
        " after 'body/*', 'he*'; expected rules from the special to the general: the first match"
        " wins. Leave '*weight' out, or put it before 'body/*'."
    )


@pytest.mark.parametrize("rules", [("head", 1), [("head", 1, 2)], [(1, "head")], ["ab"], "head", 3])
def test_rules_of_another_kind(rules, compilations):
    words = f"rules have the wrong type. Got {rules!r}; expected {{pattern: value}}, or a list"
    fix = re.escape("Write {'head': value, 'layers/*': value}.")
    judge(
        (lambda: matched("freeze", rules, NAMES), InvalidType, re.escape(words), fix), compilations
    )


def test_a_template_with_another_number_of_stars():
    match = Match("body/*/weight", "*/*", ("0",), "")
    assert said(InvalidValue, lambda: match.fill("rename", "*/*")) == (
        "rename: the two sides of a rule have different numbers of *. Got 'body/*/weight': '*/*';"
        " expected 1 * on the right, or none. Write as many * on the right as on the left:"
        " 'body/*': 'layers/*'."
    )
    with pytest.raises(InvalidValue, match=r"expected 0 \*"):
        Match("body", "layers/*", (), "/0").fill("rename", "layers/*")


def test_of_very_many_names_the_first_are_listed():
    assert listing(map(str, range(23)), most=3) == "0, 1, 2 and 20 more"
    assert listing(["a", "b"], most=2) == "a, b"
    assert listing([]) == "none"


def test_the_nearest_name_may_be_a_node():
    assert nearest("heed/*", NAMES) == "head"
    assert nearest("body/1/weight", NAMES) == "body/10/weight"
    assert nearest("zzz", NAMES) is None
