"""Scores of alignments worked out by hand."""

import pytest
import torch

from resonant.diagnostics import along_path, measure_alignment, record_clocks
from resonant.functional.clock import Clock
from resonant.nn import ClockAttention, padded_queries


def test_scores_of_a_path_by_hand() -> None:
    """Symbols last 2, 3 and 1 frames; the path gives 3, 0 and 3, and goes back once."""
    durations = torch.tensor([[2, 3, 1, 0]])
    path = torch.tensor([[0, 0, 2, 0, 2, 2, -1, -1]])
    scores = measure_alignment(along_path(path, 4), durations).means()
    assert scores["boundary_error"] == (1 + 2) / 2  # 3 frames before the first boundary, 3 by 5
    assert scores["within"] == 0.5
    assert scores["duration_error"] == (1 + 3 + 2) / 3
    assert scores["correct"] == 3 / 6
    assert scores["near"] == 1.0
    assert scores["focus"] == 1.0
    assert scores["skips"] == 1 - 2 / 3
    assert scores["repeats"] == 2 / 3  # 0 and 2 entered twice
    assert scores["early_stop"] == 0.0
    assert scores["falls"] == 1 / 5


def test_a_true_path_has_no_error_whatever_the_padding() -> None:
    durations = torch.tensor([[2, 3, 1], [4, 0, 0]])
    path = torch.tensor([[0, 0, 1, 1, 1, 2], [0, 0, 0, 0, -1, -1]])
    scores = measure_alignment(along_path(path, 3), durations)
    for name in ("boundary_error", "duration_error", "skips", "repeats", "early_stop", "falls"):
        assert getattr(scores, name).eq(0).all(), name
    assert scores.correct.eq(1).all()
    assert scores.within[0] == 1


def test_lengths_of_their_own_and_early_stops() -> None:
    """Decoded freely: eight frames where the truth has six, ending on the middle symbol."""
    durations = torch.tensor([[2, 3, 1]])
    path = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]])
    scores = measure_alignment(along_path(path, 3), durations, torch.tensor([8])).means()
    assert scores["early_stop"] == 1.0
    assert scores["boundary_error"] == (2 + 3) / 2
    assert scores["skips"] == 1 - 2 / 3


def test_clocks_are_recorded_as_they_ran() -> None:
    module = ClockAttention(8, 2)
    torch.nn.init.normal_(module.q_rate.weight)
    frames, source = torch.randn(1, 12, 8), torch.randn(1, 5, 8)
    padding = torch.zeros(1, 5, dtype=torch.bool)
    padding[0, 4:] = True
    with record_clocks(module) as found:
        module(frames, source, key_padding_mask=padding)
    module(frames, source)
    ((target, of_source),) = found
    assert isinstance(target, Clock)
    assert target.end.shape == (1, 2, 12)
    torch.testing.assert_close(of_source.end[..., 3:], torch.ones(1, 2, 2).double())
    frame_padding = torch.arange(12).expand(1, -1) >= 7
    with record_clocks(module) as found, padded_queries(module, frame_padding):
        module(query=frames, key=source)
    last = found[0][0]
    assert isinstance(last, Clock)
    torch.testing.assert_close(last.end[..., 6:], torch.ones(1, 2, 6).double())
    running = ClockAttention(8, 2, normalized=False, query_rate=0.5).eval()
    cache = running.new_cache()
    with torch.no_grad(), record_clocks(running) as found:
        for _ in range(4):
            running(frames[:, :1], source, cache=cache)
    totals = torch.stack([each.total[0, 0, 0] for each, _ in found if isinstance(each, Clock)])
    torch.testing.assert_close(totals, torch.tensor([0.5, 1.0, 1.5, 2.0]).double())
    with record_clocks(torch.nn.Linear(2, 2)) as nothing:
        pass
    assert nothing == []


def test_a_place_is_lost_and_found_again() -> None:
    """Six symbols of a frame each: three away at the second frame, back; away at the last one."""
    durations = torch.ones(3, 6, dtype=torch.long)
    path = torch.tensor([[0, 4, 2, 3, 4, 5], [0, 1, 2, 3, 4, 1], [0, 3, 2, 3, 2, 3]])
    scores = measure_alignment(along_path(path, 6), durations)
    assert scores.lost.tolist() == [1, 1, 0]  # two symbols away is not lost yet
    assert scores.lost_at_end.tolist() == [0, 1, 0]


def test_frames_at_another_tempo_count_as_that_many() -> None:
    """At twice the tempo half of the frames are made, and each counts for two."""
    durations = torch.tensor([[2, 4, 2, 0]])
    path = torch.tensor([[0, 1, 1, 2, -1]])
    scores = measure_alignment(along_path(path, 4), durations, tempo=2.0).means()
    assert scores["boundary_error"] == scores["duration_error"] == scores["early_stop"] == 0
    assert scores["correct"] == 1.0
    early = torch.tensor([[0, 0, 1, 2, -1]])
    off = measure_alignment(along_path(early, 4), durations, tempo=2.0).means()
    assert off["boundary_error"] == (2 + 0) / 2
    assert off["lost"] == 0


def test_tempi_and_lengths_that_there_cannot_be_are_refused() -> None:
    durations = torch.tensor([[2, 4, 2]])
    weights = along_path(torch.tensor([[0, 0, 1, 1]]), 3)
    for tempo in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="tempo is a finite number above 0"):
            measure_alignment(weights, durations, tempo=tempo)
    with pytest.raises(ValueError, match="8 frames count, but only 4 have weights"):
        measure_alignment(weights, durations)


def test_a_frame_is_judged_by_its_middle() -> None:
    """At 0.7 of the tempo, 5 frames of 0.7 each stand for 2 and 1.5; the third one is 1.75 in."""
    weights = along_path(torch.tensor([[0, 0, 0, 1, 1]]), 2)
    scores = measure_alignment(weights, torch.tensor([[2, 1]]), torch.tensor([5]), tempo=0.7)
    assert scores.correct.item() == 1.0
