from collections import Counter

import pytest
from rich.console import Console

from receiver.cli.tables import cell, clean, rows, size, span, table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (False, "false"),
        (12, "12"),
        ("a\tb\r\n", "a\\tb\\r\\n"),
        ("\x1b[31m\x9b\x00", "\\x1b[31m\\x9b\\x00"),
        ("Glocken, 鐘 [b]", "Glocken, 鐘 [b]"),
        ("\u202eevil", "\\u202eevil"),
    ],
)
def test_no_text_can_steer_a_terminal(value: object, text: str) -> None:
    assert clean(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (81_083, "81.1 kB"), (5 * 10**15, "5000.0 TB")],
)
def test_sizes_are_for_people(count: int | None, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.25, "0.2 s"),
        (-61, "-1m 01s"),
        (3599.9, "59m 59s"),
        (7260, "2h 01m"),
        (30 * 86400 - 1, "29d 23h"),
    ],
)
def test_durations_are_for_people(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


def test_a_pipe_gets_one_line_for_each_row() -> None:
    assert rows([("a\nb", 1), (None, "c")]) == "a\\nb\t1\n-\tc\n"


@pytest.mark.parametrize("width", [24, 40, 60, 100])
def test_a_narrow_terminal_cuts_nothing(width: int) -> None:
    made = table("task", "state", "bytes", "reference", right=("bytes",), fold=("reference",))
    cells = ("59550733263783071", "archived", "671.4 kB", "a-reference-of-theirs")
    made.add_row(*map(cell, cells))
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(made)
    assert not Counter("".join(cells)) - Counter(captured.get())
