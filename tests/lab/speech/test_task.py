"""Speech as a task: boundaries in ms, phonemes heard, distortion, sound, and a whole comparison."""

import dataclasses
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from resonant.cli.main import main
from resonant.errors import UserError
from resonant.lab.alignment.config import SymbolsConfig
from resonant.lab.alignment.utterances import Utterances
from resonant.lab.compare.folders import as_json
from resonant.lab.domains import EXPERIMENTS, build_task
from resonant.lab.kit.config import RunConfig
from resonant.lab.kit.machine import with_this_machine
from resonant.lab.kit.metrics import Metrics
from resonant.lab.kit.results import gather
from resonant.lab.report.page import write_report
from resonant.lab.run.loop import finish
from resonant.lab.speech import recognizer as recognizers
from resonant.lab.speech.config import SpeechConfig
from resonant.lab.speech.corpus import SpeechCorpus
from resonant.lab.speech.mel import read_wav
from resonant.lab.speech.recognizer import (
    Recognizer,
    edit_distance,
    likeliest_paths,
    load_recognizer,
)
from resonant.lab.speech.task import SpeechTask

from ..running import quality, resonant
from .speaking import TINY, corpus, speech_cache, spoken_text, tiny_config
from .test_recordings import write_clips

__all__ = ["corpus", "speech_cache", "spoken_text"]

SPEECH = EXPERIMENTS["speech"]
FAST = [
    "--arms=softmax-guided,clock,next-clock",
    "--seeds=2",
    "--workers=2",
    "--training.steps=4",
    "--training.evaluate_every=2",
    "--training.batch_size=2",
    "--training.warmup=2",
    "--model.width=16",
    "--model.heads=2",
    "--model.hidden=16",
    "--model.encoder_hidden=16",
    "--model.layers=1",
    "--model.encoder_layers=1",
    "--data.text=file",
    *TINY,
]


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recognizer that hears little, in a second."""
    monkeypatch.setattr(recognizers, "STEPS", 60)


def config_of(text: Path, arm: str = "clock", seed: int = 0, **data: object) -> RunConfig:
    config = SPEECH.config(SPEECH.base, SPEECH.arm(arm), seed, {"training.evaluation_windows": 3})
    return dataclasses.replace(config, data=tiny_config(text, **data))


@pytest.fixture
def task(spoken_text: Path, speech_cache: Path, few_steps: None) -> SpeechTask:
    found = build_task(config_of(spoken_text), None)
    assert isinstance(found, SpeechTask)
    return found


class Knowing(SpeechTask):
    """Its weights are the truth in one head, its frames are the true ones."""

    knows = (1, 2)

    def weights(self, batch: Utterances) -> Tensor:
        frames = torch.arange(batch.frames.shape[1])
        path = (frames[None, :, None] >= batch.durations.cumsum(1).unsqueeze(1)).sum(-1)
        path = path.clamp(max=batch.symbols.shape[1] - 1)
        weights = torch.rand(2, len(path), 4, path.shape[1], batch.symbols.shape[1])
        layer, head = Knowing.knows
        weights[layer, :, head] = torch.nn.functional.one_hot(path, weights.shape[-1]).float()
        return weights

    def distortion(self, made: list[tuple[Utterances, Tensor]]) -> float:
        return super().distortion([(batch, batch.frames) for batch, _ in made])


@pytest.mark.slow
def test_a_head_that_knows_is_found_and_true_frames_are_not_distorted(
    spoken_text: Path, speech_cache: Path, few_steps: None
) -> None:
    task = Knowing(config_of(spoken_text), None)
    found = task.metrics()
    assert task.head == (1, 2)
    assert [c.name for c in task.conditions] == ["0.6", "0.8", "1", "1.25", "1.6", "long"]
    for condition in task.conditions:
        for name in ("boundary_error", "duration_error", "skips", "repeats", "distortion"):
            assert found[f"{name}@{condition.name}"] == 0.0
        for name in ("correct", "within_20", "within_50"):
            assert found[f"{name}@{condition.name}"] == 1.0
        assert found[f"stretched_boundary_error@{condition.name}"] > 0.0
    assert task.facts()["frame_ms"] == pytest.approx(1000 * 512 / 22050)


def test_shares_within_milliseconds_count_frames(
    task: SpeechTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame is 23 ms: 20 ms is the very frame, 50 ms two frames off."""
    batch = task.batches("test")[0]
    shifted = dataclasses.replace(batch, durations=batch.durations.clone())
    shifted.durations[:, 0] += 2
    shifted.durations[:, 1] = (shifted.durations[:, 1] - 2).clamp(min=1)
    task.head = Knowing.knows
    weights = Knowing.weights(task, batch)  # type: ignore[arg-type]
    monkeypatch.setattr(task, "weights", lambda given: weights)
    found = task.boundaries_within([shifted])
    assert found["within_20"] < 1.0
    assert found["within_50"] > found["within_20"]


def test_distortion_is_its_formula_and_deaf_to_loudness(task: SpeechTask) -> None:
    batch = task.batches("test")[0]
    bands = batch.frames.shape[2]
    off = torch.randn_like(batch.frames)
    found = task.distortion([(batch, batch.frames + off)])
    k, b = torch.arange(1, 14)[:, None], torch.arange(bands)[None]
    waves = torch.cos(torch.pi * k * (b + 0.5) / bands).double() / bands
    scaled = off[~batch.frame_padding].double() * torch.from_numpy(task.corpus.spread)
    cepstra = scaled @ waves.T
    expected = 10 / np.log(10) * (2 * cepstra.square().sum(1)).sqrt().mean()
    assert found == pytest.approx(expected.item(), rel=1e-6)
    louder = torch.from_numpy(1.0 / task.corpus.spread).float().expand_as(batch.frames)
    assert task.distortion([(batch, batch.frames + louder)]) < 1e-5


def test_arms_of_a_seed_see_the_same_batches(spoken_text: Path, speech_cache: Path) -> None:
    tasks = [
        SpeechTask(config_of(spoken_text, arm, seed), None)
        for arm, seed in (("softmax", 0), ("clock", 0), ("softmax", 1))
    ]
    first, same, other = (task.batch(5) for task in tasks)
    assert torch.equal(first.symbols, same.symbols)
    assert first.symbols.shape != other.symbols.shape or not torch.equal(
        first.symbols, other.symbols
    )
    assert torch.equal(tasks[0].batches("test")[0].frames, tasks[2].batches("test")[0].frames)


def test_the_guessed_length_is_part_of_the_loss_and_moves_nothing_else(task: SpeechTask) -> None:
    batch = task.batch(0)
    guess = task.guess_lengths(batch).log()
    share = 0.1 * (guess - batch.durations.sum(-1).log()).square().mean()
    without = super(SpeechTask, task).loss_of(batch)
    torch.testing.assert_close(task.loss_of(batch), without + share)
    share.backward()
    moved = {n for n, p in task.model.named_parameters() if p.grad is not None}
    assert moved == {"duration.weight", "duration.bias"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"features": 41}, r"the data need model\.features = 40, the model has 41"),
        ({"vocabulary": 9}, r"need model\.vocabulary = \d+, the model has 9"),
        ({"voices": 2}, r"need model\.voices = 3, the model has 2; pass --model\.voices 3"),
    ],
)
def test_models_of_other_sizes(
    spoken_text: Path, speech_cache: Path, changes: dict[str, int], says: str
) -> None:
    config = config_of(spoken_text)
    with pytest.raises(UserError, match=says):
        build_task(
            dataclasses.replace(config, model=dataclasses.replace(config.model, **changes)), None
        )


def test_speech_is_for_models_of_speech(spoken_text: Path) -> None:
    config = config_of(spoken_text)
    for wrong in (
        dataclasses.replace(config, data=SymbolsConfig()),
        dataclasses.replace(config, model=EXPERIMENTS["align"].base.model),
        dataclasses.replace(config, model=EXPERIMENTS["stdlib"].base.model),
    ):
        with pytest.raises(UserError, match="cannot be trained on"):
            build_task(wrong, None)


@pytest.mark.parametrize("seed", range(5))
def test_edit_distance_is_levenshteins(seed: int) -> None:
    draw = np.random.default_rng(seed)
    ours, theirs = (draw.integers(0, 4, draw.integers(0, 9)).tolist() for _ in range(2))

    def slow(a: list[int], b: list[int]) -> int:
        if not a or not b:
            return len(a) + len(b)
        change = slow(a[1:], b[1:]) + (a[0] != b[0])
        return min(change, slow(a[1:], b) + 1, slow(a, b[1:]) + 1)

    assert edit_distance(ours, theirs) == slow(ours, theirs)


@pytest.mark.parametrize("penalty", [0.0, 0.7, 3.0])
def test_likeliest_paths_are_the_best_of_all(penalty: float) -> None:
    scores = torch.randn(3, 5, 3)
    found = likeliest_paths(scores, penalty)
    for row in range(3):
        best = max(
            itertools.product(range(3), repeat=5),
            key=lambda path: (
                sum(scores[row, t, c].item() for t, c in enumerate(path))
                - penalty * sum(a != b for a, b in itertools.pairwise(path))
            ),
        )
        assert found[row].tolist() == list(best)


@pytest.mark.slow
def test_the_recognizer_hears_true_frames(
    corpus: SpeechCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 utterances are few, but what it was trained on it hears; and it is kept, and repeats."""
    heard = load_recognizer(corpus)
    train = corpus.batch("train", range(24))
    assert heard.error_rate([(train, train.frames)]) < 0.05
    silence = torch.zeros_like(train.frames)
    assert heard.error_rate([(train, silence)]) > 0.7
    again = load_recognizer(corpus)
    assert again.penalty == heard.penalty in recognizers.PENALTIES
    assert all(map(torch.equal, heard.parameters(), again.parameters()))
    (kept,) = corpus.path.parent.glob(f"{corpus.path.stem}-recognizer-*.pt")
    whole = kept.read_bytes()
    for damage in (b"", whole[:1000], b"no weights"):
        kept.write_bytes(damage)
        with monkeypatch.context() as patch:
            patch.setattr(recognizers, "STEPS", 1)
            load_recognizer(corpus)
        assert kept.read_bytes() not in (damage, whole)
    kept.write_bytes(whole)


def test_stress_and_pauses_do_not_count() -> None:
    recognizer = Recognizer(4, ("_", "a", "ˈa", "b"))
    assert recognizer.phonemes == ["_", "a", "b"]
    assert recognizer.of_symbol == [0, 1, 2, 2, 3]
    assert recognizer.collapse([1, 2, 2, 1, 2, 3, 3, 1]) == [2, 2, 3]


def test_speech_that_changed_since_it_was_planned(spoken_text: Path, speech_cache: Path) -> None:
    config = dataclasses.replace(config_of(spoken_text), corpus="0" * 64)
    with pytest.raises(UserError, match="the speech behind 'espeak' changed since this run"):
        build_task(config, None)


def test_the_report_of_recordings(
    tmp_path: Path, speech_cache: Path, few_steps: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """No other tempi, one arm: nothing over tempi, nothing to compare, and it is written."""
    clips = write_clips(tmp_path / "data", 16)
    data = SpeechConfig(name="recordings", utterances=30, held_out=4)
    config = dataclasses.replace(config_of(tmp_path / "none", "next-clock"), data=data)
    task = build_task(config, clips)
    assert isinstance(task, SpeechTask)
    out = tmp_path / "out"
    folder = out / "next-clock-seed0"
    folder.mkdir(parents=True)
    finish(task, config, folder, seconds=1.0, made_with=with_this_machine([]))
    (folder / "config.yaml").write_text(yaml.safe_dump(as_json(config)))
    row = {
        "step": float(config.training.steps),
        "train_loss": 1.0,
        "valid_loss": 1.0,
        "learning_rate": 0.1,
        "seconds": 1.0,
    }
    Metrics(folder / "metrics.csv").write(row)
    arms = [{"name": "next-clock", "says": "x", "control": "next-softmax", "changes": ""}]
    described = {"experiment": "speech", "says": "x", "data": "own", "runs": [folder.name]}
    described |= {"arms": arms, "ceilings": {}}
    (out / "comparison.json").write_text(json.dumps(described))
    assert main(["report", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Differences of" not in said
    assert "Tempo 0.6" not in said
    page = (out / "report.html").read_text()
    assert page.count("<audio") == 2
    assert "Boundaries over spectrograms" in page


def compare(out: Path, text: Path, *more: str, fault: str | None = None) -> str:
    where = [f"--data.path={text}", f"--out={out}"]
    done = resonant("compare", "speech", *where, *FAST, *more, fault=fault)
    assert (done.returncode == 0) == (fault is None), done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, spoken_text: Path
) -> Iterator[tuple[Path, str]]:
    """A whole comparison, and what it printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(spoken_text.parent / "cache"))
        out = tmp_path_factory.mktemp("speech")
        yield out, compare(out, spoken_text)


@pytest.mark.slow
def test_a_whole_comparison(
    finished: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, said = finished
    for heading in (
        "Boundary error by tempo, in ms",
        "Differences of boundary error, in ms",
        "Phoneme error rate by tempo, in %",
        "Mel-cepstral distortion by tempo, in dB",
        "Boundaries within 50 ms of the truth, in %",
        "Phonemes that no frame points at, in %",
        "Length guessed from phonemes alone",
        "Decoding that hears only itself",
    ):
        assert heading in said
    folder = out / "clock-seed0"
    done = json.loads((folder / "done.json").read_text())
    assert done["frame_ms"] == pytest.approx(23.22, abs=0.01)
    values = [json.loads((out / f"clock-seed{seed}" / "done.json").read_text()) for seed in (0, 1)]
    errors = [each["metrics"]["boundary_error@0.6"] * each["frame_ms"] for each in values]
    assert f"{np.mean(errors):.1f}" in said
    assert all(each["metrics"]["true_phoneme_error@1"] < 0.9 for each in values)
    page = (out / "report.html").read_text()
    assert page.count("<audio") == 4 * 3  # as spoken, three arms; three tempi
    assert "Boundaries over spectrograms" in page
    for name in ("as-spoken@1", "clock@0.6"):
        assert len(read_wav((out / "sound" / f"{name}.wav").read_bytes(), name)) > 1000
    target = tmp_path / "said.wav"
    assert main(["speak", str(folder), "old dog", "--out", str(target)]) == 0
    assert "d ˈɑː ɡ" in capsys.readouterr().out
    assert len(read_wav(target.read_bytes(), "said.wav")) > 1000
    for arguments, says in (
        (["--voice", "fr"], "the model has no voice 'fr'; it has en-us, en-us+f3, en+m3"),
        (["--tempo", "0.00001"], "tempo is 0.2 to 5; it is 1e-05"),
    ):
        assert main(["speak", str(folder), "old dog", *arguments]) == 2
        assert says in capsys.readouterr().err
    assert main(["speak", str(folder), "zoo jazz"]) == 2
    assert "the model never heard the phoneme" in capsys.readouterr().err
    assert main(["speak", str(tmp_path), "old dog"]) == 2
    assert "holds no model.safetensors" in capsys.readouterr().err


@pytest.mark.slow
def test_sounds_are_made_again_only_where_a_run_is_newer(
    finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    made: list[int] = []

    def sound(mel: np.ndarray, *, hop: int) -> np.ndarray:
        made.append(len(mel))
        return np.zeros(len(mel) * hop, dtype=np.float32)

    monkeypatch.setattr("resonant.lab.speech.players.sound", sound)
    write_report(gather(tmp_path), tmp_path)
    assert not made
    (tmp_path / "clock-seed0" / "alignment.npz").touch()
    write_report(gather(tmp_path), tmp_path)
    assert len(made) == 3  # its own; what was spoken goes by the first arm
    (tmp_path / "next-clock-seed0" / "alignment.npz").unlink()
    assert write_report(gather(tmp_path), tmp_path).read_text().count("<audio") == 3 * 3

    def refuse(mel: np.ndarray, *, hop: int) -> np.ndarray:
        raise UserError("no librosa")

    monkeypatch.setattr("resonant.lab.speech.players.sound", refuse)
    (tmp_path / "clock-seed0" / "alignment.npz").touch()
    page = write_report(gather(tmp_path), tmp_path).read_text()
    assert "No players: no librosa." in page


@pytest.mark.slow
@pytest.mark.parametrize("point", ["step:3", "checkpoint-written:2", "alignment-half"])
def test_killed_and_started_again(
    point: str, tmp_path: Path, spoken_text: Path, speech_cache: Path
) -> None:
    compare(tmp_path / "whole", spoken_text)
    compare(tmp_path / "killed", spoken_text, fault=point)
    compare(tmp_path / "killed", spoken_text)
    assert quality(tmp_path / "killed") == quality(tmp_path / "whole")
