"""A table as real ones are: mixed columns, gaps, and a decimal comma between semicolons."""

import numpy as np
import polars

CITIES = ["Bonn", "Köln", "São Paulo", "Ulm"]


def people(count=240, seed=0):
    """Rows of whole and real numbers, text, dates and booleans, with gaps, and three classes."""
    draw = np.random.default_rng(seed)
    age = draw.integers(18, 80, count)
    income = np.exp(draw.normal(8, 0.5, count)).round(2)
    city = draw.integers(0, 4, count)
    member = draw.random(count) < 0.4
    score = 0.06 * (age - 50) + 1.5 * (city == 0) - 1.5 * (city == 3) + member
    day = np.datetime64("2015-01-01") + draw.integers(0, 3000, count).astype("timedelta64[D]")
    gaps = draw.random((2, count)) < 0.1
    return polars.DataFrame(
        {
            "id": np.arange(count) + 100,
            "age": age,
            "city": [None if gap else CITIES[i] for i, gap in zip(city, gaps[0])],
            "income": [None if gap else x for x, gap in zip(income, gaps[1])],
            "since": day,
            "member": member,
            "comment": [f'note; "{i}"' for i in range(count)],
            "quality": np.array(["bad", "fair", "good"])[np.digitize(score, [-0.7, 1.3])],
        }
    )
