"""Files are small, functions fit on a screen, and what others use is described."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.floors import source_files
from tests.shape import FUNCTION_LINES, faults

ROOT = Path(__file__).parent.parent


def test_our_files_have_the_shape_that_they_should() -> None:
    found = [fault for path in source_files(ROOT) for fault in faults(path, str(path.relative_to(ROOT)))]

    assert found == []


def test_tests_and_benchmarks_are_readable_too() -> None:
    files = [path for folder in ("tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [fault for path in files for fault in faults(path, str(path.relative_to(ROOT)), is_test=True)]

    assert found == []


LONG = "def f():\n" + "    x = 1\n" * FUNCTION_LINES


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("x = 1\n", "says nowhere what it is for"),
        ('"""Doc."""\n' + LONG.replace("def f", "def _f"), f"_f has {FUNCTION_LINES + 1} lines"),
        (
            '"""Doc."""\nclass _C:\n' + LONG.replace("def", "    async def").replace("    x", "        x"),
            "f has 61 lines",
        ),
        ('"""Doc."""\ndef f():\n    pass\n', "f is public and has no docstring"),
        ('"""Doc."""\nclass C:\n    pass\n', "C is public and has no docstring"),
        ('"""Doc."""\n' + "x = 1\n" * 1000, "1001 lines"),
    ],
)
def test_a_file_out_of_shape_is_found(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "file.py"
    path.write_text(text)

    (found,) = faults(path, "file.py")

    assert fault in found


def test_a_file_in_shape_has_no_faults(tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_text('"""Doc."""\ndef f():\n    """Does."""\n\ndef _g():\n    pass\n')

    assert faults(path, "file.py") == []
    path.write_text("")
    assert faults(path, "file.py") == []
