"""Shapes and types of the whole library are checked at run time in every test."""

from collections.abc import Iterator

from jaxtyping import config, install_import_hook

install_import_hook("resonant", "beartype.beartype")

import pytest  # noqa: E402 (the hook comes first)
import torch  # noqa: E402

torch.set_num_threads(1)  # tests run side by side


# Ten to forty seconds each where the fast tests take as many minutes: for make test-slow. Of each
# kind a quicker one stays.
LONG = (
    "test_collapse.py::test_softmax_and_kuramoto_collapse_and_krause_does_not",
    "test_robust.py::test_a_damaged_file_is_named_and_deleting_it_is_enough[last.ckpt]",
    "test_compile.py::test_full_graph[export]",
    "test_killed.py::test_killed_and_started_again[metrics-half]",
    "test_killed.py::test_killed_and_started_again[checkpoint-unreplaced]",
    "test_killed.py::test_finished_runs_are_kept",
    "test_killed.py::test_more_workers_and_seeds_change_no_run",
    "test_sweep.py::",
    "test_laws.py::test_law[kuramoto-paths]",
    "test_laws.py::test_law[softmax-paths]",
    "alignment/test_task.py::test_tables_and_pictures_of_alignment",
    "test_phase.py::test_cached_is_full[none-fields2-",
    "test_energy_gate.py::test_the_report_shows_positions_and_gates_and_writes_figures",
    "test_leak.py::test_an_honest_gate_stays_at_the_entropy",
    "test_clock.py::test_ten_thousand_frames_streamed_are_the_full_pass",
    "speech/test_corpus.py::test_models_learn_from_recordings_too",
    "adapters/test_task.py::test_bfloat16_and_checkpointed_activations",
    "test_mel.py::test_a_tone_lies_in_its_frames_and_its_band[40-512]",
    "test_own_mechanism.py::test_it_is_compared_from_the_command_line",
    "speech/test_corpus.py::test_the_same_phrases_at_every_tempo",
    "test_errors.py::test_an_unknown_mechanism_and_a_missing_plugin",
    "test_position.py::test_locality_keeps_the_budget_at_8192_tokens",
    "test_banded.py::test_laws_hold_segment_by_segment[kuramoto-paths]",
    "test_banded.py::test_laws_hold_segment_by_segment[softmax-sink-paths]",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes long as slow."""
    for item in items:
        if any(name in item.nodeid for name in LONG):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same numbers on every run."""
    torch.manual_seed(0)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the run-time checks, as users run it: for our own errors about wrong arguments."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
