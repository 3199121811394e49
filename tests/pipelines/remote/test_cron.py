"""Cron expressions, as Kubeflow Pipelines reads them."""

from __future__ import annotations

import pytest

from components.errors import UserError
from pipelines.remote.cron import for_kfp


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 6 * * 1-5",
        "*/10 0 6 ? jan,Dec SUN",
        "0 */15 8-18/2 1 * *",
        "@daily",
        "59 59 23 31 12 0",
        "0 */60 */24 */31 */12 */7",
    ],
)
def test_what_kfp_reads_stays_as_it_is(expression: str) -> None:
    assert for_kfp(expression) == (expression, None)


@pytest.mark.parametrize(
    ("five", "six"),
    [
        ("0 6 * * 1", "0 0 6 * * 1"),
        ("*/5 * * * *", "0 */5 * * * *"),
        ("0 6 * * 7", "0 0 6 * * 0"),
        ("0 6 * * 5-7", "0 0 6 * * 5,6,0"),
        ("0 6 * * 1-7/2", "0 0 6 * * 1,3,5,0"),
        ("0 6 * * 1,7", "0 0 6 * * 1,0"),
        ("  0   6 * *  mon-fri ", "0 0 6 * * mon-fri"),
    ],
)
def test_five_fields_are_given_a_second_and_a_note(five: str, six: str) -> None:
    made, note = for_kfp(five)
    assert made == six
    assert note is not None
    assert six in note


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("", "has 0 fields"),
        ("6 * *", "has 3 fields"),
        ("0 0 6 * * 1 2026", "has 7 fields"),
        ("@every 1h", "has 2 fields"),
        ("60 6 * * 1", "minute: '60'"),
        ("0 0 24 * * *", "hour: '24'"),
        ("0 0 6 0 * *", "day of the month: '0'"),
        ("0 0 6 * 13 *", "month: '13'"),
        ("0 0 6 * * 7", "day of the week: '7'"),
        ("0 0 18-8 * * *", "hour: '18-8'"),
        ("0 0 6 * * monday", "day of the week: 'monday'"),
        ("0 */0 6 * * *", "minute: '*/0'"),
        ("0 0 1-2-3 * * *", "hour: '1-2-3'"),
        ("0 0 1,,2 * * *", "hour: ''"),
        ("*/90 * * * *", "minute: '*/90': the field has 60 values, a step of 90"),
        ("*/61 * * * * *", "second: '*/61'"),
        ("0 0 8/25 * * *", "hour: '8/25': the field has 24 values"),
        ("0 0 6 */32 * *", "day of the month: '*/32'"),
        ("0 0 6 * 1-6/13 *", "month: '1-6/13'"),
        ("0 6 * * */8", "day of the week: '*/8'"),
        ("0 6 * * 1-7/8", "day of the week: '1-7/8': the field has 7 values"),
    ],
)
def test_what_nobody_reads_is_refused_by_its_field(expression: str, named: str) -> None:
    with pytest.raises(UserError, match=r"--cron") as caught:
        for_kfp(expression)
    assert named in str(caught.value)


def test_all_that_is_wrong_is_said_together() -> None:
    with pytest.raises(UserError) as caught:
        for_kfp("61 25 32 13 8")
    assert len(caught.value.problems) == 5
