"""Work in threads: in order, bounded, and ended with the iterator."""

import threading

import pytest

from jaxvision.core.threads import in_order


@pytest.mark.parametrize("ahead", [0, 1, 5, 100])
def test_results_are_in_the_order_of_the_items_and_few_are_ahead(ahead):
    taken = []

    def items():
        for number in range(30):
            taken.append(number)
            yield number

    for number, result in enumerate(in_order(lambda x: 2 * x, items(), ahead=ahead, threads=3)):
        assert result == 2 * number
        assert len(taken) <= number + 1 + ahead


def test_the_threads_work_at_the_same_time():
    """Each of the first two waits for the other."""
    barrier = threading.Barrier(2, timeout=60)
    assert list(in_order(lambda _: barrier.wait() < 2, range(2), ahead=2, threads=2)) == [True] * 2


def test_an_error_is_raised_in_its_turn_and_ends_the_threads():
    found = in_order(lambda x: 1 / x, [2, 1, 0, 1], ahead=3, threads=2)
    assert [next(found), next(found)] == [0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert not [x for x in threading.enumerate() if x.name.startswith("in_order")]


def test_what_is_begun_is_finished_and_the_rest_never_begins():
    begun, finished, go_on = [], [], threading.Event()

    def work(number):
        begun.append(number)
        assert number == 0 or go_on.wait(60)
        finished.append(number)

    found = in_order(work, range(9), ahead=8, threads=1)
    next(found)
    threading.Timer(0.05, go_on.set).start()
    found.close()
    assert begun == finished
    assert len(begun) <= 2
