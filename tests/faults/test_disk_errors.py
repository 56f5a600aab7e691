"""Disks that report errors, and disks that are full."""

import pytest

from tests.faults.conftest import needs


@pytest.mark.promise("I1")
@pytest.mark.parametrize(("call", "a_commit"), [("fdatasync", 1), ("pwrite64", 60)])
def test_after_an_error_of_the_disk_nothing_is_acknowledged_and_nothing_acknowledged_is_lost(
    call, a_commit, tmp_path, drive, dump, ledger, report, sample, pick
):
    """The error comes once: a disk says EIO a single time for pages that it has dropped, and then that all is well."""
    needs("strace")
    directory = tmp_path / "store"
    directory.mkdir()
    # The engine's first commits, in the main thread, are not meant: the writer thread counts its own calls.
    runs = sample(3, 20)
    for number in range(runs):
        when = pick.randrange(10 * a_commit, 40 * a_commit)
        trace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", tmp_path / "trace", f"--trace={call}"]
        driver = drive(
            "write", directory, "--run", number, "--batches", 800, under=[*trace, f"--inject={call}:error=EIO:when={when}"]
        )
        code = driver.ended()
        assert code == 3, (code, driver.lines[-3:], driver.stderr)
        assert (tmp_path / "trace").read_text().count("(INJECTED)") == 1
        words = [line.split()[0] for line in driver.lines]
        after = words[words.index("failed") :]
        assert set(after) <= {"failed", "deleting", "closed", "end"}
        assert after.count("failed") >= 40  # five times by each greenlet
        ledger.add(driver)
        assert ledger.compare(dump(directory)) == {}
    assert ledger.acknowledged >= 20 * runs
    report(f"{runs} errors, {ledger.acknowledged} batches acknowledged before, 0 after, lost 0")


def test_full_disk_refuses_sets_serves_reads_takes_deletes_and_then_sets_again(make_disk, drive, dump, ledger, report):
    disk = make_disk(12)
    store = disk.path / "store"
    store.mkdir()
    driver = drive("fill", store)
    code = driver.ended()
    words = [line.split()[0] for line in driver.lines]
    assert code == 0, (driver.lines[-3:], driver.stderr)
    report(
        f"{words.index('full')} batches until full, {words.count('full')} sets refused, {words.count('read')} batches read, "
        f"{words.count('deleted')} deleted, then sets again; lost 0"
    )
    assert "misread" not in words
    assert words.count("read") >= 50
    assert words.count("full") >= 20
    last_full = len(words) - words[::-1].index("full")
    assert "acked" in words[last_full:]
    ledger.add(driver)
    assert ledger.compare(dump(store)) == {}
