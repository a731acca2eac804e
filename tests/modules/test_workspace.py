"""The files of a play: a folder that no path leads out of."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow8_core.errors import Flow8Error, NotFound, ValidationFailed
from flow8_modules import Workspace

SECRET = b"outside"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with everything in it that a path might be led astray by, and a secret beside it."""
    base = tmp_path_factory.mktemp("plays")
    (base / "secret.txt").write_bytes(SECRET)
    (base / "outside").mkdir()
    (base / "outside" / "secret.txt").write_bytes(SECRET)
    root = base / "play"
    (root / "tmp" / "deep").mkdir(parents=True)
    (root / "tmp" / "invoice.pdf").write_bytes(b"invoice")
    (root / "tmp" / "deep" / "ü b.txt").write_bytes(b"deep")
    (root / "..dots").write_bytes(b"dots")
    (root / "empty").write_bytes(b"")
    (root / "link-to-file").symlink_to("tmp/invoice.pdf")
    (root / "link-outside").symlink_to("../secret.txt")
    (root / "link-absolute").symlink_to("/etc/passwd")
    (root / "link-folder").symlink_to("../outside")
    (root / "link-self").symlink_to("link-self")
    (root / "link-proc").symlink_to("/proc/self")
    (root / "link-dangling").symlink_to("nowhere")
    (root / "tmp" / "up").symlink_to("../..")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)  # a socket's path is short
        server.bind("socket")
        os.chdir(here)
    return root


REFUSED = [
    *("", "/", "//", ".", "./", "/.", "..", "../", "/..", "tmp/", "tmp/.", "tmp//", "tmp", "/tmp", "tmp/deep"),
    *("../secret.txt", "/../secret.txt", "tmp/../../secret.txt", "tmp/../tmp/invoice.pdf", "./../secret.txt"),
    *("tmp/deep/../../../secret.txt", "..//secret.txt", "/./../secret.txt", "tmp/..", "a/b/../../.."),
    *("link-to-file", "link-outside", "link-absolute", "link-folder", "link-self", "link-proc", "link-dangling"),
    *(
        "link-folder/secret.txt",
        "link-proc/environ",
        "link-proc/root/etc/passwd",
        "tmp/up/secret.txt",
        "tmp/up/outside",
    ),
    *("tmp/up/play/tmp/invoice.pdf", "/link-folder/secret.txt", "link-self/x", "link-to-file/x"),
    *("pipe", "/pipe", "socket", "pipe/x", "tmp/invoice.pdf/x", "tmp/invoice.pdf/"),
    *("tmp/\x00invoice.pdf", "tmp/invoice.pdf\x00", "tmp/invoice.pdf\n", "\x7f", "tmp/\x1b[0m", "a\rb"),
    *("\ud800", "x" * 1025, "x/" * 600 + "y", "x" * 256, "ü" * 128),
]
ABSENT = [
    *("nothing.pdf", "/etc/passwd", "/proc/self/environ", "/proc/self/root/etc/passwd", "/dev/stdin", "/dev/null"),
    *(
        "tmp/nothing",
        "no/such/folder",
        "~/secret.txt",
        "$HOME/x",
        "file:///etc/passwd",
        "C:\\boot.ini",
        "..\\secret.txt",
    ),
    *(
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "․․/secret.txt",
        "．．/secret.txt",
        "TMP/invoice.pdf",
        "tmp/invoice.pdf ",
    ),
    *("...", ".. /secret.txt", "\\\\host\\share", "*", "tmp/*", "-", "--help"),
]


def test_the_corpus_is_large_enough() -> None:
    assert len(REFUSED) + len(ABSENT) >= 60


@pytest.mark.parametrize("path", REFUSED, ids=range(len(REFUSED)))
def test_a_path_that_is_no_plain_file_is_refused(root: Path, path: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        Workspace(root).open_file(path)

    assert caught.value.path == "input_mapping.file_path"
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("path", ABSENT, ids=range(len(ABSENT)))
def test_a_path_to_nothing_says_so(root: Path, path: str) -> None:
    with pytest.raises(NotFound) as caught:
        Workspace(root).open_file(path, field="save_as")

    assert caught.value.path == "input_mapping.save_as"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("tmp/invoice.pdf", b"invoice"),
        ("/tmp/invoice.pdf", b"invoice"),
        ("//tmp//invoice.pdf", b"invoice"),
        ("./tmp/./invoice.pdf", b"invoice"),
        ("tmp/deep/ü b.txt", b"deep"),
        ("..dots", b"dots"),
        ("empty", b""),
    ],
)
def test_a_plain_file_is_opened(root: Path, path: str, content: bytes) -> None:
    with Workspace(root).open_file(path) as file:
        assert content == file.read()


@given(
    st.lists(st.sampled_from(["..", ".", "", "tmp", "up", "link-folder", "link-proc", "outside", "secret.txt", "play"]))
)
def test_no_mixture_of_names_leads_out(root: Path, names: list[str]) -> None:
    try:
        with Workspace(root).open_file("/".join(names)) as file:
            content = file.read()
    except Flow8Error:
        return

    assert content != SECRET


def test_nothing_stays_open(root: Path) -> None:
    before = len(names_in(Path("/proc/self/fd")))
    for path in [*REFUSED, *ABSENT]:
        with pytest.raises(Flow8Error):
            Workspace(root).open_file(path)

    assert before == len(names_in(Path("/proc/self/fd")))


def test_a_file_that_is_too_large_is_refused(root: Path) -> None:
    with Workspace(root, max_bytes=7).open_file("tmp/invoice.pdf") as file:
        assert len(file.read()) == 7
    with pytest.raises(ValidationFailed, match="larger than 6 bytes"):
        Workspace(root, max_bytes=6).open_file("tmp/invoice.pdf")


def test_a_folder_that_becomes_a_link_while_it_is_walked_is_not_followed(root: Path, tmp_path: Path) -> None:
    """What was opened is what is used: names are looked up in the folder that is held, not in a path."""
    play = tmp_path / "play"
    (play / "a").mkdir(parents=True)
    (play / "a" / "secret.txt").write_bytes(b"inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_bytes(SECRET)

    with Workspace(play).open_file("a/secret.txt") as file:
        (play / "a").rename(play / "b")
        (play / "a").symlink_to("../outside")

        assert file.read() == b"inside"
    with pytest.raises(ValidationFailed):
        Workspace(play).open_file("a/secret.txt")


def test_a_new_file_appears_whole_and_private(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "play")
    with workspace.create_file("/tmp/out/a.bin") as file:
        file.write(b"one")
        assert not (tmp_path / "play/tmp/out/a.bin").exists()
        file.write(b"two")

    made = tmp_path / "play/tmp/out/a.bin"
    assert made.read_bytes() == b"onetwo"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert names_in(made.parent) == ["a.bin"]


def test_a_file_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), workspace.create_file("a") as file:
        file.write(b"x" * (1 // 0))

    assert (tmp_path / "a").read_bytes() == b"old"
    assert names_in(tmp_path) == ["a"]


def test_a_file_that_is_discarded_leaves_nothing(tmp_path: Path) -> None:
    with Workspace(tmp_path).create_file("a") as file:
        file.write(b"an error page")
        file.discard()

    assert names_in(tmp_path) == []


def test_a_new_file_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with Workspace(tmp_path).create_file("a") as file:
        file.write(b"new")

    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_new_file_may_not_grow_without_end(tmp_path: Path) -> None:
    with (
        pytest.raises(ValidationFailed, match="larger than 4 bytes"),
        Workspace(tmp_path, max_bytes=4).create_file("a") as file,
    ):
        file.write(b"12345")

    assert names_in(tmp_path) == []


@pytest.mark.parametrize("path", ["../a", "", "tmp/", "link/a", "file/a", "tmp", "a\x00b"])
def test_a_new_file_is_confined_too(tmp_path: Path, path: str) -> None:
    play = tmp_path / "play"
    (play / "tmp").mkdir(parents=True)
    (play / "link").symlink_to("..")
    (play / "file").write_bytes(b"")

    with pytest.raises(ValidationFailed), Workspace(play).create_file(path) as file:
        file.write(b"x")
    assert names_in(tmp_path) == ["play"]


def test_a_link_in_the_place_of_the_new_file_is_replaced_not_followed(tmp_path: Path) -> None:
    play = tmp_path / "play"
    play.mkdir()
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (play / "a").symlink_to("../secret.txt")

    with Workspace(play).create_file("a") as file:
        file.write(b"new")

    assert (tmp_path / "secret.txt").read_bytes() == SECRET
    assert not (play / "a").is_symlink()
