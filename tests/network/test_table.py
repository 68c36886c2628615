"""What a table says of a network: figures that can be computed by hand, and how one reads them."""

import html.parser
import json

import jax
import jax.numpy as jnp
import pytest

import jaxnn
from jaxnn.summary import flops


def made(network, *shape, dtype=jnp.float32):
    return jaxnn.table(network, jax.ShapeDtypeStruct(shape, dtype))


def test_a_linear_layer_multiplies_and_adds_for_every_weight_of_every_example():
    row, total = made(jaxnn.linear(5), 7, 3).rows[0], made(jaxnn.linear(5), 7, 3).total
    assert (row.parameters, row.bytes) == (3 * 5 + 5, 4 * 20)
    assert (row.activation_bytes, row.flops) == (7 * 5 * 4, 2 * 7 * 3 * 5)
    assert total[3:] == row[3:]


def test_a_convolution_does_so_at_every_place_of_every_window():
    strided = jaxnn.conv(8, (3, 3), strides=2)
    (row,) = made(strided, 2, 9, 9, 4).rows
    assert row.output == (2, 5, 5, 8)
    assert row.flops == 2 * (2 * 5 * 5 * 8) * (3 * 3 * 4)
    assert row.activation_bytes == 2 * 5 * 5 * 8 * 4


def test_attention_has_products_that_are_between_its_parts():
    batch, time, features = 2, 6, 8
    table = made(jaxnn.attention(features, heads=2), batch, time, features)
    one = 2 * batch * time * features * features
    assert [row.flops for row in table.rows] == [one] * 4
    # Scores of every step with every other, and their averages: each `features` long in all heads.
    assert table.total.flops == 4 * one + 2 * (2 * batch * time * time * features)
    assert table.total.activation_bytes == 4 * batch * time * features * 4


def test_activations_have_the_memory_of_their_dtype_and_of_every_turn():
    half = jaxnn.mixed_precision(jaxnn.serial(jaxnn.linear(4), jaxnn.layer_norm()))
    assert [row.activation_bytes for row in made(half, 3, 4).rows] == [3 * 4 * 2] * 2
    deep = jaxnn.repeat(jaxnn.linear(4), 6)
    assert made(deep, 3, 4).rows[0].activation_bytes == 6 * 3 * 4 * 4
    # Of a loop over time, too, though its row has the shape of one step.
    hidden = next(r for r in made(jaxnn.layers.gru(4), 2, 5, 3).rows if r.part == "hidden")
    assert (hidden.output, hidden.activation_bytes) == ((2, 12), 5 * 2 * 12 * 4)


def test_the_flops_of_a_function_are_those_of_its_products():
    square = jnp.ones((4, 4))
    assert flops(lambda x: jnp.tanh(x) + x, square) == 0
    assert flops(lambda x: x @ x, square) == 2 * 4**3
    # The gradient of a product with respect to both of its sides is two more of them.
    assert flops(jax.grad(lambda x, y: (x @ y).sum(), (0, 1)), square, square) == 3 * 2 * 4**3


def test_json_has_what_the_rows_have():
    table = made(jaxnn.mlp([4], 2), 3, 2, 2)
    told = json.loads(json.dumps(table.as_json(), allow_nan=False))
    assert [*told] == ["rows", "total"]
    assert told["rows"][1] == {
        "part": "hidden_1",
        "kind": "linear",
        "output": [3, 4],
        "parameters": 20,
        "bytes": 80,
        "activation_bytes": 48,
        "flops": 96,
        "times": 1,
    }
    assert [*told["total"].values()] == ["total", "", [3, 2], 30, 120, 168, 144, 1]
    two = made(jaxnn.parallel(("a", jaxnn.linear(1)), ("b", jaxnn.linear(2))), 3, 2)
    assert two.as_json()["total"]["output"] == [[3, 1], [3, 2]]


def test_names_that_parts_share_are_said_once():
    block = jaxnn.serial(("norm", jaxnn.layer_norm()), ("nodes", jaxnn.linear(3)))
    network = jaxnn.serial(("block", jaxnn.residual(block)), ("other", jaxnn.residual(block)))
    lines = [line.split("  ( ")[0].rstrip() for line in str(made(network, 1, 3)).splitlines()]
    names = [line[: lines[0].index("kind")].rstrip() for line in lines]
    assert names == [
        "part",
        "block/branch/norm",
        "    nodes",
        "  shortcut",
        "other/branch/norm",
        "    nodes",
        "  shortcut",
        "total",
    ]


@pytest.mark.parametrize("stacked", [False, True])
def test_usual_networks_fit_a_wide_terminal(stacked):
    gpt = jaxnn.gpt(65, layers=6, heads=6, features=384, positions=256, stacked=stacked)
    wide = made(gpt, 64, 256, dtype=jnp.int32)
    assert max(map(len, str(wide).splitlines())) <= 105
    # As in the model's paper, 6 times the parameters for each token, of which a forward pass does a
    # third, and those of attention, of which two blocks of queries compute three quarters.
    tokens, weights = 64 * 256, 6 * 12 * 384**2 + 65 * 384
    assert wide.total.flops == tokens * (2 * weights + 4 * 6 * 256 * 384 * 3 / 4)


def test_amounts_have_three_figures():
    from jaxnn.formatting import amount

    numbers = (0, 999, 1000, 9994, 9996, 99_949, 99_951, 999_499, 999_500, 10**9, 10**21)
    assert [amount(n) for n in numbers] == [
        *("0", "999", "1.00 k", "9.99 k", "10.0 k", "99.9 k", "100 k", "999 k", "1.00 M"),
        *("1.00 G", "1,000 E"),
    ]
    assert amount(0, "B") == "0 B" and amount(1234, "B") == "1.23 kB"


class Tags(html.parser.HTMLParser):
    """What a browser makes of a page: its tags and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_a_notebook_shows_it_as_a_table_and_no_name_is_markup():
    name = "<img src=x onerror=alert(1)>"
    table = made(jaxnn.serial((name, jaxnn.linear(2))), 1, 2)
    page = Tags(table._repr_html_())
    assert set(page.tags) == {"b", "div", "style", "table", "tbody", "td", "th", "thead", "tr"}
    assert name in page.texts and page.texts[1:4] == ["part", "kind", "output"]
    assert "total" in page.texts and "24 B" in page.texts
