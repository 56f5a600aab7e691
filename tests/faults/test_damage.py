"""Bytes of the data file that are not what was written."""

import shutil

import pytest

BATCHES = 200


@pytest.mark.promise("I14")
def test_flipped_bytes_never_bring_a_value_that_was_not_written(tmp_path, drive, report, sample, pick):
    sound = tmp_path / "sound"
    sound.mkdir()
    driver = drive("write", sound, "--run", 0, "--greenlets", 1, "--batches", BATCHES, "--no-deletes")
    assert driver.wait_for("acked", BATCHES), driver.stderr
    assert driver.ended() == 0, driver.stderr
    intact = (sound / "data.mdb").read_bytes()
    runs = sample(20, 200)
    outcomes = {"died": 0, "refused": 0, "served": 0}
    totals = {"right": 0, "missing": 0, "damaged": 0, "wrong": 0}
    for number in range(runs):
        directory = tmp_path / f"flipped-{number}"
        directory.mkdir()
        damaged = bytearray(intact)
        flips = [(pick.randrange(len(intact)), 1 + pick.randrange(255)) for _ in range(pick.randrange(1, 9))]
        for at, mask in flips:
            damaged[at] ^= mask
        (directory / "data.mdb").write_bytes(damaged)
        driver = drive("known", directory, "--batches", BATCHES)
        code = driver.ended()
        assert code <= 1, driver.stderr
        if code < 0:
            outcomes["died"] += 1
        elif code == 1:
            assert "EngineError" in driver.stderr or "EngineFailed" in driver.stderr, driver.stderr
            outcomes["refused"] += 1
        else:
            outcomes["served"] += 1
            words = driver.lines[-1].split()
            found = dict(zip(words[::2], map(int, words[1::2]), strict=True))
            assert found["wrong"] == 0, (flips, found)
            for name in totals:
                totals[name] += found[name]
        shutil.rmtree(directory)
    report(f"{runs} files of {len(intact)} bytes: {outcomes}; reads: {totals}")
    assert outcomes["served"] >= runs // 2
    assert totals["damaged"] > 0
