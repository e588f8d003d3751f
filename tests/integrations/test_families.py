"""The table of families in docs/llm.md, each row on a tiny model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import resonant
from resonant.integrations import add_krause_branch, use_attention

from .families import FAMILIES, family

PAGE = Path(__file__).parent.parent.parent / "docs" / "llm.md"
ROWS = re.findall(r"^\| ([^|`]+) \| ([^|`]+) \| (yes|no) \| (yes|no) \|$", PAGE.read_text(), re.M)


def test_every_family_has_a_row() -> None:
    assert [row[0] for row in ROWS] == list(FAMILIES)
    assert len(ROWS) > 20


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of other people's models
@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_row_is_true(row: tuple[str, str, str, str]) -> None:
    name, said, swapped, branched = row
    model = family(name)
    modules = [type(m) for m in model.modules()]
    if said.startswith("refused: "):
        with pytest.raises(ValueError, match=said.removeprefix("refused: ")):
            use_attention(model, "krause")
        assert [type(m) for m in model.modules()] == modules
    else:
        certificate = use_attention(model, "krause")
        assert certificate is not None
        holds = [v.check for v in certificate.verdicts if v.status == "holds"]
        before = [v.check for v in certificate.verdicts if "the untouched model" in v.says]
        unseen = [v.says for v in certificate.verdicts if v.status == "not checked"]
        words = [", ".join(holds)] if holds else []
        words += [f"{check} as before" for check in before]
        words += ["not checked: pixel_values" for says in unseen if "pixel_values" in says]
        assert "; ".join(words) == said
    if swapped == "yes":
        assert len(resonant.swap(family(name), "krause")) == 2
    else:
        with pytest.raises(ValueError, match=r"holds no nn\.MultiheadAttention"):
            resonant.swap(family(name), "krause")
    if branched == "yes":
        assert len(add_krause_branch(family(name))) == 2
    else:
        with pytest.raises(ValueError, match="branches and adapters are for"):
            add_krause_branch(family(name))
