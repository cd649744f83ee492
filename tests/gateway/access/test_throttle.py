"""Failed authentications lock, for longer each time, whichever process or host counts them; rates hold likewise."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.access.moments import Moments
from gateway.access.throttle import Locks, Pace, Rate, Throttle, source_of
from gateway.errors import TooManyRequests
from storage.control.sqlite import SqliteControl
from storage.errors import StorageUnavailable

Make = Callable[..., Throttle]


class Clock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def control(tmp_path: Path) -> Iterator[SqliteControl]:
    store = SqliteControl(tmp_path / "control.sqlite")
    yield store
    store.close()


@pytest.fixture
def process(control: SqliteControl, clock: Clock, tmp_path: Path) -> Make:
    """Makes the throttle of one more process, of a host by its name."""

    def make(allowed: int, first_s: float, longest_s: float, host: str = "here") -> Throttle:
        folder = tmp_path / host
        tables = Moments(folder / "locked"), Moments(folder / "known")
        return Throttle(Locks(allowed, first_s, longest_s), control, *tables, clock)

    return make


def locked_s(found: Throttle, source: str, claimed: str = "whoever") -> float:
    """How long an attempt is not looked at."""
    try:
        found.check(source, claimed)
        with found.turn(source, claimed):
            return 0.0
    except TooManyRequests as error:
        return error.after_s


def test_each_failure_beyond_those_allowed_locks_for_twice_as_long_up_to_a_bound(process: Make, clock: Clock) -> None:
    found = process(3, 1.0, 10.0)
    assert [found.failed("a", f"key {number}") for number in range(3)] == [0, 0, 0]
    assert locked_s(found, "a", "another") == 0
    for expected in (1, 2, 4, 8, 10, 10):
        assert found.failed("a", f"key after {expected}") == expected
        assert locked_s(found, "a", "whatever") == expected
        clock.now += expected - 0.1
        assert locked_s(found, "a") == pytest.approx(0.1)
        clock.now += 0.2
        assert locked_s(found, "a") == 0
    assert locked_s(found, "b", "another") == 0, "somebody elsewhere is not concerned"


@pytest.mark.parametrize("hosts", [("here", "here"), ("here", "there")], ids=["one host", "two hosts"])
def test_processes_count_together_and_each_knows_of_the_lock(process: Make, hosts: tuple[str, str]) -> None:
    one, other = (process(3, 5.0, 60.0, host) for host in hosts)
    assert [each.failed("a", "ann") for each in (one, other, one)] == [0, 0, 0]
    assert other.failed("a", "ann") == 5
    assert [locked_s(each, "a", "ann") for each in (one, other)] == [5, 5]


def test_a_lock_outlives_the_processes_of_a_host(process: Make, tmp_path: Path) -> None:
    for _ in range(4):
        process(3, 5.0, 60.0).failed("a", "ann")
    for file in (tmp_path / "here").iterdir():
        file.unlink()
    assert locked_s(process(3, 5.0, 60.0), "a", "ann") == 5


def test_a_host_that_has_heard_of_a_lock_needs_not_ask_again(process: Make, control: SqliteControl) -> None:
    one, other = process(1, 5.0, 60.0), process(1, 5.0, 60.0, "there")
    for _ in range(2):
        one.failed("a", "ann")
    other.check("a", "ann")
    assert locked_s(other, "a", "ann") == 5
    control.close()
    for each in (one, other):
        with pytest.raises(TooManyRequests):
            each.check("a", "ann")


def test_a_claimed_identity_is_locked_wherever_the_guesses_come_from(process: Make) -> None:
    found = process(3, 5.0, 60.0)
    for number in range(4):
        found.failed(f"10.0.0.{number}", "admin")
    assert locked_s(found, "10.0.0.99", "admin") == 5
    assert locked_s(found, "10.0.0.99", "somebody else") == 0


def test_who_has_succeeded_from_a_source_is_let_through_there_while_others_are_locked(
    process: Make, clock: Clock
) -> None:
    one, other = process(1, 5.0, 60.0), process(1, 5.0, 60.0)
    assert not other.check("nat", "viewer")
    one.succeeded("nat", "viewer")
    for _ in range(3):
        one.failed("nat", "guessed")
    assert other.check("nat", "viewer"), "whichever process it comes to"
    assert locked_s(other, "nat", "viewer") == 0
    assert locked_s(other, "nat", "guessed") > 0
    assert locked_s(other, "nat", "another guess") > 0
    clock.now += 121
    for _ in range(3):
        one.failed("nat", "guessed")
    assert locked_s(other, "nat", "viewer") > 0, "it has not been here for long"


def test_who_comes_again_and_again_stays_known(process: Make, clock: Clock) -> None:
    found = process(1, 5.0, 60.0)
    for _ in range(20):
        found.succeeded("nat", "viewer")
        clock.now += 50
        assert found.check("nat", "viewer")


def test_one_good_key_does_not_pay_for_guessing_others(process: Make) -> None:
    found = process(3, 5.0, 60.0)
    for number in range(4):
        found.succeeded("a", "mine")
        begun = found.failed("a", f"guess {number}")
    assert begun == 5
    assert locked_s(found, "a", "next guess") == 5


def test_guesses_between_the_successes_of_a_neighbour_are_not_free(process: Make, clock: Clock) -> None:
    """Somebody behind the same address guesses a password while its owner works, and from elsewhere as well."""
    found = process(3, 5.0, 60.0)
    for _ in range(4):
        found.succeeded("nat", "doctor")
        found.check("nat", "doctor")
        found.failed("nat", "doctor")
    assert locked_s(found, "nat", "doctor") == 5
    clock.now += 121
    for number in range(4):
        found.succeeded("nat", "doctor")
        found.failed(f"elsewhere {number}", "doctor")
    assert locked_s(found, "elsewhere", "doctor") == 5
    assert locked_s(found, "nat", "doctor") == 0


def test_failures_are_forgotten_in_time(process: Make, clock: Clock) -> None:
    found = process(3, 1.0, 10.0)
    for _ in range(3):
        found.failed("a", "b")
    clock.now += 21
    assert found.failed("a", "b") == 0
    assert locked_s(found, "a", "b") == 0


def test_where_the_next_failure_locks_one_secret_is_looked_at_at_a_time(process: Make, clock: Clock) -> None:
    one, other = process(3, 1.0, 60.0), process(3, 1.0, 60.0)
    with ExitStack() as looked_at:
        for each in (one, other, one):
            looked_at.enter_context(each.turn("a", "ann"))  # none of them can be too many
    for _ in range(3):
        one.failed("a", "ann")
    with one.turn("a", "ann"):
        assert locked_s(other, "b", "ann") == 2
        assert locked_s(other, "a", "bob") == 2
        assert locked_s(other, "b", "bob") == 0
        clock.now += 3
        assert locked_s(other, "a", "ann") == 0, "whoever looked at it has died"
    assert locked_s(other, "a", "ann") == 0
    with one.turn("a", "ann"):
        assert one.failed("a", "ann") == 1
    assert locked_s(other, "a", "ann") == 1, "the end of the attempt does not take the lock away"


def test_also_when_a_lock_has_ended_one_secret_is_looked_at_at_a_time(process: Make, clock: Clock) -> None:
    one, other = process(3, 1.0, 60.0), process(3, 1.0, 60.0)
    for _ in range(4):
        one.failed("a", "ann")
    clock.now += 1.1
    with one.turn("a", "ann"):
        # All of them came before the first was looked at.
        for each in (one, other, other):
            with pytest.raises(TooManyRequests), each.turn("a", "ann"):
                pytest.fail("another one is looked at")
    with other.turn("a", "ann"):
        assert other.failed("a", "ann") == 2


def test_guesses_at_the_same_time_are_no_more_than_guesses_one_after_the_other(
    process: Make, clock: Clock, control: SqliteControl
) -> None:
    processes = [process(3, 1.0, 60.0) for _ in range(4)]
    for _ in range(3):
        processes[0].failed("a", "ann")
    together, looked_at = threading.Barrier(8), []

    def guess(found: Throttle) -> None:
        together.wait()
        for _ in range(5):
            try:
                with found.turn("a", "ann"):
                    looked_at.append(found.failed("a", "ann"))
            except TooManyRequests:
                continue

    guessing = [threading.Thread(target=guess, args=(processes[number % 4],)) for number in range(8)]
    for each in guessing:
        each.start()
    for each in guessing:
        each.join()
    assert looked_at == [1.0]


def test_a_failure_that_cannot_be_counted_locks_here(process: Make, tmp_path: Path) -> None:
    found = process(3, 7.0, 60.0)
    for file in tmp_path.glob("control.sqlite*"):
        file.write_bytes(b"no database" * 1000)
    with pytest.raises(StorageUnavailable):
        found.failed("a", "ann")
    with pytest.raises(TooManyRequests, match="7 s"):
        found.check("a", "bob")


def test_where_others_cannot_be_asked_this_host_knows_what_it_has_heard(process: Make, tmp_path: Path) -> None:
    found = process(1, 7.0, 60.0)
    for _ in range(2):
        found.failed("a", "ann")
    for file in tmp_path.glob("control.sqlite*"):
        file.write_bytes(b"no database" * 1000)
    assert locked_s(found, "a", "bob") == 7
    assert locked_s(found, "b", "bob") == 0


def test_nothing_locks_where_it_is_off(process: Make, control: SqliteControl) -> None:
    found = process(0, 1.0, 10.0)
    control.close()
    assert all(found.failed("a", "b") == 0 for _ in range(100))
    assert found.check("a", "b")
    with found.turn("a", "b"):
        found.succeeded("a", "b")


def test_a_rate_has_a_burst_and_goes_on_in_its_time(clock: Clock, tmp_path: Path) -> None:
    one, other = (Rate(2.0, Moments(tmp_path / "rates"), clock) for _ in range(2))
    for _ in range(10):
        one.take("viewer")
        other.take("viewer")
    for each in (one, other):
        with pytest.raises(TooManyRequests, match="try again in 1 s") as refused:
            each.take("viewer")
        assert refused.value.after_s == 0.5
    one.take("another")
    clock.now += 0.5
    other.take("viewer")
    with pytest.raises(TooManyRequests):
        one.take("viewer")


@pytest.mark.parametrize("per_s", [0.3, 0.7, 3.0, 7.0, 1000.0 / 3.0])
def test_a_burst_is_ten_seconds_worth(clock: Clock, per_s: float) -> None:
    clock.now = 1_234_567.891
    rate = Rate(per_s, Moments(), clock)
    for _ in range(int(per_s * 10 + 1e-9)):
        rate.take("a")
    with pytest.raises(TooManyRequests):
        rate.take("a")


def test_a_rate_below_one_in_ten_seconds_still_lets_one_through(clock: Clock) -> None:
    rate = Rate(0.01, Moments(), clock)
    rate.take("a")
    with pytest.raises(TooManyRequests):
        rate.take("a")
    clock.now += 100
    rate.take("a")


def test_a_rate_of_nothing_is_without_bound(clock: Clock) -> None:
    rate = Rate(0.0, Moments(), clock)
    for _ in range(1000):
        rate.take("a")


def test_bytes_are_paid_for_by_name_in_all_processes_together(clock: Clock, tmp_path: Path) -> None:
    one, other = (Pace(Moments(tmp_path / "pace"), clock) for _ in range(2))
    assert one.pause_s("a", 1000, 1000.0) == 0.0
    assert other.pause_s("a", 500, 1000.0) == pytest.approx(0.5)
    assert other.pause_s("b", 1000, 1000.0) == 0.0
    clock.now += 0.5
    assert one.pause_s("a", 100, 1000.0) == pytest.approx(0.1)
    clock.now += 100
    assert one.pause_s("a", 1000, 1000.0) == 0.0


def test_an_ipv6_client_counts_as_its_network() -> None:
    assert source_of("2001:db8:1:2:3::4") == source_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert source_of("::ffff:10.0.0.1") == "10.0.0.1"
    assert source_of("fe80::1%eth0") == "fe80::/64"
