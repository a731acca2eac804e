"""docs/laboratory.md says what there is."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import get_args, get_type_hints

from flow8_lab.faults import Kind
from flow8_lab.quirks import Quirks
from tests.counterparts.lab import Lab
from tests.docs.pages import ROOT, tables

PAGE = ROOT / "docs" / "laboratory.md"


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_the_page_lists_every_switch_with_every_value() -> None:
    rows = {names(row[0])[0]: names(row[1]) for row in tables(PAGE)["Switches"]}

    hints = get_type_hints(Quirks)
    assert list(rows) == [field.name for field in fields(Quirks)]
    for name, values in rows.items():
        assert not values or set(values) == set(get_args(hints[name]))


def test_the_page_lists_every_fault() -> None:
    text = PAGE.read_text().partition("## Faults")[2].partition("## ")[0]

    assert set(names(text)) == set(get_args(Kind))


def test_the_page_lists_what_is_counted_of_a_grant(lab: Lab) -> None:
    lab.grant("google")

    (grant,) = lab.control("/grants")["google"]
    listed = {name for row in tables(PAGE)["What is counted"] for name in names(row[0])}
    assert listed == set(grant) - {"key", "account", "scopes"}
