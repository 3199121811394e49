from __future__ import annotations

import threading

from components.crop.budget import Budget


def test_as_much_is_held_at_once_as_there_is() -> None:
    budget, together = Budget(100), threading.Barrier(2)
    held: list[int] = []
    most: list[int] = []

    def work(size: int) -> None:
        with budget.hold(size):
            held.append(size)
            most.append(sum(held))
            held.remove(size)

    def beside() -> None:
        with budget.hold(40):
            together.wait(60)

    threads = [threading.Thread(target=work, args=(60,)) for _ in range(20)]
    threads += [threading.Thread(target=beside) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert max(most) <= 100


def test_what_is_larger_than_all_is_held_alone_and_not_passed_for_ever() -> None:
    budget, order = Budget(100), list[str]()
    large, entered = threading.Event(), threading.Event()

    def wait_for_all() -> None:
        large.set()
        with budget.hold(500):
            order.append("large")

    def small() -> None:
        entered.set()
        with budget.hold(10):
            order.append("small")

    with budget.hold(50):
        first = threading.Thread(target=wait_for_all)
        first.start()
        large.wait(60)
        while not budget._next.locked():
            pass
        second = threading.Thread(target=small)
        second.start()
        entered.wait(60)
        assert order == []
    first.join(60)
    second.join(60)
    assert order == ["large", "small"]
