"""Who is served when, with renderers that wait until they are told."""

import logging
import threading
import time

import pytest
import torch
from viewed import cameras

from neural_fields.errors import InputError
from neural_fields.viewer.frame import State
from neural_fields.viewer.service import RenderService, Wish

TIMEOUT = 20.0


class Thing(str):
    """Something to look at; all of them cost as much."""

    work = "any"


class Slow:
    """A renderer whose tiles are finished by the test, and what it was asked."""

    def __init__(self):
        self.tile = threading.Semaphore(0)
        self.asked = []
        self.given_up = 0
        self.raises = None

    def __call__(self, camera, state, stopped):
        self.asked.append((state, camera.width))
        assert self.tile.acquire(timeout=TIMEOUT)
        if self.raises is not None:
            raise self.raises
        if stopped():
            self.given_up += 1
            return None
        return torch.zeros(camera.height, camera.width, 3, dtype=torch.uint8)


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture
def service(slow):
    made = RenderService(slow)
    yield made
    slow.tile.release(1000)
    made.close()
    assert not made._thread.is_alive()


def wish(state, got, said=None, size=400):
    return Wish(
        cameras(size)[0], State(Thing(state)), got.append, (said if said is not None else []).append
    )


def wait_for(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_coarse_then_finer_until_all_pixels(service, slow):
    got = []
    slow.tile.release(100)
    service.show("visitor", wish("x", got))
    wait_for(lambda: got and got[-1].final)
    widths = [picture.pixels.shape[1] for picture in got]
    assert widths[0] < 100
    assert widths == sorted(set(widths))
    assert widths[-1] == 400
    assert [picture.final for picture in got] == [False] * (len(got) - 1) + [True]
    time.sleep(0.05)
    assert len(slow.asked) == len(got)  # nothing more is done for a camera that rests


def test_the_newest_wish_counts_and_a_coarse_picture_is_finished(service, slow):
    got = []
    for name in ("first", "second", "third"):
        service.show("visitor", wish(name, got))
        wait_for(lambda: slow.asked)
    slow.tile.release(1)
    wait_for(lambda: len(slow.asked) == 2)
    assert len(got) == 1  # of the wish that was replaced meanwhile: better than nothing
    assert [state.shown for state, _ in slow.asked] == ["first", "third"]


def test_finer_pictures_give_way(service, slow):
    got, other = [], []
    service.show("visitor", wish("x", got))
    slow.tile.release(1)
    wait_for(lambda: len(slow.asked) == 2)  # the finer one is in work
    service.show("another", wish("y", other))
    slow.tile.release(1)
    wait_for(lambda: slow.given_up == 1 and len(slow.asked) == 3)
    assert slow.asked[2][0].shown == "y"
    slow.tile.release(100)
    wait_for(lambda: got[-1].final and other and other[-1].final)


def test_nobody_is_passed_over(service, slow):
    """Two visitors who move all the time are served in turn."""
    for n_asked in range(1, 13):
        for name in ("a", "b"):
            service.show(name, wish(name, []))
        wait_for(lambda n=n_asked: len(slow.asked) == n)
        for name in ("a", "b"):
            service.show(name, wish(name, []))
        slow.tile.release(1)
    order = [state.shown for state, _ in slow.asked]
    assert 5 <= order.count("a") <= 7


def test_whoever_leaves_is_forgotten(service, slow):
    got = []
    service.show("visitor", wish("x", got))
    wait_for(lambda: slow.asked)
    service.forget("visitor")
    slow.tile.release(100)
    time.sleep(0.05)
    assert len(got) <= 1
    assert len(slow.asked) == 1


@pytest.mark.parametrize("error", [InputError("no such thing"), RuntimeError("a bug")])
def test_errors_are_said_and_the_next_visitor_is_served(service, slow, error, caplog):
    got, said = [], []
    slow.raises = error
    slow.tile.release(1)
    with caplog.at_level(logging.ERROR):
        service.show("visitor", wish("x", got, said))
        wait_for(lambda: said)
    assert said == [str(error)]
    assert ("a bug" in caplog.text) == isinstance(error, RuntimeError)
    slow.raises = None
    slow.tile.release(100)
    service.show("visitor", wish("x", got))
    wait_for(lambda: got and got[-1].final)


def test_a_window_that_cannot_take_its_picture_harms_nobody(service, slow, caplog):
    got = []
    slow.tile.release(100)
    broken = wish("x", got)
    service.show("broken", Wish(broken.camera, broken.state, lambda _: 1 / 0, broken.fail))
    service.show("visitor", wish("y", got))
    wait_for(lambda: got and got[-1].final)
    assert "ZeroDivisionError" in caplog.text


def test_sizes_follow_the_speed(service, slow):
    """After a slow picture the next coarse one is smaller."""
    got = []
    service.show("visitor", wish("x", got, size=1000))
    wait_for(lambda: slow.asked)
    time.sleep(0.5)
    slow.tile.release(1)
    wait_for(lambda: got)
    service.show("visitor", wish("x", got, size=1000))
    slow.tile.release(1)
    wait_for(lambda: any(width < slow.asked[0][1] for _, width in slow.asked[1:]))
