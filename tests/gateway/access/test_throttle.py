"""Failed authentications lock, for longer each time; rates hold; what is remembered is bounded."""

from __future__ import annotations

import pytest

from gateway.access import throttle
from gateway.access.throttle import Rate, Throttle, source_of
from gateway.errors import TooManyRequests


class Clock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def locked_s(found: Throttle, source: str, claimed: str = "") -> float:
    try:
        found.check(source, claimed)
    except TooManyRequests as error:
        return error.after_s
    return 0.0


def test_each_failure_beyond_those_allowed_locks_for_twice_as_long_up_to_a_bound(clock: Clock) -> None:
    found = Throttle(3, 1.0, 10.0, clock)
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


def test_a_claimed_identity_is_locked_wherever_the_guesses_come_from(clock: Clock) -> None:
    found = Throttle(3, 5.0, 60.0, clock)
    for number in range(4):
        found.failed(f"10.0.0.{number}", "admin")
    assert locked_s(found, "10.0.0.99", "admin") == 5
    assert locked_s(found, "10.0.0.99", "somebody else") == 0


def test_who_has_succeeded_from_a_source_is_let_through_there_while_others_are_locked(clock: Clock) -> None:
    found = Throttle(1, 5.0, 60.0, clock)
    found.succeeded("nat", "viewer")
    for _ in range(3):
        found.failed("nat", "guessed")
    assert locked_s(found, "nat", "viewer") == 0
    assert locked_s(found, "nat", "guessed") > 0
    assert locked_s(found, "nat", "another guess") > 0
    clock.now += 121
    for _ in range(3):
        found.failed("nat", "guessed")
    assert locked_s(found, "nat", "viewer") > 0, "it has not been here for long"


def test_one_good_key_does_not_pay_for_guessing_others(clock: Clock) -> None:
    found = Throttle(3, 5.0, 60.0, clock)
    for number in range(4):
        found.succeeded("a", "mine")
        begun = found.failed("a", f"guess {number}")
    assert begun == 5
    assert locked_s(found, "a", "next guess") == 5


def test_guesses_between_the_successes_of_a_neighbour_are_not_free(clock: Clock) -> None:
    """Somebody behind the same address guesses a password while its owner works, and from elsewhere as well."""
    found = Throttle(3, 5.0, 60.0, clock)
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


def test_failures_are_forgotten_in_time(clock: Clock) -> None:
    found = Throttle(3, 1.0, 10.0, clock)
    for _ in range(3):
        found.failed("a")
    clock.now += 21
    assert found.failed("a") == 0


def test_nothing_locks_where_it_is_off(clock: Clock) -> None:
    found = Throttle(0, 1.0, 10.0, clock)
    assert all(found.failed("a", "b") == 0 for _ in range(100))
    found.check("a", "b")


def test_a_rate_has_a_burst_and_goes_on_in_its_time(clock: Clock) -> None:
    rate = Rate(2.0, clock)
    for _ in range(20):
        rate.take("viewer")
    with pytest.raises(TooManyRequests, match="try again in 1 s") as refused:
        rate.take("viewer")
    assert refused.value.after_s == 0.5
    rate.take("another")
    clock.now += 0.5
    rate.take("viewer")
    with pytest.raises(TooManyRequests):
        rate.take("viewer")


def test_a_rate_below_one_in_ten_seconds_still_lets_one_through(clock: Clock) -> None:
    rate = Rate(0.01, clock)
    rate.take("a")
    with pytest.raises(TooManyRequests):
        rate.take("a")
    clock.now += 100
    rate.take("a")


def test_memory_is_bounded_whoever_comes(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "_MAX_ENTRIES", 100)
    found, rate = Throttle(1, 1.0, 10.0, clock), Rate(1.0, clock)
    for number in range(5000):
        found.failed(f"source {number}", f"claimed {number}")
        found.succeeded(f"source {number}", f"good {number}")
        rate.take(f"source {number}")
    assert len(found) <= 200
    assert len(rate._buckets) <= 100


def test_an_ipv6_client_counts_as_its_network() -> None:
    assert source_of("2001:db8:1:2:3::4") == source_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert source_of("::ffff:10.0.0.1") == "10.0.0.1"
    assert source_of("fe80::1%eth0") == "fe80::/64"
