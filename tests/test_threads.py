import sys

from cbir.threads import short_turns


def test_after_the_last_of_overlapping_threads_turns_are_as_long_as_they_were():
    before = sys.getswitchinterval()
    first, second = short_turns(), short_turns()
    first.__enter__()
    short = sys.getswitchinterval()
    assert short < before
    second.__enter__()
    first.__exit__(None, None, None)
    assert sys.getswitchinterval() == short
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == before


def test_turns_that_are_short_already_stay_as_they_are():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        own = sys.getswitchinterval()
        with short_turns():
            assert sys.getswitchinterval() == own
        assert sys.getswitchinterval() == own
    finally:
        sys.setswitchinterval(before)
