"""What the pages of several runs state: who is ranked, what differs, and what is not known."""

from dataclasses import replace

import pytest

from jaxnn import report
from jaxnn.report import source as sources
from jaxnn.report.alike import short
from jaxnn.report.compare import named, of_runs
from tests.pages import Page, plain
from tests.recorded import curve, write
from tests.report.test_report_many import run, sweep

KNOWN = {"batch_size": 32, "steps": 50, "data": "a1", "data test": "b1", "program": "c1"}


def page_of(tmp_path, *identities, config=None, metrics=((), ())):
    """Returns the page of runs of which the checkpoints tell this; the second one is the better."""
    runs = {}
    for i, (name, known) in enumerate(zip(("one", "two", "three"), identities)):
        run(tmp_path / name, 0.5 / (i + 1), config or {})
        source = sources.read(tmp_path / name)
        more = {f"{part}/{m}": 0.5 for m in metrics[i % 2] for part in ("train", "test")}
        found = replace(source.contents, manifests={50: {"identity": known}} if known else {})
        found = replace(found, result={**(found.result or {}), **more})
        runs[name] = replace(source, contents=found)
    return Page(of_runs(runs))


def heading(page):
    return plain(page.all("h1")[0]["text"])


def test_runs_without_a_config_are_not_called_the_same(tmp_path):
    page = page_of(tmp_path, KNOWN, KNOWN | {"program": "c2", "batch_size": 64, "rate": 0.1})
    text = plain(page.text("differences"))
    assert "Nothing" not in text and "They also differ in the program" in text
    assert "hyper-parameters of one and two were not recorded: pass config=" in text
    table = plain(page.text("differences").partition("They also")[0])
    assert "batch size3264" in table and "ratenot recorded0.1" in table and "steps" not in table


def test_only_what_is_known_of_all_runs_is_the_same(tmp_path):
    same = page_of(tmp_path, KNOWN, KNOWN, config={"rate": 0.1})
    assert "Nothing: their hyper-parameters, examples and program" in same.text("differences")
    text = page_of(tmp_path, KNOWN, {}, config={"rate": 0.1}).text("differences")
    assert "Nothing" not in text and "Not known to be the same: the training examples" in text
    results = page_of(tmp_path, KNOWN, {}, config={"rate": 0.1}).text("results")
    words = "It is not recorded on which examples the loss on held-out examples of two was measured"
    assert f"{words}. They are assumed to be the same." in results


def test_a_loss_of_another_program_may_be_another_function(tmp_path):
    words = "It is not known whether their losses are the same function"
    other = KNOWN | {"program": "c2"}
    assert words in page_of(tmp_path, KNOWN, other).text("results")
    assert words not in page_of(tmp_path, KNOWN, KNOWN).text("results")


@pytest.mark.parametrize(
    ("other", "metrics", "why"),
    [
        ({"data test": "b2"}, ((), ()), "the held-out examples are not the same"),
        ({}, (["accuracy"], ["mae", "r2"]), "they report different metrics, so that their losses"),
    ],
)
def test_none_is_the_best_of_what_cannot_be_compared(other, metrics, why, tmp_path):
    page = page_of(tmp_path, KNOWN, KNOWN | other, metrics=metrics)
    assert heading(page).startswith(f"These 2 runs cannot be ranked: {why}")
    table = page.text("results")
    # The training examples are the same, which the first row does not take away.
    assert table.count("★") == (2 if other else 0)
    assert f"held-out examples: {why}" in plain(table) or not other
    ranked = page_of(tmp_path, KNOWN, KNOWN)
    assert heading(ranked).startswith("Of 2 runs, two is the best")


def test_experiments_without_checkpoints_are_not_ranked(tmp_path):
    for name, loss in (("digits", 0.5), ("neuron", 0.1)):
        run(tmp_path / name, loss, {})
        rows, result = curve(5, test__loss=lambda t: t), {"experiment": name, "test/loss": loss}
        write(tmp_path / name, {}, rows, {"steps": 50, "seconds": 1.0, "status": "done"} | result)
    page = Page(of_runs(named([tmp_path / "digits", tmp_path / "neuron"])))
    assert heading(page) == (
        "These 2 runs cannot be ranked: they are of different experiments, digits and neuron."
    )
    assert "★" not in page.text("results")


def test_the_number_of_a_sweep_is_said_to_be_that_of_its_best_setting(tmp_path):
    sweep(tmp_path / "many")
    rows = curve(5, test__accuracy=lambda t: t)
    write(tmp_path / "one", {}, rows, {"steps": 50, "seconds": 1.0, "test/accuracy": 0.8})
    page = Page(of_runs(named([tmp_path / "one", tmp_path / "many"])))
    assert heading(page).startswith("Of 2 runs, many is the best: 90.5 % right on average")
    told = plain(page.text("results"))
    assert "90.5 %" in told and "12 × 50" in told
    assert "means over 2 networks with hidden 16x16 and learning rate 0.01, the best of 6" in told
    assert "middle one" not in told and "for a sweep, means over its best setting" in told
    assert "learning rate–0.01" in plain(page.text("differences")).replace("not recorded", "–")


def test_a_sweep_with_one_seed_has_no_mean_and_a_population_a_median(tmp_path):
    seeds(tmp_path / "many")
    write(tmp_path / "one", {}, curve(5, test__accuracy=lambda t: t / 2), {"test/accuracy": 0.5})
    runs = named([tmp_path / "one", tmp_path / "many"])
    many = runs["many"]
    one = [row for row in many.table if row["seed"] == 4]
    page = Page(of_runs(runs | {"many": replace(many, table=one)}))
    assert "on average" in heading(Page(of_runs(runs))) and "on average" not in heading(page)
    assert "The numbers of many are those of one network with" in plain(page.text("results"))
    page = Page(of_runs(named([tmp_path / "one", tmp_path / "many" / "population"])))
    assert "population is the best: 75.0 % right in the median, by its" in heading(page)


def test_a_run_that_is_named_by_a_hash_says_what_it_is(tmp_path):
    for name, rate in (("40f6b64188", 0.1), ("40f6b64199-2", 0.2)):
        run(tmp_path / "digits" / name, rate, {"learning_rate": rate, "hidden": [8]})
    one, two = sorted((tmp_path / "digits").iterdir())
    runs = named([one, two])
    assert short(runs) == {
        "digits · learning rate 0.1 (40f6b64188)": "40f6b64188",
        "digits · learning rate 0.2 (40f6b64199-2)": "40f6b64199-2",
    }
    assert [*runs] == [*short(runs)]
    other = run(tmp_path / "mnist" / "2e31deccb8", 0.3, {})
    assert [*short(named([one, other])).values()] == ["digits", "mnist"]


def seeds(out):
    """Writes a sweep of 2 learning rates, 2 seeds each, begun with one that is none of them."""
    from jaxnn.catalog import sweeps

    ends = [0.6, 0.7, 0.8, 0.95]
    rows = curve(5, test__accuracy=lambda t: [v * (0.5 + t / 2) for v in ends])
    result = {"members": 4, "steps": [50] * 4, "status": ["done"] * 4, "seconds": 1.0}
    result["test/accuracy"] = ends
    write(out / "population", {}, rows, result)
    found = [{"learning_rate": rate, "seed": seed} for rate in (0.01, 0.1) for seed in (4, 5)]
    table = sweeps.Table(["learning_rate"], [("population", 4)], sweeps.rows(found, result))
    (out / sweeps.FILE).write_bytes(sweeps.encode(table))
    result = {"experiment": "small", "runs": 4, "steps": 200, "seconds": 1.0}
    config = {"learning_rate": 0.003, "seed": 0, "hidden": [8]}
    write(out, config, [], result | {"metric": "test/accuracy", "test/accuracy": 0.875})
    return Page(report.write(out).read_text())


def test_the_best_network_of_a_sweep_is_not_its_best_setting(tmp_path):
    page = seeds(tmp_path)
    told = plain(page.text("map"))
    assert "Every cell is one network" in told and "Every cell is a setting" not in told
    told = plain(page.text("winner"))
    assert "best setting: learning rate 0.1, with accuracy on held-out examples 87.5 %" in told
    assert "on average over 2 networks" in told
    assert "best single network: 95.0 %, of learning rate 0.1 and seed 5" in told


def test_a_cell_of_more_settings_is_their_mean(tmp_path):
    sweep(tmp_path)
    told = plain(Page(report.write(tmp_path).read_text()).text("map"))
    assert "Every cell is a setting, the mean of its networks" in told


def test_what_was_chosen_lists_what_networks_had(tmp_path):
    told = plain(seeds(tmp_path).text("hyperparameters"))
    assert "0.003" not in told and "0.01 to 0.1, 2 values" in told
    assert "4, 5" in told and "hidden8" in told
