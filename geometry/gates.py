"""Gates of a verdict: what each asks, what it found, and what may be said of all of them.

:mod:`geometry.verdict` asks them.
"""

from __future__ import annotations

from dataclasses import dataclass

SYMMETRIC = 0.01
"""p value that the symmetry fraction must reach."""

LEVEL = 0.05
"""p value of the other gates that have one."""

ROUND = 0.7
"""Isotropy of the first harmonic from which a cloud may be called a circle."""

POWER = 0.8
"""Share of planted symmetries that must be found before "not shown" is said."""


@dataclass(frozen=True)
class Gate:
    """One condition of the verdict.

    Attributes:
        name: of the gate; ``statistics:`` before those of a matrix, ``cloud:`` before those of hidden states.
        value: the number that was judged; None where it cannot be computed.
        needed: what it had to reach: a p value at most this where ``p`` is given, else a value above this.
        p: its chance under shuffled labels; None for gates without one.
        passed: whether it did.
        because: the number in words.
    """

    name: str
    value: float | None
    needed: float
    p: float | None
    passed: bool
    because: str


@dataclass(frozen=True)
class SymmetryVerdict:
    """What may be said, and why.

    Attributes:
        gates: in the order in which they were asked; all are asked even when one has failed.
        power: share of planted symmetries that the first gate would have found; None where it was passed.
        where: which of several clouds was judged; None where there was nothing to choose.
    """

    gates: tuple[Gate, ...]
    power: float | None = None
    where: int | None = None

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the gates that were not passed."""
        return tuple(gate.name for gate in self.gates if not gate.passed)

    @property
    def shown(self) -> bool:
        """Whether every gate was passed."""
        return not self.failed

    @property
    def sentence(self) -> str:
        """The verdict in words, naming every gate that failed.

        Examples:
            >>> SymmetryVerdict((Gate("cloud: round", 0.4, 0.7, None, False, "isotropy .40"),)).sentence
            'not shown: fails cloud: round (isotropy .40)'
        """
        if self.shown:
            return "shows the symmetry"
        reasons = "; ".join(f"{gate.name} ({gate.because})" for gate in self.gates if not gate.passed)
        if self.power is not None and self.power < POWER:
            return (
                f"not resolvable: a planted symmetry is found {self.power:.0%} of the time; fails {reasons}"
            )
        return f"not shown: fails {reasons}"
