"""A store that is larger than the memory it may use."""


def test_store_larger_than_memory_is_written_and_read_within_the_limit(tmp_path, drive, memory_limit, report, sample, seed):
    limit, data = sample(48, 256), sample(128, 2_048)
    memory_limit.bound(limit << 20)
    directory = tmp_path / "store"
    directory.mkdir()
    driver = drive("large", directory, "--megabytes", data, "--seed", seed, under=memory_limit.under)
    code = driver.ended(within=3_600)
    assert code == 0, (code, driver.stderr, f"{memory_limit.kills} killed for want of memory")
    figures = driver.lines[-1].split()
    found = dict(zip(figures[::2], figures[1::2], strict=True))
    report(f"{data} MB of data, limit {limit} MB, peak {memory_limit.peak / 2**20:.1f} MB with file pages; {driver.lines[-1]}")
    assert found["wrong"] == "0"
    assert memory_limit.kills == 0
    assert memory_limit.peak <= limit << 20
    assert (directory / "data.mdb").stat().st_size > 3 * (limit << 20)
