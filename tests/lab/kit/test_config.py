"""A run as data: a hash of what it says, which fields added with a default leave as it was."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from resonant.errors import UserError
from resonant.lab.alignment.config import SymbolsConfig
from resonant.lab.compare.folders import check_folders
from resonant.lab.domains import DOMAINS, EXPERIMENTS, read_run
from resonant.lab.kit.config import RunConfig, TrainingConfig, check_corpus, config_hash, said
from resonant.lab.kit.folder import CONFIG
from resonant.lab.speech.config import SpeechConfig
from resonant.models.language_configs import AttentionConfig, LanguageModelConfig

BASE = EXPERIMENTS["stdlib"].base
CONFIGS = [kind for domain in DOMAINS for kind in (*domain.data, *domain.models)]


def with_field(config: Any, value: int = 3) -> Any:
    """The same configuration of a class that has one field more, whose default is 3."""
    extra = [("made_up", int, dataclasses.field(default=3))]
    wider = dataclasses.make_dataclass("Wider", extra, bases=(type(config),), frozen=True)
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return wider(**fields, made_up=value)


@pytest.mark.parametrize("part", ["model", "data", "training"])
def test_a_field_added_with_a_default_changes_no_hash(part: str) -> None:
    was = config_hash(BASE)
    added = dataclasses.replace(BASE, **{part: with_field(getattr(BASE, part))})
    assert config_hash(added) == was
    other = dataclasses.replace(BASE, **{part: with_field(getattr(BASE, part), 4)})
    assert config_hash(other) != was


def test_so_does_one_of_a_nested_configuration() -> None:
    def nested(attention: Any) -> RunConfig:
        model = dataclasses.replace(LanguageModelConfig(), attention=attention)
        return dataclasses.replace(BASE, model=model)

    chosen = AttentionConfig(window=8)
    assert config_hash(nested(with_field(chosen))) == config_hash(nested(chosen))
    assert config_hash(nested(with_field(chosen, 4))) != config_hash(nested(chosen))


def test_so_does_one_of_made_up_data() -> None:
    data = SymbolsConfig(noise=0.3)
    assert with_field(data).digest() == data.digest()
    assert with_field(data, 4).digest() != data.digest()


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_a_hash_always_says_which_class_it_is_of(kind: Any) -> None:
    if kind.__name__ == "ImagesConfig":  # has data that need more than their name
        assert said(kind()) == {"name": "digits"}
    elif hasattr(kind, "NAMES"):
        assert said(kind()) == {"name": kind.NAMES[0]}
    else:
        assert said(kind()) == {"architecture": kind.architecture}


def test_what_is_said_tells_configurations_apart() -> None:
    """Also one that goes back to the default of a nested class, which is not the model's own."""
    phase = EXPERIMENTS["stdlib"].arm("kuramoto").model
    assert phase is not None
    assert "attention" not in said(phase)
    seen = {config_hash(dataclasses.replace(BASE, seed=seed)) for seed in range(3)}
    seen |= {config_hash(dataclasses.replace(BASE, arm=arm)) for arm in ("a", "b")}
    assert len(seen) == 5


def test_a_run_written_before_a_field_was_added_is_the_same_run(tmp_path: Path) -> None:
    folder = tmp_path / BASE.name
    folder.mkdir()
    values: dict[str, Any] = yaml.safe_load(yaml.safe_dump(_plain(BASE)))
    del values["training"]["clip"], values["model"]["attention"]["dropout"]
    assert read_run(values) == BASE
    (folder / CONFIG).write_text(yaml.safe_dump(values))
    check_folders([(BASE, folder)], overwrite=False)
    values["training"]["clip"] = 2.0
    (folder / CONFIG).write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=r"training\.clip was 2\.0, is 1\.0\)"):
        check_folders([(BASE, folder)], overwrite=False)
    values["training"]["speed"] = 1  # of another version
    (folder / CONFIG).write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match="another configuration"):
        check_folders([(BASE, folder)], overwrite=False)


def _plain(config: RunConfig) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(config).items()
    }


def test_four_times_as_many_are_tested() -> None:
    training = TrainingConfig(evaluation_windows=5)
    assert [training.evaluated(split) for split in ("valid", "test")] == [5, 20]


def test_data_that_changed_are_named() -> None:
    planned = dataclasses.replace(BASE, corpus="a" * 64)
    check_corpus(planned, "a" * 64, "text")
    check_corpus(dataclasses.replace(BASE, corpus=""), "b" * 64, "text")
    with pytest.raises(UserError, match=r"text behind 'stdlib' changed .*bbbb, planned aaaa"):
        check_corpus(planned, "b" * 64, "text")


def test_what_is_only_tested_on_is_not_trained_on() -> None:
    assert SpeechConfig(real="ljspeech").trained_on() == SpeechConfig()
    assert SymbolsConfig(noise=0.3).trained_on() == SymbolsConfig(noise=0.3)
