"""What is learned of a conversation, for the kinds of chat templates that models come with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import transformers

from resonant.errors import UserError
from resonant.lab.adapters.bases import subwords
from resonant.lab.adapters.instructions import Example
from resonant.lab.adapters.tokenized import IGNORED, Tokenized, tokenized

# Each writes the conversation as models of that kind do; the wording is ours.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEADERS = (
    "{{ bos_token }}{% for m in messages %}<|role|>{{ m.role }}<|/role|>\n\n"
    "{{ m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|role|>assistant<|/role|>\n\n{% endif %}"
)
SYSTEM_IN_FIRST_TURN = (
    "{% set system = messages[0].content if messages[0].role == 'system' else none %}"
    "{% for m in messages %}{% if m.role == 'user' %}[INST] "
    "{% if system and loop.index0 == 1 %}<<SYS>>{{ system }}<</SYS>>\n{% endif %}"
    "{{ m.content }} [/INST]{% elif m.role == 'assistant' %} {{ m.content }} {{ eos_token }}"
    "{% endif %}{% endfor %}"
)
SYSTEM_IN_LAST_USER_TURN = (
    "{% set users = messages | selectattr('role', 'equalto', 'user') | list %}"
    "{% set system = messages | selectattr('role', 'equalto', 'system') | list %}"
    "{% for m in messages %}{% if m.role == 'user' %}[INST] "
    "{% if system and m == users[-1] %}{{ system[0].content }}\n\n{% endif %}"
    "{{ m.content }}[/INST]{% elif m.role == 'assistant' %}{{ m.content }}{{ eos_token }}"
    "{% endif %}{% endfor %}"
)
SYSTEM_IN_A_LAST_TURN_OF_USERS_ALONE = (  # no system message where an answer follows
    "{% set system = messages | selectattr('role', 'equalto', 'system') | list %}"
    "{% for m in messages %}{% if m.role == 'user' %}[INST] "
    "{% if system and loop.last %}{{ system[0].content }}\n\n{% endif %}"
    "{{ m.content }}[/INST]{% elif m.role == 'assistant' %}{{ m.content }}{{ eos_token }}"
    "{% endif %}{% endfor %}"
)
WITHOUT_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}<turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
EMPTY_THINKING = (  # reasoning is split off; where there is none, an empty block stands
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% if '</think>' in m.content %}"
    "{% set r = m.content.split('</think>')[0].split('<think>')[-1] %}"
    "{% else %}{% set r = m.reasoning_content or '' %}{% endif %}"
    "<think>\n{{ r.strip('\n') }}\n</think>\n\n"
    "{{ m.content.split('</think>')[-1].lstrip('\n') }}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PROMPT_THAT_THINKS = (  # the prompt opens the block; of earlier turns the reasoning is dropped
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}<|A|>"
    "{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% else %}<|U|>{{ m.content }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|A|><think>\n{% endif %}"
)
LABELS_WITHOUT_END = (
    "{% for m in messages %}{{ m.role | capitalize }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
ALPACA = (
    "{% for m in messages %}{% if m.role == 'assistant' %}### Response:\n{{ m.content }}"
    "{{ eos_token }}{% else %}### Instruction:\n{{ m.content }}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}### Response:\n{% endif %}"
)
WITH_DATE = "{{ strftime_now('%d %b %Y, %H:%M:%S') }}\n" + CHATML
ROLE_AFTER = (  # the answer stands before its role, and twice the same words
    "{% for m in messages %}{{ m.content }} ({{ m.role }}; yes or no?)</s>{% endfor %}"
)


@dataclass(frozen=True)
class Case:
    """A template, what is said, and what of it is learned."""

    template: str
    learned: str
    answer: str = "yes"
    system: str | None = "be brief"
    more: tuple[tuple[str, Any], ...] = ()


CASES = {
    "chatml": Case(CHATML, "yes<|im_end|>\n"),
    "headers": Case(HEADERS, "yes<|eot|>"),
    "headers, trimmed": Case(HEADERS, "yes<|eot|>", answer="  yes \n"),
    "system in the first turn": Case(SYSTEM_IN_FIRST_TURN, "yes </s>"),
    "system in the last user turn": Case(SYSTEM_IN_LAST_USER_TURN, "yes</s>"),
    "system in a last turn of users alone": Case(SYSTEM_IN_A_LAST_TURN_OF_USERS_ALONE, "yes</s>"),
    "without system": Case(WITHOUT_SYSTEM, "yes</turn>\n", system=None),
    "empty thinking": Case(EMPTY_THINKING, "yes<|im_end|>\n"),
    "thinking in the answer": Case(
        EMPTY_THINKING,
        "so it is\n</think>\n\nyes<|im_end|>\n",
        answer="<think>\nso it is\n</think>\n\nyes",
    ),
    "thinking beside the answer": Case(
        EMPTY_THINKING,
        "so it is\n</think>\n\nyes<|im_end|>\n",
        more=(("reasoning_content", "so it is"),),
    ),
    "a prompt that thinks": Case(PROMPT_THAT_THINKS, "<b>yes</b></s>", answer="<b>yes</b>"),
    "a prompt that thinks, dropped": Case(
        PROMPT_THAT_THINKS, "yes</s>", answer="<think>so</think>yes"
    ),
    "labels without an end": Case(LABELS_WITHOUT_END, "yes\n</s>"),
    "the date": Case(WITH_DATE, "yes<|im_end|>\n"),
    "alpaca": Case(ALPACA, "yes</s>"),
    "the role after the answer": Case(ROLE_AFTER, "yes (assistant; yes or no?)</s>"),
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = subwords("yes or no? so it is, be brief. <think>\n" * 50, 300)
    made.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    return made


def learned(tokenizer: Any, found: Tokenized) -> str:
    return tokenizer.decode([i for i in found.labels if i != IGNORED])


def said(case: Case) -> Example:
    system = [{"role": "system", "content": case.system}] if case.system else []
    user = {"role": "user", "content": "yes or no?"}
    answer = {"role": "assistant", "content": case.answer, **dict(case.more)}
    return Example("", case.answer, (*system, user, answer))


@pytest.mark.parametrize("name", CASES)
def test_the_answer_and_its_end_are_learned(tokenizer: Any, name: str) -> None:
    case = CASES[name]
    tokenizer.chat_template = case.template
    (found,) = tokenized([said(case)], tokenizer, longest=400)
    assert learned(tokenizer, found).lstrip(" ") == case.learned
    assert all(i == IGNORED for i in found.labels[: found.prompt])
    assert all(i != IGNORED for i in found.labels[found.prompt :])
    prompt = tokenizer.decode(found.ids[: found.prompt])
    assert "yes or no?" in prompt
    assert (case.system or "") in prompt


@pytest.mark.parametrize("name", CASES)
def test_earlier_answers_are_not_learned(tokenizer: Any, name: str) -> None:
    case = CASES[name]
    tokenizer.chat_template = case.template
    once = said(case)
    assert once.messages is not None
    system = [m for m in once.messages if m["role"] == "system"]
    before = [{"role": "user", "content": "no?"}, {"role": "assistant", "content": case.answer}]
    twice = Example("", case.answer, (*system, *before, *once.messages[len(system) :]))
    (found,) = tokenized([twice], tokenizer, longest=800)
    assert learned(tokenizer, found).lstrip(" ") == case.learned


def test_templates_that_leave_something_out_are_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages[:-1] %}{{ m.content }}{% endfor %}"
    with pytest.raises(UserError, match="renders two different responses alike"):
        tokenized([said(Case("", ""))], tokenizer, longest=400)
    tokenizer.chat_template = (
        "{% for m in messages if m.role != 'system' %}{{ m.content }}</s>{% endfor %}"
    )
    with pytest.raises(UserError, match="leaves out the system message 'be brief'; put its text"):
        tokenized([said(Case("", ""))], tokenizer, longest=400)
    tokenizer.chat_template = (
        "{% for m in messages if m.role != 'user' %}{{ m.content }}</s>{% endfor %}"
    )
    with pytest.raises(UserError, match=r"leaves out the user message 'yes or no\?'; put it"):
        tokenized([said(Case("", ""))], tokenizer, longest=400)
    tokenizer.chat_template = (
        "{{ messages[0].content }}{% for m in messages if m.role != 'system' %}{{ m.content }}"
        "</s>{% endfor %}"
    )
    second = {"role": "system", "content": "be kind"}
    once = said(Case("", "")).messages
    assert once is not None
    with pytest.raises(UserError, match="leaves out the system message 'be kind'"):
        tokenized([Example("", "yes", (once[0], second, *once[1:]))], tokenizer, longest=400)
    (found,) = tokenized([said(Case("", "", system=None))], tokenizer, longest=400)
    assert learned(tokenizer, found) == "yes</s>"
    tokenizer.chat_template = WITHOUT_SYSTEM
    with pytest.raises(UserError, match=r"refuses the example that ends in 'yes' \(.*no system"):
        tokenized([said(Case("", ""))], tokenizer, longest=400)


def test_templates_that_write_the_date_write_the_same_one(tokenizer: Any) -> None:
    tokenizer.chat_template = WITH_DATE
    (found,) = tokenized([said(CASES["the date"])], tokenizer, longest=400)
    assert tokenizer.decode(found.ids).startswith("01 Jan 2026, 00:00:00")


@pytest.mark.parametrize("ending", ["nobody", "the tokenizer"])
def test_the_end_is_learned_whoever_appends_it(tokenizer: Any, ending: str) -> None:
    from tokenizers import processors

    plain = tokenizer.backend_tokenizer.post_processor
    if ending == "the tokenizer":
        tokens = [(t, tokenizer.convert_tokens_to_ids(t)) for t in ("<s>", "</s>")]
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=tokens
        )
    try:
        (found,) = tokenized([Example("yes or no?", " yes")], tokenizer, longest=64)
        (empty,) = tokenized([Example("", "yes")], tokenizer, longest=64)
    finally:
        tokenizer.backend_tokenizer.post_processor = plain
    assert learned(tokenizer, found) == " yes</s>"
    assert found.ids.count(tokenizer.eos_token_id) == 1
    assert learned(tokenizer, empty) == "yes</s>"


def test_every_token_of_a_character_counts() -> None:
    """Bytes of one character share its offsets."""
    bytewise = subwords("abc " * 50, 260)
    (found,) = tokenized([Example("abc", "\N{GRINNING FACE}")], bytewise, longest=64)
    ids = [i for i in found.labels if i != IGNORED]
    assert bytewise.decode(ids, skip_special_tokens=True) == "\N{GRINNING FACE}"
    assert isinstance(bytewise, transformers.PreTrainedTokenizerFast)
