"""Where a film is cut, and what the palette of each scene is learnt from."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import photo_pixels

from cbir.palette import Palette
from cbir.scenes import MIN_FRAMES, Cuts, SceneFinder, distance, histogram

U8 = NDArray[np.uint8]


def learn(frames: list[U8]) -> Palette:
    return Palette.of_bytes(np.unique(np.concatenate(frames).reshape(-1, 3)[::97], axis=0)[:8])


def test_a_histogram_sums_to_one() -> None:
    assert histogram(photo_pixels(1)).sum() == pytest.approx(1)


def test_a_frame_is_at_no_distance_from_itself_and_black_is_far_from_white() -> None:
    black, white = (histogram(np.full((8, 8, 3), level, np.uint8)) for level in (0, 255))
    assert distance(black, black) == 0
    assert distance(black, white) == pytest.approx(1)


def test_a_film_is_cut_where_its_colours_change_at_once() -> None:
    cuts = Cuts()
    frames = [photo_pixels("#2f7a35")] * 20 + [photo_pixels("#a83a2c")] * 20
    assert [i for i, frame in enumerate(frames) if cuts.add(frame)] == [0, 20]


def test_a_slow_fade_is_no_cut() -> None:
    cuts = Cuts()
    frames = [np.full((20, 20, 3), level, np.uint8) for level in range(20, 220, 3)]
    assert [i for i, frame in enumerate(frames) if cuts.add(frame)] == [0]


def test_an_object_that_crosses_the_frame_is_no_cut() -> None:
    cuts = Cuts()
    frames = []
    for x in range(0, 60, 4):
        frame = photo_pixels("#1f5fa8").copy()
        frame[10:30, x : x + 12] = (240, 216, 58)
        frames.append(frame)
    assert [i for i, frame in enumerate(frames) if cuts.add(frame)] == [0]


def test_a_flash_makes_no_scene_of_its_own() -> None:
    cuts = Cuts()
    frames = [photo_pixels("#2f7a35")] * 20
    frames[10] = np.full_like(frames[0], 255)
    scenes = [i for i, frame in enumerate(frames) if cuts.add(frame)]
    assert all(b - a >= MIN_FRAMES for a, b in pairwise(scenes))


def test_each_scene_has_a_palette_of_its_own_frames() -> None:
    finder = SceneFinder(learn)
    for i in range(30):
        finder.add(100 + i, np.full((8, 8, 3), 10 if i < 15 else 200, np.uint8))
    scenes = finder.scenes()
    assert [scene.start for scene in scenes] == [100, 115]
    assert [scene.palette.srgb.tolist() for scene in scenes] == [[[10] * 3], [[200] * 3]]
    assert [(scene.low[0], scene.high[0]) for scene in scenes] == [(2, 18), (192, 208)]


def test_one_palette_is_learnt_from_all_scenes() -> None:
    finder = SceneFinder(lambda frames: Palette.of_bytes(np.concatenate(frames)), one=True)
    for i in range(30):
        finder.add(i, np.full((8, 8, 3), 10 if i < 15 else 200, np.uint8))
    (scene,) = finder.scenes()
    assert scene.palette.srgb.tolist() == [[10] * 3, [200] * 3]


def test_a_long_scene_is_learnt_from_a_few_frames_throughout_it() -> None:
    seen: list[int] = []

    def remember(frames: list[U8]) -> Palette:
        seen.extend(int(frame[0, 0, 0]) for frame in frames)
        return learn(frames)

    finder = SceneFinder(remember, one=True)
    for i in range(1000):
        finder.add(i, np.full((4, 4, 3), i * 255 // 999, np.uint8))
    finder.scenes()
    assert len(seen) <= 48
    assert max(np.diff([*seen, 255])) < 255 / 20


def test_a_film_without_frames_has_no_scenes() -> None:
    assert SceneFinder(learn).scenes() == []
