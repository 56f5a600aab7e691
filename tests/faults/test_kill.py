"""kill -9 in the middle of writes: at random moments, and at each call that brings something to the disk."""

import shutil
import time

import pytest

from tests.faults.conftest import Ledger, needs

STORE_LIVES = 10
"""After so many kills a new store is begun: one that survives 200 takes minutes to compare."""


@pytest.mark.promise("I1")
def test_kill_at_random_moments_loses_nothing_acknowledged(tmp_path, drive, dump, report, sample, pick):
    kills = sample(6, 100)
    acknowledged = records = 0
    slowest = 0.0
    for number in range(kills):
        if number % STORE_LIVES == 0:
            directory = tmp_path / f"store-{number}"
            directory.mkdir()
            ledger = Ledger()
        began = time.monotonic()
        driver = drive("write", directory, "--run", number)
        assert driver.wait_for("acked", pick.randrange(1, 150)), driver.stderr
        time.sleep(pick.random() * 0.01)  # the fault's moment: an acknowledgement is close to the end of a commit
        driver.kill()
        slowest = max(slowest, time.monotonic() - began)
        assert driver.process.returncode == -9
        acknowledged += ledger.add(driver)
        if number % STORE_LIVES == STORE_LIVES - 1 or number == kills - 1:
            marks = dump(directory)
            records += len(marks)
            assert ledger.compare(marks) == {}
            shutil.rmtree(directory)
    report(f"{kills} kills, {acknowledged} batches acknowledged, {records} records found, lost 0; slowest {slowest:.2f} s")
    assert acknowledged >= 10 * kills


def killed_at(call, k, drive, directory, run):
    """Let a driver be killed on entering its k-th call of this kind."""
    # Without --seccomp-bpf: with it, strace 6.1 never sends the signal. So every call is slow, and fewer greenlets write.
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", f"--trace={call}", f"--inject={call}:signal=SIGKILL:when={k}"]
    driver = drive("write", directory, "--run", run, "--greenlets", 3, "--batches", 400, under=trace)
    assert driver.ended() == -9, (k, driver.lines[-3:], driver.stderr)
    return driver


@pytest.mark.promise("I1")
@pytest.mark.parametrize(("call", "acknowledged_a_kill"), [("fdatasync", 50), ("pwrite64", 3)])
def test_kill_at_each_of_the_first_calls_that_reach_the_disk_loses_nothing_acknowledged(
    call, acknowledged_a_kill, tmp_path, drive, dump, report, sample, pick
):
    """A commit of LMDB writes its pages, forces them with fdatasync, and writes a meta page through a file opened O_DSYNC."""
    needs("strace")
    step = sample(40, 1)
    when = list(range(1 + pick.randrange(step), 201, step))
    acknowledged = 0
    for number, k in enumerate(when):
        if number % STORE_LIVES == 0:
            directory = tmp_path / f"store-{number}"
            directory.mkdir()
            ledger = Ledger()
        ledger.add(killed_at(call, k, drive, directory, k))
        if number % STORE_LIVES == STORE_LIVES - 1 or k == when[-1]:
            assert ledger.compare(dump(directory)) == {}
            acknowledged += ledger.acknowledged
            shutil.rmtree(directory)
    report(f"{len(when)} kills, {acknowledged} batches acknowledged, lost 0")
    assert acknowledged >= acknowledged_a_kill * len(when)


@pytest.mark.parametrize(("call", "k"), [("fsync", 1), ("fsync", 2), ("pwrite64", 1), ("pwrite64", 2)])
def test_kill_while_a_new_store_is_made_leaves_what_can_be_opened(call, k, tmp_path, drive, dump):
    needs("strace")
    directory = tmp_path / "store"
    directory.mkdir()
    assert "ready" not in killed_at(call, k, drive, directory, 0).lines
    assert dump(directory) == {}
