"""Every query belongs to a company, but for those in the files listed here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.companies import unbound

ROOT = Path(__file__).parent.parent

# What these ask for belongs to no company, or to all; what they find names its company.
EXCEPTIONS = {
    "credentials/alerts.py": "our applications, and whether any company's link was renewed since one was refused",
    "credentials/applications.py": "our applications, and how many links of all companies they were refused for",
    "credentials/check_values.py": "the keys of the deployment, and whether they open a sample of what is sealed",
    "credentials/key_rows.py": "the keys of the deployment, and which of them writes",
    "credentials/events.py": "what owners of links in all companies must be told",
    "credentials/outbox.py": "claims of what must leave; and how much was given up, for doctor",
    "credentials/revocation.py": "whether any company's link lives by the same upstream grant",
    "credentials/oauth_states.py": "a state is consumed by its hash alone, and says whose it was",
    "credentials/rotation.py": "rotation: reads a record again by its id; each write names the record's company",
    "credentials/sealed.py": "rotation: everything that is sealed; each document names its company",
    "credentials/upkeep.py": "links of all companies that are due",
    "credentials/users.py": "the one local user of embedded mode",
    "flow8_runtime/candidates.py": "claims: finds due plays of all companies",
    "flow8_runtime/doctor.py": "whether there are check values of keys",
    "flow8_runtime/embedded.py": "whether there are check values of keys",
    "flow8_runtime/ledger.py": "a definition by the id that its play names, which begins with the company's",
    "flow8_runtime/outputs.py": "an attempt's row by the id that its play names",
    "flow8_runtime/owners.py": "the processes of the deployment",
    "flow8_runtime/plays.py": "a play by its id, for claims and sweep; whoever asks for somebody compares the company",
    "flow8_runtime/process.py": "whose turn it is to sweep",
    "flow8_runtime/sweep.py": "the sweep",
    "flow8_runtime/throttles.py": "a credential's patience, by its name",
    "flow8_runtime/waits.py": "what is waited for, for the sweep; what concerns one link names its company",
}


def test_only_the_listed_files_ask_for_anything_without_a_company() -> None:
    found = unbound(ROOT)

    assert {file: lines for file, lines in found.items() if file not in EXCEPTIONS} == {}
    assert set(EXCEPTIONS) - set(found) == set(), "no longer an exception: take it from the list"


CLASS = """
class Things:
    def __init__(self, store, company_id):
        self._store, self._company_id = store, company_id
"""
ALL = "return self._store.find('things', {})"
BY_ID = "return self._store.get('things', id)"
CHANGE = "self._store.update('things', {'_id': id}, {})"
BATCH = "self._store.batch([Delete('things', {'_id': id})])"
GIVEN = "return self._store.find('things', given)"
HELPED = "return self._store.find('things', self.helper())"
OURS = "{'company_id': self._company_id}"


@pytest.mark.parametrize(
    ("methods", "bound"),
    [
        ([("a", "", ALL)], False),
        ([("a", ", id", BY_ID)], False),
        ([("a", ", id", CHANGE)], False),
        ([("a", ", id", BATCH)], False),
        ([("a", ", given", GIVEN)], False),
        ([("a", ", id", ALL.replace("{}", OURS))], True),
        ([("a", "", f"given = {OURS}; {GIVEN}")], True),
        ([("a", "", HELPED), ("helper", "", f"mine = {OURS}; return mine | {{'x': 1}}")], True),
        ([("a", "", HELPED), ("helper", "", "return {'x': 1}")], False),
        ([("a", ", given", GIVEN), ("b", "", f"return self.a({OURS})")], True),
        ([("a", ", given", GIVEN), ("b", "", f"return self.a({OURS})"), ("c", "", "return self.a({})")], False),
    ],
)
def test_a_query_without_a_company_is_found_wherever_its_filter_is_made(
    tmp_path: Path, methods: list[tuple[str, str, str]], bound: bool
) -> None:
    (tmp_path / "credentials").mkdir()
    text = CLASS + "".join(f"    def {name}(self{more}):\n        {body}\n" for name, more, body in methods)
    (tmp_path / "credentials" / "things.py").write_text(text)

    assert bool(unbound(tmp_path)) is not bound
