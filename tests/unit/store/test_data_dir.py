"""The data directory: one owner at a time, secrets made once, private, and durable before they are used."""

import os
import stat
from pathlib import Path

import pytest

from trollproxy.store.data_dir import PEPPER_BYTES, DataDir, DataDirBusyError


def open_dir(path: Path) -> DataDir:
    return DataDir(path, random_bytes=os.urandom)


def test_it_is_made_where_it_is_missing_and_private(tmp_path: Path) -> None:
    data = open_dir(tmp_path / "a" / "b")
    assert stat.S_IMODE(data.path.stat().st_mode) == 0o700
    assert data.database.parent == data.path
    open_dir(tmp_path / "a" / "b")


def test_one_process_owns_it(tmp_path: Path) -> None:
    first, second = open_dir(tmp_path), open_dir(tmp_path)
    first.lock()
    with pytest.raises(DataDirBusyError, match=str(tmp_path)):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()
    second.unlock()


def test_a_refused_lock_leaks_no_descriptor(tmp_path: Path) -> None:
    first, second = open_dir(tmp_path), open_dir(tmp_path)
    first.lock()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(DataDirBusyError):
            second.lock()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    first.unlock()


def test_the_pepper_is_made_once(tmp_path: Path) -> None:
    pepper = open_dir(tmp_path).pepper()
    assert len(pepper) == PEPPER_BYTES
    assert open_dir(tmp_path).pepper() == pepper
    assert open_dir(tmp_path / "other").pepper() != pepper
    assert stat.S_IMODE((tmp_path / "pepper").stat().st_mode) == 0o600


def test_a_retired_journal_keeps_its_records_under_its_own_name(tmp_path: Path) -> None:
    data = open_dir(tmp_path)
    assert data.journal.parent == data.path
    data.journal.mkdir()
    (data.journal / "records").write_text("all of them")
    data.retire_journal("0a1b")
    assert not data.journal.exists()
    assert (tmp_path / "journal-retired-0a1b" / "records").read_text() == "all of them"


def test_a_backup_that_is_restored_twice_is_retired_twice(tmp_path: Path) -> None:
    data = open_dir(tmp_path)
    for text in ("once", "twice"):
        data.journal.mkdir()
        (data.journal / "records").write_text(text)
        data.retire_journal("0a1b")
    assert not data.journal.exists()
    assert sorted(path.read_text() for path in tmp_path.glob("journal-retired-0a1b*/records")) == ["once", "twice"]


def test_a_file_half_written_by_a_crash_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "pepper.new").write_text("ab")
    assert len(open_dir(tmp_path).pepper()) == PEPPER_BYTES


def test_a_pepper_that_was_cut_is_refused(tmp_path: Path) -> None:
    """With an empty pepper every key would open by an unkeyed hash, and none of the old ones."""
    (tmp_path / "pepper").write_text("")
    with pytest.raises((ValueError, RuntimeError)):
        open_dir(tmp_path).pepper()


def test_what_is_made_is_durable_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file by its own fsync, its name by that of the directory."""
    synced: list[bool] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    open_dir(tmp_path).pepper()
    assert synced == [False, True]
