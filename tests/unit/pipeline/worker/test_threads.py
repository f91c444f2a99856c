"""Signs of life of threads at work."""

import threading

from pipeline.worker.threads import WatchdogClock


def test_the_thread_that_was_silent_longest_counts() -> None:
    now_s = [0.0]
    clock = WatchdogClock(lambda: now_s[0])
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        with clock.work():
            begun.set()
            may_end.wait()

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(timeout=30)
    now_s[0] = 10.0
    with clock.work():
        now_s[0] = 15.0
        assert clock.silence_s == 15.0
        may_end.set()
        thread.join(timeout=30)
        assert clock.silence_s == 5.0
        clock.tick()
        assert clock.silence_s == 0.0
    now_s[0] = 99.0
    clock.tick()
    assert clock.silence_s == 0.0
