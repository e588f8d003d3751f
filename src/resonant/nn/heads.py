"""A mechanism over heads that someone else projects, called as fused attention is."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ..errors import nearest
from ..functional.attend import attend
from ..functional.lift import Lift
from ..functional.neighborhood import Causal, Full, Neighborhood, causal_part, check_top_k, reach
from ..mechanism import mechanism
from .parameter import HeadScalar


class HeadAttention(nn.Module):
    """``mechanism_name`` called as ``F.scaled_dot_product_attention``, with scalars of its own.

    For models that project queries, keys and values by themselves, in one fused layer say: put
    this where they call SDPA. ``query`` (batch, head, query, dim), ``key`` and ``value`` (batch,
    key_head, key, dim), ``num_heads`` a multiple of ``key_head``. Masks are SDPA's (True = takes
    part; float is added). The mechanism's learned scalars are per head; ``scalar_starts`` are where
    they start (Krause at ``sigma = head_dim ** 0.25`` scores as softmax does, less the norms).

    Raises ``ValueError`` for mechanisms of phases and clocks, which have no heads to take over, and
    for ``is_causal`` with other numbers of queries and keys, ``TypeError`` for a scalar that there
    is not.

    Differs from SDPA: scores are scaled by the mechanism, so there is no ``scale``; a mask and
    ``is_causal`` may come together and both count; the corner is named, not guessed.
    """

    def __init__(
        self,
        mechanism_name: str,
        num_heads: int,
        *,
        neighborhood: Neighborhood = Full(),  # noqa: B008 (frozen)
        top_k: int | None = None,
        **scalar_starts: float,
    ) -> None:
        super().__init__()
        self.mechanism = mechanism(mechanism_name)
        if self.mechanism.couples_phases or self.mechanism.timed:
            raise ValueError(
                f"{mechanism_name} couples phases or keeps time, and has no queries and keys that "
                "another model could project; choose softmax, krause, softmax-sink or a mechanism "
                "of your own"
            )
        unknown = sorted(set(scalar_starts) - set(self.mechanism.scalars))
        if unknown:
            known = ["neighborhood", "top_k", *self.mechanism.scalars]
            raise TypeError(
                f"{mechanism_name} has no option or learned scalar {unknown[0]!r} here; "
                f"{nearest(unknown[0], known)}"
            )
        check_top_k(top_k)
        reach(neighborhood)  # refuses what is no neighborhood
        self.num_heads, self.neighborhood, self.top_k = num_heads, neighborhood, top_k
        self.scalars = nn.ModuleDict(
            {
                name: HeadScalar(
                    num_heads, scalar_starts.get(name, scalar.start), positive=scalar.positive
                )
                for name, scalar in self.mechanism.scalars.items()
            }
        )

    def lift(self, query: Tensor, key: Tensor, value: Tensor) -> Lift:
        """The mechanism's lift of projected heads with the learned scalars."""
        scalars = {name: module() for name, module in self.scalars.items()}
        return self.mechanism.lift(query, key, value, **scalars)

    def forward(
        self,
        query: Float[Tensor, "batch head query dim"],
        key: Float[Tensor, "batch key_head key dim"],
        value: Float[Tensor, "batch key_head key value_dim"],
        attn_mask: Tensor | None = None,
        **options: Any,
    ) -> Float[Tensor, "batch head query value_dim"]:
        """Attend. ``options``: ``dropout_p``, ``is_causal``, ``enable_gqa`` (not needed)."""
        return self._attended((query, key, value), attn_mask, **options)

    def _attended(
        self,
        heads: tuple[Tensor, Tensor, Tensor],
        attn_mask: Tensor | None,
        *,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        enable_gqa: bool = True,
    ) -> Tensor:
        del enable_gqa  # grouped queries need no switch
        neighborhood = causal_part(self.neighborhood) if is_causal else self.neighborhood
        lengths = (heads[0].shape[2], heads[1].shape[2])
        if is_causal and lengths[0] != lengths[1]:
            raise ValueError(
                f"is_causal of SDPA aligns the first query with the first key, but there are "
                f"{lengths[0]} queries and {lengths[1]} keys; decoding with a cache, leave it out "
                f"and pass neighborhood={Causal()}, whose corner is the last, or a mask"
            )
        options: dict[str, Any] = {"top_k": self.top_k, "attn_mask": attn_mask}
        output = attend(self.lift(*heads), neighborhood, **options, dropout_p=dropout_p)
        return self.mechanism.read(output, heads[0])

    def extra_repr(self) -> str:
        return f"{self.mechanism.name}, neighborhood={self.neighborhood}, top_k={self.top_k}"
