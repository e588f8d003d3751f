"""The leak of the published gate, in a minute: predicting what cannot be predicted.

Characters are independent and uniform, so no honest model gets below their entropy. A gate that is
standardized over the whole sequence lets the next character through.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from resonant.lab.kit.plugins import import_plugins
from resonant.lab.text.energy_gate import LEAKING_GATE
from resonant.models.language import LanguageModel
from resonant.models.language_configs import AttentionConfig, LanguageModelConfig

import_plugins((LEAKING_GATE,))
SYMBOLS, CONTEXT, STEPS = 8, 8, 400
ENTROPY = math.log(SYMBOLS)


GATES = {
    "sequence": AttentionConfig(gate="energy-leaking"),
    "prefix": AttentionConfig(gate="energy"),
    "none": AttentionConfig(gate="energy", standardize="none"),
}


def trained_loss(standardize: str) -> float:
    """Nats per character over the last 100 steps; every batch is new."""
    torch.manual_seed(0)
    attention = GATES[standardize]
    config = LanguageModelConfig(
        SYMBOLS, layers=2, width=32, heads=4, hidden=64, attention=attention
    )
    model = LanguageModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(STEPS):
        text = torch.randint(0, SYMBOLS, (128, CONTEXT + 1), generator=generator)
        logits = model(text[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return sum(losses[-100:]) / 100


@pytest.mark.parametrize("standardize", ["prefix", "none"])
@pytest.mark.slow
def test_an_honest_gate_stays_at_the_entropy(standardize: str) -> None:
    assert abs(trained_loss(standardize) - ENTROPY) < 0.01


def test_the_published_gate_gets_below_the_entropy() -> None:
    assert trained_loss("sequence") < ENTROPY - 0.3


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in GATES:
        print(f"{name}: {trained_loss(name):.3f} nats; entropy {ENTROPY:.3f}")
