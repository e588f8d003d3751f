"""What `resonant explain` says, as data: no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """A mechanism in a page.

    ``equation`` lines go with ``code``: (what, file under src/resonant, name in it). ``differs``
    are deviations from the authors' code or paper.
    """

    says: str
    equation: tuple[str, ...]
    code: tuple[tuple[str, str, str], ...]
    cost: str
    when: str
    differs: tuple[str, ...]
    source: str
    one_line: str
    page: str


EXPLANATIONS: dict[str, Explanation] = {
    "softmax": Explanation(
        says="Scaled dot-product attention: the baseline, and the control of every other arm.",
        equation=("logit[i, j] = <q_i, k_j> / sqrt(E)", "output_i = sum_j softmax_j(logit) v_j"),
        code=(
            ("the lift", "functional/softmax.py", "softmax_lift"),
            ("the module", "nn/softmax.py", "SoftmaxAttention"),
        ),
        cost="one call of fused SDPA; with Causal(window=W) linear in length",
        when="first, and with the same window beside every local arm: the kernel, or the mask?",
        differs=("softmax-sink adds exp(sink) to the denominator (arXiv 2309.17453)",),
        source="Vaswani et al. (2017)",
        one_line='resonant.swap(model, "softmax")',
        page="docs/mechanisms/softmax.md",
    ),
    "krause": Explanation(
        says="Bounded confidence: a token listens to those near it in feature space.",
        equation=(
            "logit[i, j] = -|q_i - k_j|^2 / (2 sigma^2)   over the neighbourhood N(i), then top-k",
            "lifted: query' = [q, 1] / sigma^2,  key' = [k, -|k|^2 / 2]",
        ),
        code=(
            ("the lift", "functional/krause.py", "krause_lift"),
            ("the function", "functional/krause.py", "krause_attention"),
            ("the module", "nn/krause.py", "KrauseAttention"),
            ("windows and top-k", "functional/attend/banded.py", "banded_attention"),
            ("grids of patches", "functional/attend/gathered.py", "gathered_attention"),
        ),
        cost="one feature more on the fused kernel (1.22 of SDPA); with a window linear in "
        "length, top-k inside the window",
        when="locality in features is what you want to test; give it a window and its softmax "
        "control with the same window",
        differs=(
            "top-k keeps ties, so that cached decoding keeps what the full pass keeps",
            "the squared query norm is left out (the same for all keys of a query)",
            "keys are shifted by a running mean in low precision: the same scores, less rounding",
        ),
        source="arXiv 2602.11534",
        one_line='resonant.swap(model, "krause", neighborhood=Causal(window=128), top_k=96)',
        page="docs/mechanisms/krause.md",
    ),
    "kuramoto": Explanation(
        says="Tokens are angles that pull one another into step; a layer is one pull.",
        equation=(
            "score[t, u] = beta / sqrt(m) sum_c g[t, c] cos(theta[t, c] - theta[u, c] + "
            "omega_c (t - u))",
            "update[t] = sum_u A[t, u] sin(theta[u] - theta[t]);  theta <- theta + kappa update",
        ),
        code=(
            ("the coupling", "functional/kuramoto.py", "kuramoto_coupling"),
            ("the lift", "functional/kuramoto.py", "coupling_lift"),
            ("the module", "nn/kuramoto.py", "KuramotoAttention"),
            ("inside a transformer", "nn/adapter.py", "PhaseAdapter"),
            ("spheres, rotations", "functional/manifold.py", "Manifold"),
        ),
        cost="features twice as wide on the fused kernel (some 2.1 of SDPA)",
        when="states are angles, unit vectors, rotations; to study synchronisation. As a language "
        "model with oscillators no difference to RoPE was shown (docs/results/phases.md)",
        differs=(
            "written from the paper's abstract and equations; phases stay in float32",
            "manifolds beyond the circle are ours, derived from the same energy",
            "ours too, off unless asked for: self_score='threshold', score_block='next'",
            "of its sequel (arXiv 2606.18694), by its abstract: successors=True, kernel=2",
        ),
        source="arXiv 2606.11585; contrasted with AKOrN (arXiv 2410.13821) on the page below",
        one_line='resonant.phase_language_model("0.11M")',
        page="docs/mechanisms/kuramoto.md",
    ),
    "clock": Explanation(
        says="Cross-attention between two sequences by when their clocks meet.",
        equation=(
            "rates r = softplus(w . x + b),  clocks c = running sums of rates (over their total)",
            "logit[t, s] = -(c_s - c_t)^2 / (2 V_t)   (frozen; also density, interval)",
            "listening: c <- c + K (o - c) by what frames resemble, then c <- c + r exp(u)",
        ),
        code=(
            ("clocks", "functional/clock.py", "clock"),
            ("the function", "functional/clock.py", "clock_attention"),
            ("clocks that listen", "functional/filter.py", "clock_filter"),
            ("the module", "nn/clock.py", "ClockAttention"),
        ),
        cost="blocks of the fused kernel, linear in length where the spread is small; running "
        "clocks (autoregressive) frames x symbols",
        when="two ordered sequences (symbols and frames): monotone by theorem, follows any tempo "
        "where the length is given; frame by frame with listen=True",
        differs=(
            "V's form is our derivation: a token's increment has variance nu r",
            "interval runs in float64",
        ),
        source="arXiv 2509.14678",
        one_line="decoder.multihead_attn = resonant.nn.ClockAttention(64, 4)",
        page="docs/mechanisms/clock.md",
    ),
    "gaussian-mixture": Explanation(
        says="Cross-attention by Gaussians whose means only move forwards along the source.",
        equation=(
            "mean_t = mean_{t-1} + softplus(a . x_t),  width_t and shares read off x_t",
            "A[t, s] ~ sum_k share_k exp(-(s - mean_k)^2 / (2 width_k^2))",
        ),
        code=(
            ("the function", "functional/alignment.py", "mixture_lift"),
            ("the module", "nn/mixture.py", "MixtureAttention"),
        ),
        cost="blocks of the fused kernel, one lift a component",
        when="a baseline for clocks between ordered sequences",
        differs=("components are normalized over the source, so that each is a Gaussian lift",),
        source="arXiv 1308.0850; arXiv 1910.10288",
        one_line="decoder.multihead_attn = resonant.nn.MixtureAttention(64, 4)",
        page="docs/mechanisms/clock.md",
    ),
    "forward": Explanation(
        says="Cross-attention that stays at a source token or moves on by one, by content.",
        equation=(
            "a_t(s) ~ ((1 - move_t) a_{t-1}(s) + move_t a_{t-1}(s - 1)) exp(q_t . k_s / sqrt(d))",
            "move_t = sigmoid(w . x_t + b); the weights are a_t",
        ),
        code=(
            ("the function", "functional/alignment.py", "forward_posterior"),
            ("the module", "nn/mixture.py", "ForwardAttention"),
        ),
        cost="frames x tokens, frame after frame",
        when="a baseline for clocks that listen; it has no end, so a model needs a stop unit",
        differs=("the chance is that of moving on, theirs of staying",),
        source="arXiv 1807.06736",
        one_line="decoder.multihead_attn = resonant.nn.ForwardAttention(64, 4)",
        page="docs/mechanisms/clock.md",
    ),
    "energy": Explanation(
        says="A gate per key: tokens of low energy are listened to less, by any mechanism.",
        equation=(
            "e_j = w . x_j,  z_j = e_j standardized over the prefix,  g_j = sigmoid(alpha (z_j - "
            "tau))",
            "A'[i, j] = A[i, j] g_j / sum_j A[i, j] g_j,   that is: logit + log g_j",
        ),
        code=(
            ("the gate on a lift", "functional/energy.py", "energy_gate"),
            ("log g", "functional/energy.py", "energy_log_gate"),
            ("the module", "nn/energy.py", "EnergyGate"),
        ),
        cost="one feature more on the fused kernel (1.25 of SDPA)",
        when="you want to see which tokens matter; on learned positions it gained nothing here "
        "(docs/results/energy-gate.md)",
        differs=(
            "the published script standardizes over the whole sequence, which lets the future in; "
            "ours over the prefix (sequence needs allow_future_leak=True and is never causal)",
            "dropout comes last; theirs before the gate: the same mean, other noise",
        ),
        source="arXiv 2605.26355, gate first in 2605.21842",
        one_line="KrauseAttention(64, 4, gate=EnergyGate(64, 4))",
        page="docs/mechanisms/energy.md",
    ),
    "position": Explanation(
        says="How tokens know their order: rotary, Morlet (absolute and relative), and others.",
        equation=(
            "rotary: q, k turned by t omega_c",
            "relative Morlet: the same with learned omega, and logit - (i - j)^2 / (2 ell_h^2)",
            "oscillators: logit + sum_f a_hf cos(w_f (i - j) + phi_hf), beside any of these",
            "biased rotary: (q + b_h)^T R(j - i) (k + c), b and c learned",
            "absolute Morlet: exp(-t^2 / (2 sigma_i^2)) [cos, sin](omega_i t) added to embeddings",
        ),
        code=(
            ("rotation", "functional/position.py", "rotate"),
            ("locality", "functional/position.py", "gaussian_locality"),
            ("oscillators", "functional/position.py", "oscillate"),
            ("absolute Morlet", "functional/position.py", "morlet_encoding"),
            ("modules", "nn/position/turned.py", "RelativeMorletPosition"),
        ),
        cost="rotary: none to speak of; relative Morlet: blocks of the fused kernel (1.77)",
        when="rotary by default; absolute Morlet ends after some 15 tokens as published",
        differs=(
            "relative Morlet: one width per head, where the theory paper has one per frequency",
            "absolute: widths are kept above 1.675, so that frequencies stay below Nyquist",
        ),
        source="arXiv 2605.26355, 2606.01258; rotary 2104.09864",
        one_line='resonant.language_model("0.11M", position=PositionConfig("morlet-relative"))',
        page="docs/mechanisms/position.md",
    ),
}

TERMS: dict[str, str] = {
    "control": "the arm that an arm is compared with; it differs from it in one thing alone",
    "difference": "mean over seeds of (arm - control), each pair of one seed, and a 95 % interval "
    "by Student's t over the paired differences; of losses negative is better",
    "smallest detectable": "the true difference that these seeds would have shown in 80 % of "
    "repetitions; smaller effects may be there unseen",
    "verdict": "lower or higher where the interval of the difference leaves out zero, else no "
    "difference shown; with fewer than three seeds: too few seeds",
    "cosine": "mean cosine of the states of two different tokens of a layer: 1 all point one way",
    "residual": "|X - 1 mean(X)|_F / |X|_F over the tokens of a layer: 0 when all are the same",
    "clusters": "connected components of tokens whose directions differ by at most 0.1 radians",
    "rank": "effective rank: exp of the entropy of the singular values over their sum",
    "if uniform": "what `sink` would be if every query looked at all keys it can see alike; in a "
    "window it is large by itself",
    "sinks": "share of (row, head) whose mean weight of the first key is above 0.3; not given "
    "where no query sees 10 keys",
    "sink": "mean weight of the first real key over later queries that can see it; a head with "
    "more than 0.3 has a sink (arXiv 2410.10781)",
    "entropy": "of a query's weights, over the logarithm of the number of keys it can see",
    "order": "order parameter R: length of the mean phase over tokens; 1 in step, 0 spread out",
    "causality": "replacing the future must change no bit of the past: `resonant check MODEL`",
    "lift": "query', key', value and a bias per key whose softmax attention is the mechanism: what "
    "makes every mechanism run on the fused kernel, and compose",
}
