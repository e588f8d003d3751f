"""Your own attention in fifteen lines: a module, a choice of models, an arm of comparisons."""

import torch.nn.functional as F

import resonant
from resonant import Lift, Scalar


@resonant.register("cosine", sharpness=Scalar(start=8.0, off=0.0))
def cosine(query, key, value, sharpness):
    """Scores are cosines, times a sharpness learned per head."""
    query = F.normalize(query, dim=-1) * sharpness[:, None, None]
    return Lift(query, F.normalize(key, dim=-1), value)


if __name__ == "__main__":
    resonant.testing.check_mechanism("cosine")
    print(resonant.language_model("0.11M", mechanism="cosine"))
