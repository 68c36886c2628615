"""What a run directory contains, read at once."""

from pathlib import Path

from jaxnn.catalog import account
from jaxnn.catalog.contents import Contents
from jaxnn.storage.journal import Journal


class Rows(list):
    """Rows that count how often they are read."""

    read = 0

    def __iter__(self):
        self.read += 1
        return super().__iter__()


def test_the_account_of_a_run_does_not_read_its_rows_once_more_for_each_of_them():
    rows = Rows({"step": n, "train/loss": 1 / n, "test/loss": 2 / n} for n in range(1, 100))
    journal = Journal(rows, [0] * len(rows), "")
    run = Contents(Path("run"), {}, None, {}, journal, {}, {}, False)
    metrics = account._metrics(run)
    assert metrics["test/loss"] == {"last": 2 / 99, "best": 2 / 99, "step": 99}
    assert rows.read < 10
