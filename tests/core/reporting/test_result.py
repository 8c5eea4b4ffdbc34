import pandas as pd

from segtool.core.reporting.tables import Result, Table

LINES = """Numbers

 name    whole    share
 ──────────────────────
 a           3   0.5000
 b [x]      12        -"""


def test_numbers_are_right_aligned_and_nan_is_a_dash() -> None:
    columns = {"name": ["a", "b [x]"], "whole": [3, 12], "share": [0.5, None]}
    assert Table("Numbers", columns).text() == LINES
    rows = [{"name": "a", "whole": 3, "share": 0.5}, {"name": "b [x]", "whole": 12, "share": float("nan")}]
    assert Result("done", [Table("Numbers", rows)]).text() == f"{LINES}\n\ndone"


def test_two_columns_may_have_one_name() -> None:
    table = pd.DataFrame([["a", 1, 0.25, 2, 0.75]], columns=["class", "small", "recall", "large", "recall"])
    assert Table("", table).text().split()[-5:] == ["a", "1", "0.2500", "2", "0.7500"]
