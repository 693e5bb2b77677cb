"""What all objectives have in common."""

from torch import Tensor, nn

Terms = dict[str, Tensor]


class Objective(nn.Module):
    """What a family's generator and discriminators minimise.

    Besides, each has `generator_terms(batch, translation, generator, judged)` and, where there are
    discriminators, `discriminator_terms(batch, translation)`: named scalars, whose sums are
    minimised. Of networks it holds only such as learn with it.

    Attributes
    ----------
    every, start : int
        Discriminators learn in each so many steps, from this step on; `judged` says whether they
        do in this one.
    learning_rate : float
        Of the discriminators.
    beside : int
        As of `m2m.dataset.read_slice`: slices of target and source that are looked at besides.
    """

    every: int = 1
    start: int = 0
    learning_rate: float = 0.0
    beside: int = 0

    def helpers(self) -> dict[str, nn.Module]:
        """What else learns on the generator's side, by name."""
        return {}

    def discriminators(self) -> dict[str, nn.Module]:
        """Discriminators by name; empty where no term asks for one."""
        helpers = self.helpers()
        return {name: part for name, part in self.named_children() if name not in helpers}
