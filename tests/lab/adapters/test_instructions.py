"""Prompts with responses: splits, form, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resonant.errors import UserError
from resonant.lab.adapters import instructions
from resonant.lab.adapters.config import InstructionsConfig
from resonant.lab.adapters.instructions import describe, load_instructions
from resonant.lab.domains import describe as describe_data
from resonant.lab.kit.domain import Described


def written(path: Path, lines: list[Any]) -> InstructionsConfig:
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n")
    load_instructions.cache_clear()
    return InstructionsConfig(name="jsonl", path=str(path))


def numbered(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"What is {i}?", "response": f"{i} it is."} for i in range(count)]


def test_docstrings_of_the_library_are_split_by_file() -> None:
    found = load_instructions(InstructionsConfig())
    sizes = {split: len(examples) for split, examples in found.splits.items()}
    assert sizes["train"] > 2000
    assert min(sizes["valid"], sizes["test"]) > 50
    pairs = {s: {(e.prompt, e.response) for e in each} for s, each in found.splits.items()}
    assert not pairs["train"] & (pairs["valid"] | pairs["test"])
    for example in found.splits["valid"]:
        assert example.prompt.startswith("def ")
        assert example.prompt.endswith('):\n    """')
        assert example.response.endswith('"""\n')
        compiled = example.prompt + example.response + "    pass\n"
        compile(compiled, "example", "exec")  # a function of Python
    assert describe_data(InstructionsConfig(), None) == Described(found.digest, describe(found))
    assert "stdlib-docs of Python" in describe(found)


def test_lines_are_split_by_their_prompts(tmp_path: Path) -> None:
    lines = [*numbered(300), {"prompt": "What is 7?", "response": "Another seven."}]
    found = load_instructions(written(tmp_path / "a.jsonl", [*lines, "", "  "]))
    assert sum(map(len, found.splits.values())) == 301
    where = {e.prompt: s for s, each in found.splits.items() for e in each}
    sevens = [s for s, each in found.splits.items() for e in each if e.prompt == "What is 7?"]
    assert sevens == [where["What is 7?"]] * 2
    again = load_instructions(written(tmp_path / "b.jsonl", lines))
    assert again.digest == found.digest
    other = load_instructions(written(tmp_path / "c.jsonl", lines[1:]))
    assert other.digest != found.digest


def test_other_separators_of_lines_stand_in_a_line(tmp_path: Path) -> None:
    lines = [*numbered(100), {"prompt": "a\u2028b\u0085", "response": "c"}]
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join(json.dumps(x, ensure_ascii=False) for x in lines), encoding="utf-8")
    load_instructions.cache_clear()
    found = load_instructions(InstructionsConfig(name="jsonl", path=str(path)))
    assert any(e.prompt == "a\u2028b\u0085" for each in found.splits.values() for e in each)


def test_messages_end_with_the_assistant(tmp_path: Path) -> None:
    def talk(i: int) -> dict[str, Any]:
        said = [{"role": "user", "content": f"Hi {i}"}, {"role": "assistant", "content": "Ho"}]
        return {"messages": said}

    found = load_instructions(written(tmp_path / "talk.jsonl", [talk(i) for i in range(200)]))
    example = found.splits["train"][0]
    assert example.response == "Ho"
    assert example.messages is not None
    assert example.messages[0]["role"] == "user"
    turned = talk(0)["messages"][::-1]
    with pytest.raises(UserError, match="line 2 ends with a message of 'user'"):
        load_instructions(written(tmp_path / "bad.jsonl", [talk(0), {"messages": turned}]))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 1 is no JSON"),
        ('{"prompt": "a", "response": "\\ud800"}', r"line 1 holds half a character .* U\+D800"),
        ("[" * 100_000, "line 1 is no JSON"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]},
            "line 1 has an empty response",
        ),
        ('"text"', 'line 1 is no example; give {"prompt"'),
        ({"prompt": "a"}, "line 1 is no example"),
        ({"prompt": "a", "response": 3}, "line 1 is no example"),
        ({"prompt": "a", "response": " "}, "line 1 has an empty response"),
        ({"messages": []}, "line 1 is no example"),
    ],
)
def test_lines_that_are_no_examples(tmp_path: Path, line: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_instructions(written(tmp_path / "bad.jsonl", [line, *numbered(100)]))


def test_conversations_with_tools_are_left_out_and_counted(tmp_path: Path) -> None:
    def talk(i: int, **more: Any) -> dict[str, Any]:
        said = [{"role": "user", "content": f"Hi {i}"}, {"role": "assistant", "content": "Ho"}]
        return {"messages": said, **more}

    plain = [talk(i) for i in range(200)]
    called = talk(900)
    called["messages"][1:1] = [
        {"role": "assistant", "content": None, "tool_calls": [{"name": "look"}]},
        {"role": "tool", "content": "found"},
    ]
    tools = [called, talk(901, tools=[{"name": "look"}]), talk(902, functions=[{"name": "look"}])]
    found = load_instructions(written(tmp_path / "some.jsonl", [*tools, *plain]))
    without = load_instructions(written(tmp_path / "none.jsonl", [*plain, talk(903, tools=[])]))
    assert sum(map(len, found.splits.values())) == 200
    assert "3 left out because they use tools" in describe(found)
    assert "tools" not in describe(load_instructions(written(tmp_path / "p.jsonl", plain)))
    assert without.unread == ("tools",)
    with pytest.raises(UserError, match=r"has 1 examples \(30 more use tools\)"):
        load_instructions(written(tmp_path / "all.jsonl", [*[called] * 30, talk(1)]))


def test_keys_that_are_not_read_are_named(tmp_path: Path) -> None:
    lines = [{**line, "source": "web", "system": "be brief"} for line in numbered(200)]
    found = load_instructions(written(tmp_path / "more.jsonl", lines))
    assert describe(found).endswith("keys not read: source, system")


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "bom.jsonl"
    path.write_text("\n".join(map(json.dumps, numbered(200))), encoding="utf-8-sig")
    load_instructions.cache_clear()
    found = load_instructions(InstructionsConfig(name="jsonl", path=str(path)))
    assert sum(map(len, found.splits.values())) == 200


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 3 examples"):
        load_instructions(written(tmp_path / "few.jsonl", numbered(3)))
    with pytest.raises(UserError, match="cannot read"):
        load_instructions(InstructionsConfig(name="jsonl", path=str(tmp_path / "none.jsonl")))
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}')
    with pytest.raises(UserError, match="is no UTF-8 text"):
        load_instructions(InstructionsConfig(name="jsonl", path=str(tmp_path / "latin.jsonl")))
    with pytest.raises(ValueError, match="belong together"):
        InstructionsConfig(name="jsonl")
    with pytest.raises(ValueError, match="belong together"):
        InstructionsConfig(path="a.jsonl")
    with pytest.raises(ValueError, match="not 'docs'"):
        InstructionsConfig(name="docs")
    assert instructions.LEAST <= 20


def test_examples_of_one_prompt_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    lines = [json.dumps({"prompt": "one", "response": f"answer {i}"}) for i in range(500)]
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match="has 500 examples of 1 prompts; those of one prompt"):
        load_instructions(InstructionsConfig(name="jsonl", path=str(path)))
