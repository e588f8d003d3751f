"""Fine-tuning on the Trainer of transformers: what counts, what is shared, killed and resumed."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers

from resonant.errors import UserError
from resonant.functional import Causal
from resonant.integrations import branches, restore_attention
from resonant.integrations.attention_interface import InterfaceMechanism
from resonant.lab.adapters import bases
from resonant.lab.adapters.bases import base_model, subwords
from resonant.lab.adapters.config import InstructionsConfig
from resonant.lab.adapters.instructions import Example, load_instructions
from resonant.lab.adapters.model_config import (
    BASES,
    AdaptersModelConfig,
    Base,
    BranchAttentionConfig,
)
from resonant.lab.adapters.tokenized import IGNORED, padded, tokenized
from resonant.lab.domains import EXPERIMENTS, build_task, prepare_runs
from resonant.lab.kit.config import RunConfig, TrainingConfig
from resonant.lab.run.loop import train

SMALL = Base("llama", layers=2, width=16, heads=2, key_value_heads=1, hidden=16, vocabulary=300)
TEXT = "What is the number? It is one, two, three or four.\n" * 50


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("base")
    base_model(SMALL).save_pretrained(folder)
    subwords(TEXT, SMALL.vocabulary).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("lines") / "lines.jsonl"
    examples = [
        {"prompt": f"What is {i}?", "response": f" It is {i} or three."} for i in range(240)
    ]
    path.write_text("\n".join(map(json.dumps, examples)))
    return str(path)


@pytest.fixture
def config(base: str, lines: str) -> RunConfig:
    training = TrainingConfig(
        steps=6,
        batch_size=4,
        context=64,
        warmup=2,
        evaluate_every=2,
        evaluation_windows=4,
        sample_tokens=4,
        learning_rate=0.02,
    )
    model = AdaptersModelConfig(base=base, rank=2)
    data = InstructionsConfig(name="jsonl", path=lines)
    digest = load_instructions(data).digest
    return RunConfig("own", "lora", model=model, data=data, training=training, corpus=digest)


def with_branch(config: RunConfig, mechanism: str = "krause", **changes: Any) -> RunConfig:
    model: Any = config.model
    attention = dataclasses.replace(model.attention, mechanism=mechanism, window=6, top_k=4)
    return dataclasses.replace(
        config, model=dataclasses.replace(model, attention=attention, **changes)
    )


def silent(step: int, loss: float) -> None:
    del step, loss


def results(folder: Path) -> tuple[dict[str, Any], list[dict[str, str]], bytes]:
    done = json.loads((folder / "done.json").read_text())
    done.pop("seconds")
    with (folder / "metrics.csv").open() as file:
        rows = [{k: v for k, v in r.items() if k != "seconds"} for r in csv.DictReader(file)]
    return done, rows, (folder / "adapter_model.safetensors").read_bytes()


# ---- what counts -------------------------------------------------------------------------------


def test_the_response_and_nothing_else_counts(base: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    example = Example("What is the number?", " It is three.")
    (found,) = tokenized([example], tokenizer, longest=64)
    learned = [i for i in found.labels if i != IGNORED]
    assert tokenizer.decode(learned[:-1]) == example.response
    assert learned[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(found.ids[: found.prompt]) == example.prompt
    assert found.labels[: found.prompt] == (IGNORED,) * found.prompt


def test_a_token_over_the_border_counts(base: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    whole = "What is"
    assert len(tokenizer(" is")["input_ids"]) == 1
    (found,) = tokenized([Example(whole[:6], whole[6:])], tokenizer, longest=64)
    first = next(i for i, label in enumerate(found.labels) if label != IGNORED)
    assert tokenizer.decode(found.ids[first]) == " is"


def test_what_is_too_long_is_cut_or_left_out(base: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    short, long = Example("It is", " one"), Example("What is the number? " * 9, " one")
    assert len(tokenized([short, long], tokenizer, longest=20)) == 1
    (cut,) = tokenized([Example("It is", " one or two" * 9)], tokenizer, longest=12)
    assert len(cut.ids) == 12
    assert cut.labels[-1] != IGNORED
    with pytest.raises(UserError, match=r"first 20 tokens; raise --training\.context"):
        tokenized([long], tokenizer, longest=20)


def test_conversations_go_by_their_template(base: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    said = ({"role": "user", "content": "It is"}, {"role": "assistant", "content": "three"})
    example = Example("", "three", said)
    with pytest.raises(UserError, match="no chat template"):
        tokenized([example], tokenizer, longest=64)
    turn = "{% for m in messages %}[{{ m.role }}] {{ m.content }}<end>{% endfor %}"
    tokenizer.chat_template = turn
    (found,) = tokenized([example], tokenizer, longest=64)
    learned = [i for i in found.labels if i != IGNORED]
    assert tokenizer.decode(learned).strip() == "three<end>"  # its first token begins before
    ends = ({"role": "user", "content": "It is"}, {"role": "assistant", "content": "end"})
    (found,) = tokenized([Example("", "end", ends)], tokenizer, longest=64)
    learned = [i for i in found.labels if i != IGNORED]
    assert tokenizer.decode(learned).strip() == "end<end>"  # not the "end" of what follows
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(UserError, match=r"refuses the example that ends in 'three' \(.*no"):
        tokenized([example], tokenizer, longest=64)


def test_what_is_left_out_for_its_length_is_counted(config: RunConfig) -> None:
    task: Any = build_task(config, None)
    assert task.too_long == 0
    examples = task.instructions.splits
    examples["train"][0] = Example("What is the number? " * 90, " one")
    assert build_task(config, None).too_long == 1  # type: ignore[attr-defined]
    load_instructions.cache_clear()


def test_the_loss_is_the_mean_over_tokens_of_responses(config: RunConfig) -> None:
    task: Any = build_task(config, None)
    rows = [task.example(i) for i in range(4)]
    total, count = 0.0, 0
    task.model.eval()
    with torch.no_grad():
        for row in rows:
            logits = task.model(torch.tensor([row.ids])).logits[0, :-1]
            for position, label in enumerate(row.labels[1:]):
                if label != IGNORED:
                    total += F.cross_entropy(logits[position], torch.tensor(label)).item()
                    count += 1
        batch = task.loss(0).item()
    assert batch == pytest.approx(total / count, rel=1e-4)
    inputs = padded(rows, 0)
    assert (inputs["labels"] != IGNORED).sum() == count
    by_row = [sum(mask) == len(row.ids) for mask, row in zip(inputs["attention_mask"], rows)]  # noqa: B905
    assert all(by_row)


def test_arms_share_batches_and_starts(config: RunConfig) -> None:
    tasks: dict[str, Any] = {
        "lora": build_task(config, None),
        "softmax": build_task(with_branch(config, "softmax"), None),
        "krause": build_task(with_branch(config), None),
    }
    alone = dict(tasks["lora"].model.named_parameters())
    for task in tasks.values():
        task.model.eval()
        own = dict(task.model.named_parameters())
        assert all(torch.equal(own[name], x) for name, x in alone.items())
        assert torch.equal(task.batch(3)["input_ids"], tasks["lora"].batch(3)["input_ids"])
        assert task.loss(0).item() == tasks["lora"].loss(0).item()  # the identity start
    softmax = dict(tasks["softmax"].model.named_parameters())
    krause = dict(tasks["krause"].model.named_parameters())
    assert {n for n in krause if n not in softmax} == {n for n in krause if ".sigma." in n}
    assert all(torch.equal(krause[name], x) for name, x in softmax.items())
    other: Any = build_task(dataclasses.replace(config, seed=1), None)
    assert not torch.equal(other.batch(0)["input_ids"], tasks["lora"].batch(0)["input_ids"])


def test_every_example_once_a_round(config: RunConfig) -> None:
    task: Any = build_task(config, None)
    count = len(task.splits["train"])
    first = [task.example(i).ids for i in range(count)]
    second = [task.example(count + i).ids for i in range(count)]
    assert sorted(first) == sorted(second) == sorted(e.ids for e in task.splits["train"])
    assert first != second


# ---- runs --------------------------------------------------------------------------------------


@pytest.fixture
def whole(config: RunConfig, tmp_path: Path) -> Path:
    train(with_branch(config), tmp_path / "whole", None, silent)
    return tmp_path / "whole"


@pytest.mark.parametrize("stop", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 5, 6))])
def test_a_run_stopped_anywhere_ends_the_same(
    config: RunConfig, whole: Path, tmp_path: Path, stop: int
) -> None:
    def interrupt(step: int, loss: float) -> None:
        del loss
        if step == stop:
            raise KeyboardInterrupt

    folder = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        train(with_branch(config), folder, None, interrupt)
    torch.manual_seed(99)  # what happens in between is no part of it
    train(with_branch(config), folder, None, silent)
    assert results(folder) == results(whole)
    steps = [row["step"] for row in results(folder)[1]]
    assert steps == ["2", "4", "6"]


def test_what_is_measured_is_wide_whatever_the_training(config: RunConfig, tmp_path: Path) -> None:
    """A run in bfloat16 that goes on behind its last step measures the same to the bit."""
    narrow = dataclasses.replace(config.model, precision="bf16")  # type: ignore[type-var]
    config = dataclasses.replace(config, model=narrow)
    train(config, tmp_path / "run", None, silent)
    measured = results(tmp_path / "run")
    (tmp_path / "run" / "done.json").unlink()
    train(config, tmp_path / "run", None, silent)
    assert results(tmp_path / "run") == measured


def test_a_torn_checkpoint_is_passed_over(config: RunConfig, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "torn"
    shutil.copytree(whole, folder)
    (folder / "done.json").unlink()
    last = folder / "checkpoints" / "checkpoint-6"
    (last / "trainer_state.json").write_text("{")
    train(with_branch(config), folder, None, silent)
    assert results(folder) == results(whole)


def test_a_run_says_what_it_learned_and_is_opened_again(config: RunConfig, whole: Path) -> None:
    done = results(whole)[0]
    assert done["trainable_parameters"] < done["parameters"]
    assert re.match(r"[\d,]+ of [\d,]+ parameters learn", done["trainable"][0])
    assert {"layers.0.self_attn.krause_branch.sigma", "layers.1.self_attn.krause_branch.gamma"} <= (
        done["learned_numbers"]["end"].keys()
    )
    start, end = (done["learned_numbers"][when] for when in ("start", "end"))
    assert all(end[name] != start[name] for name in start)
    assert {name: (len(x), len(x[0])) for name, x in done["sinks"].items()} == {
        "pretrained": (2, 2),
        "branch": (2, 2),
    }
    assert isinstance(done["sample"], str)
    assert isinstance(config.model, AdaptersModelConfig)
    pretrained = transformers.AutoModelForCausalLM.from_pretrained(config.model.base)
    again = restore_attention(pretrained, whole).eval()
    assert len(branches(again)) == 2
    task: Any = build_task(with_branch(config), None)
    task.model = again
    assert task.evaluate("test") == pytest.approx(done["metrics"]["test_loss"], rel=1e-6)


@pytest.mark.slow
def test_first_tokens_without_a_window_are_refused() -> None:
    with pytest.raises(ValueError, match=r"there is none; give model\.attention\.window"):
        BranchAttentionConfig("softmax", place="replacement", window=None, first=4)


@pytest.mark.parametrize(
    ("attention", "neighborhood"),
    [
        ({"mechanism": "krause"}, Causal(6)),
        ({"mechanism": "softmax-sink", "layers": "second"}, Causal(6)),
        ({"mechanism": "softmax", "first": 2, "scalars": {}}, Causal(6, first=2)),
    ],
)
def test_attention_in_the_place_of_the_pretrained_one(
    config: RunConfig, tmp_path: Path, attention: dict[str, Any], neighborhood: Causal
) -> None:
    model: Any = config.model
    changed = dataclasses.replace(
        model.attention, place="replacement", window=6, top_k=4, **attention
    )
    data = dataclasses.replace(config.data, beside="code")
    config = dataclasses.replace(
        config, model=dataclasses.replace(model, attention=changed), data=data
    )
    train(config, tmp_path / "run", None, silent)
    done = json.loads((tmp_path / "run" / "done.json").read_text())
    assert done["metrics"]["beside_loss"] > 0
    assert set(done["sinks"]) == {"pretrained"}
    base = transformers.AutoModelForCausalLM.from_pretrained(model.base)
    ids = torch.arange(40).view(2, 20)
    opened = restore_attention(base, tmp_path / "run").eval()
    ours = [m for m in opened.modules() if isinstance(m, InterfaceMechanism)]
    assert len(ours) == (1 if attention.get("layers") == "second" else 2)
    assert all(m.neighborhood == neighborhood for m in ours)
    task: Any = build_task(config, None)
    task.model.load_state_dict(opened.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(task.model.eval()(ids).logits, opened(ids).logits)
    names = {name for name, p in task.model.named_parameters() if p.requires_grad}
    learns = {"krause": "sigma", "softmax-sink": "sink", "softmax": None}[attention["mechanism"]]
    assert any(f".{learns}." in name for name in names) == (learns is not None)


def test_bfloat16_and_checkpointed_activations(config: RunConfig, tmp_path: Path) -> None:
    train(with_branch(config, dropout=0.0), tmp_path / "plain", None, silent)
    saving = with_branch(config, dropout=0.0, checkpointing=True)
    train(saving, tmp_path / "saving", None, silent)
    narrow = with_branch(config, dropout=0.0, precision="bf16")
    train(narrow, tmp_path / "narrow", None, silent)
    loss = {
        name: results(tmp_path / name)[0]["metrics"]["test_loss"]
        for name in ("plain", "saving", "narrow")
    }
    assert loss["saving"] == pytest.approx(loss["plain"], rel=1e-4)
    assert loss["narrow"] == pytest.approx(loss["plain"], rel=2e-2)
    assert loss["narrow"] != loss["plain"]


def test_a_loss_that_is_no_number_is_told(config: RunConfig, tmp_path: Path) -> None:
    wild = dataclasses.replace(config.training, learning_rate=1e30, clip=1e30)
    with pytest.raises(UserError, match=r"lower --training\.learning_rate"):
        train(dataclasses.replace(config, training=wild), tmp_path / "wild", None, silent)


# ---- bases -------------------------------------------------------------------------------------


def test_bases_that_cannot_be_opened(config: RunConfig, tmp_path: Path) -> None:
    model = dataclasses.replace(config.model, base=str(tmp_path))
    with pytest.raises(UserError, match=r"cannot be opened .* give a folder"):
        build_task(dataclasses.replace(config, model=model), None)
    with pytest.raises(ValueError, match="did you mean 'tiny-llama'"):
        AdaptersModelConfig(base="tiny-lama")


@pytest.mark.parametrize("name", BASES)
def test_every_base_is_a_model_of_its_family(name: str) -> None:
    with torch.device("meta"):
        model = base_model(BASES[name])
    assert model.config.model_type == name.removeprefix("tiny-")
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(0.9, abs=0.05)


def test_subwords_are_the_same_each_time_and_tell_offsets() -> None:
    first, second = (subwords(TEXT, 300) for _ in range(2))
    assert first.get_vocab() == second.get_vocab()
    text = "It is three\tor é."
    coded = first(text, return_offsets_mapping=True)
    assert first.decode(coded["input_ids"]) == text
    ends = [end for _, end in coded["offset_mapping"]]
    assert ends == sorted(ends)
    assert ends[-1] == len(text)


def test_a_base_is_made_once_and_resumed(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = dataclasses.replace(SMALL, steps=6, batch_size=2, context=16, warmup=1)
    monkeypatch.setitem(BASES, "tiny-test", made)
    monkeypatch.setattr(bases, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(bases.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    corpus = type("Corpus", (), {"digest": "d", "splits": {"train": TEXT.encode()}})
    monkeypatch.setattr(bases, "load_corpus", lambda _: corpus)
    model = dataclasses.replace(config.model, base="tiny-test")
    run = dataclasses.replace(config, model=model)
    prepare_runs([run, run], None)
    folder = bases.base_folder("tiny-test")
    weights = (folder / "model.safetensors").read_bytes()
    kept, calls = bases.keep, []

    def killed(path: Path, **state: Any) -> None:
        kept(path, **state)
        calls.append(state["step"])
        if state["step"] == 4:
            raise KeyboardInterrupt

    shutil.rmtree(folder)
    monkeypatch.setattr(bases, "keep", killed)
    with pytest.raises(KeyboardInterrupt):
        bases.base_folder("tiny-test")
    monkeypatch.setattr(bases, "keep", lambda path, **state: calls.append(state["step"]))
    assert (bases.base_folder("tiny-test") / "model.safetensors").read_bytes() == weights
    assert calls == [2, 4, 6]
    for lost in ("model.safetensors", "tokenizer.json", "config.json"):
        (folder / lost).unlink()
        calls.clear()
        for _ in range(2):  # made anew once, then kept
            assert (bases.base_folder("tiny-test") / "model.safetensors").read_bytes() == weights
        assert calls == [2, 4, 6]
    task: Any = build_task(run, None)
    assert task.evaluate("valid") > 0


# ---- experiments -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if "-lora" in name])
def test_the_branches_are_of_one_size_and_one_mask(name: str) -> None:
    experiment = EXPERIMENTS[name]
    configs = {a.name: experiment.config(experiment.base, a, 0, {}) for a in experiment.arms}
    attention = {n: dataclasses.asdict(c.model)["attention"] for n, c in configs.items()}
    assert attention["lora"]["mechanism"] == "none"
    assert attention["krause-branch"] == attention["softmax-branch"] | {"mechanism": "krause"}
    assert (attention["krause-branch"]["window"], attention["krause-branch"]["top_k"]) == (32, 16)
    given = dict(rank=16, alpha=32.0, dropout=0.1)
    for config in configs.values():
        assert isinstance(config.model, AdaptersModelConfig)
        assert {key: getattr(config.model, key) for key in given} == given
        published = "published" in name
        assert config.model.checkpointing == published
        assert (config.model.attention.start == "mix") == (
            published or config.arm == "krause-branch-mix"
        )
