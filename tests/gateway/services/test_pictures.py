"""Pictures kept in memory."""

from __future__ import annotations

import asyncio

from gateway.services.pictures import Picture, Pictures


def picture(size: int) -> Picture:
    return Picture("image/jpeg", bytes(size))


async def test_the_ones_that_nobody_asked_for_the_longest_make_room() -> None:
    pictures = Pictures(1000)
    for name in "abcd":
        pictures.keep(name, picture(250))
    assert pictures.get("a") is not None
    pictures.keep("e", picture(200))
    assert [name for name in "abcde" if pictures.get(name)] == ["a", "c", "d", "e"]
    pictures.close()
    assert pictures.get("a") is None


async def test_what_is_large_is_not_kept_and_nothing_is_without_room() -> None:
    pictures = Pictures(1000)
    pictures.keep("a", picture(251))
    assert pictures.get("a") is None
    pictures = Pictures(0)
    pictures.keep("a", picture(1))
    assert pictures.get("a") is None


async def test_nothing_gets_old_also_when_nobody_asks() -> None:
    now_s = 0.0
    pictures = Pictures(1000, max_age_s=0.4, clock=lambda: now_s)
    pictures.keep("a", picture(10))
    now_s = 0.29
    await asyncio.sleep(0.15)
    assert pictures.get("a") is not None
    # Younger than it may be, and older than it may be at the next look.
    now_s = 0.31
    await asyncio.sleep(0.15)
    assert pictures.get("a") is None
    pictures.keep("b", picture(10))
    assert pictures.get("b") is not None
    pictures.close()
