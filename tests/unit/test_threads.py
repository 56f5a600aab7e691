"""Native threads: errors come back to who asked, and greenlets go on meanwhile."""

import threading

import gevent
import pytest

from gkv.threads import NativeThread


@pytest.fixture
def thread():
    thread = NativeThread()
    yield thread
    thread.close()


def test_call_returns_what_the_thread_returned_from_another_thread(thread):
    assert thread.call(threading.get_ident) != threading.get_ident()
    assert thread.call(lambda: 7) == 7
    assert thread.call(lambda: None) is None


def test_error_of_a_call_is_raised_where_its_result_is_asked_for_and_printed_by_nobody(thread, capfd):
    failed = thread.begin(lambda: 1 // 0)
    assert thread.call(lambda: 1) == 1  # the thread goes on
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failed.result()
    assert capfd.readouterr() == ("", "")


def test_greenlets_go_on_while_a_call_waits_and_calls_keep_their_order(thread):
    goes_on = threading.Event()
    done = []
    first = thread.begin(lambda: (goes_on.wait(10), done.append(1)))
    second = thread.begin(lambda: done.append(2))
    turns = 0
    for _ in range(10):
        gevent.sleep(0)
        turns += 1
    assert (turns, done) == (10, [])
    goes_on.set()
    second.result()
    first.result()
    assert done == [1, 2]
