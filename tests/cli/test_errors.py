"""What goes wrong is said in one sentence with the next move: status 2, no traceback, no litter."""

from pathlib import Path

import pytest

from resonant.cli.main import main
from resonant.cli.options import pick_experiment
from resonant.cli.plugins import plugins_given
from tests.lab.running import compare, write_text


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compair"], "did you mean 'compare'"),
        (["compare", "shakespear"], "did you mean 'shakespeare'"),
        (["compare", "stdlib", "--arms", "softmax,kruase-window"], "did you mean 'krause-window'"),
        (["compare", "--training.step", "5"], "did you mean '--training.steps'"),
        (["compare", "--modle.layers=3"], "did you mean '--model.layers'"),
        (["compare", "--training.steps", "many"], "--training.steps takes int, not 'many'"),
        (["compare", "--training.steps=-3"], "training.steps must be at least 0; it is -3"),
        (["compare", "--model.heads=3"], "twice model.heads"),
        (["compare", "--training.learning_rate=0"], "learning_rate must be above 0; it is 0"),
        (["compare", "stdlib", "extra"], "extra"),
        (["compare", '--training={"steps": 2}'], "as in --training.accumulate VALUE"),
        (["compare", "--model.attention={}"], "as in --model.attention.dropout VALUE"),
        (["compare", "--seeds", "0"], "--seeds must be at least 1, at most 1000; it is 0"),
        (["compare", "--data.name", "stdlibb"], "did you mean 'stdlib'"),
        (["compare", "--data.tokens", "words"], "bytes or characters"),
        (["compare", "--data.name", "file"], "needs --data.path"),
        (["compare", "--data.name=file", "--data.path=/nowhere/x"], "cannot read /nowhere/x"),
        (["compare", "--data.path=x"], "--data.name file only"),
        (["train", "stdlib", "--arm", "krause"], "did you mean 'krause-window'"),
        (["report", "/nowhere"], "there is no /nowhere; give a comparison's folder or its archive"),
    ],
)
def test_one_sentence_and_status_2(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "input.txt").write_text("not Shakespeare")
    out = tmp_path / "out"
    assert main(["compare", "shakespeare", f"--data-dir={tmp_path}", f"--out={out}"]) == 2
    error = capsys.readouterr().err
    assert "is not shakespeare: its SHA-256 is" in error
    assert "--data.name file" in error
    assert not out.exists()


def test_a_folder_without_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "shakespeare", f"--data-dir={tmp_path}"]) == 2
    assert "neither input.txt nor shakespeare/input.txt is there" in capsys.readouterr().err


def test_no_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # A port nobody listens on stands for the missing network.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    out = tmp_path / "out"
    assert main(["compare", "shakespeare", f"--out={out}"]) == 2
    error = capsys.readouterr().err
    assert "could not download shakespeare" in error
    assert "--data-dir FOLDER" in error
    assert not out.exists()
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


@pytest.mark.slow
def test_another_configuration_is_refused_and_overwritten_only_when_told(
    text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    compare(text, out)
    old = (out / "krause-window-topk-seed0" / "done.json").read_text()
    refused = compare(text, out, "--training.steps=4")
    assert refused.returncode == 2
    assert "holds a run of another configuration (training.steps was 6, is 4)" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert (out / "krause-window-topk-seed0" / "done.json").read_text() == old
    compare(text, out, "--training.steps=4", "--overwrite")
    assert '"steps": 4' in (out / "krause-window-topk-seed0" / "done.json").read_text()


@pytest.mark.slow
def test_a_checkpoint_of_another_configuration_is_never_taken_up(
    text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    compare(text, out)
    for name in ("config.yaml", "done.json"):
        (out / "krause-window-topk-seed0" / name).unlink()
    refused = compare(text, out, "--training.learning_rate=0.5")
    assert refused.returncode == 2
    assert "last.ckpt belongs to a run of another configuration" in refused.stderr


@pytest.mark.slow
def test_another_text_is_another_configuration(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    compare(text, out)
    text.write_text(text.read_text().upper())
    refused = compare(text, out)
    assert refused.returncode == 2
    assert "(corpus was" in refused.stderr


def test_a_folder_that_cannot_be_made(text: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file is in the way")
    refused = compare(text, tmp_path / "out")
    assert refused.returncode == 2
    assert "check that the path is right" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_a_full_disk_in_a_worker(text: Path, tmp_path: Path) -> None:
    """A limit on file sizes stands for a full disk: the checkpoint does not fit."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, before[1]))
    try:
        refused = compare(text, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused.returncode == 2, refused.stderr
    assert "last.ckpt: File too large; free some space" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert not list((tmp_path / "out").rglob("last.ckpt"))
    compare(text, tmp_path / "out")
    assert list((tmp_path / "out").rglob("done.json"))


def test_a_model_that_does_not_fit_the_data(text: Path, tmp_path: Path) -> None:
    refused = compare(text, tmp_path / "out", "--model.vocabulary=8")
    assert refused.returncode == 2
    assert "pass --model.vocabulary 256" in refused.stderr


@pytest.mark.slow
def test_an_unknown_mechanism_and_a_missing_plugin(text: Path, tmp_path: Path) -> None:
    unknown = compare(text, tmp_path / "a", "--model.attention.mechanism=kruse")
    assert unknown.returncode == 2
    assert "did you mean 'krause'" in unknown.stderr
    missing = compare(text, tmp_path / "b", "--plugins=no_such_module")
    assert missing.returncode == 2
    assert "cannot import the plugin 'no_such_module'" in missing.stderr


def test_a_loss_that_is_no_number(text: Path, tmp_path: Path) -> None:
    diverged = compare(
        text, tmp_path / "out", "--training.learning_rate=1e30", "--training.warmup=0"
    )
    assert diverged.returncode == 2
    assert "lower --training.learning_rate" in diverged.stderr


def test_help_answers_within_a_second_without_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, time; start = time.process_time();"
        "from resonant.cli.main import main; status = main({});"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules;"
        "assert time.process_time() - start < 1.0; sys.exit(status)"
    )
    for arguments in (["--help"], ["list"], []):
        command = [sys.executable, "-c", code.format(arguments)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
        assert "shakespeare" in finished.stdout or "compare" in finished.stdout
    command = [sys.executable, "-c", code.format(["compare", "stdlib", "--help"])]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "--training.steps" in finished.stdout
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("command", ["sample", "diagnose", "check"])
def test_a_model_of_frames_is_no_model_of_text(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from resonant.models.frame_configs import FrameTransformerConfig
    from resonant.models.frames import FrameTransformer

    FrameTransformer(FrameTransformerConfig(width=16, heads=2)).save_pretrained(tmp_path)
    assert main([command, str(tmp_path)]) == 2
    said = capsys.readouterr().err
    says = "which is not causal by design" if command == "check" else "which reads and writes no"
    assert f"holds a model of architecture 'frames', {says}" in said


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], None),
        (["stdlib"], None),
        (["--plugins"], ""),
        (["--plugins", "a.b"], "a.b"),
        (["x", "--plugins=a", "--plugins", "b", "--out=y"], "b"),
    ],
)
def test_plugins_are_found_before_there_is_a_parser(arguments: list[str], found: str) -> None:
    assert plugins_given(arguments) == found


def test_without_an_experiment_it_is_the_demo_s() -> None:
    experiment, rest = pick_experiment("compare", [])
    assert (experiment.name, rest) == ("stdlib", [])
