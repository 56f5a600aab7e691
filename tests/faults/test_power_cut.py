"""Power cuts: an ext4 file system is shut down without its log, the process killed, the disk mounted again."""

import time

import pytest

from tests.faults.conftest import Ledger


def cut(disk, drive, ledger, pick, run, *options):
    """Write to the disk until it loses power; return how much was acknowledged."""
    driver = drive("write", disk.path / "store", "--run", run, *options)
    assert driver.wait_for("acked", pick.randrange(20, 200)), driver.stderr
    time.sleep(pick.random() * 0.01)  # the fault's moment
    disk.cut_power()
    driver.kill()
    disk.unmount()
    disk.mount()
    return ledger.add(driver)


@pytest.mark.promise("I1")
def test_power_cut_loses_nothing_acknowledged(make_disk, drive, dump, report, sample, pick):
    cuts = sample(3, 20)
    acknowledged = 0
    for number in range(cuts):
        if number % 5 == 0:  # 17 cuts fill a disk
            disk = make_disk(64)
            (disk.path / "store").mkdir()
            ledger = Ledger()
        taken = cut(disk, drive, ledger, pick, number)
        assert taken >= 20
        acknowledged += taken
        assert ledger.compare(dump(disk.path / "store")) == {}
    report(f"{cuts} cuts, {acknowledged} batches acknowledged, lost 0")


def is_lost_whole(drive, store):
    """Return whether nothing of a store can be believed: its file is gone, it is refused, or it lists what it does not have."""
    if not (store / "data.mdb").exists():
        return True
    opened = drive("dump", store)
    return opened.ended() != 0 or any(line.startswith("problem ") for line in opened.lines)


def test_power_cut_of_a_store_that_does_not_sync_loses_what_was_acknowledged(make_disk, drive, dump, report, sample, pick):
    """The control: a test that finds nothing lost here could not find anything."""
    lost = acknowledged = 0
    for number in range(sample(1, 3)):
        ledger = Ledger()
        disk = make_disk(64)
        store = disk.path / "store"
        store.mkdir()
        driver = drive("write", store, "--run", 99, "--batches", 20)  # a sound beginning, so that there is a store to open
        assert driver.ended() == 0, driver.stderr
        ledger.add(driver)
        acknowledged += cut(disk, drive, ledger, pick, number, "--unsynced")
        found = {"lost": ledger.acknowledged} if is_lost_whole(drive, store) else ledger.compare(dump(store))
        lost += found["lost"]
    report(f"control without sync: {acknowledged} batches acknowledged, {lost} lost")
    assert lost > 0
