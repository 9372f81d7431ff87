"""Planted worlds get the right verdict, and the gate that stops them is named."""

import numpy as np
import pytest

from geometry.checks import ShapeError
from geometry.gates import Gate, SymmetryVerdict
from geometry.lattice import exponential, modes, wrapped
from geometry.layouts import cycle, grid, line, sphere
from geometry.nuisances import nuisance_matrices
from geometry.verdict import detection_rate, judge, judge_clouds

YEAR, YEARS = cycle(12), line(30)
NEAR = wrapped(exponential(4.2), 12)(YEAR.distance)
OPEN = exponential(4.2)(line(12).distance)
PREDICTED = modes(NEAR)
WORDS = "January February March April May June July August September October November December".split()
COUNTS = [900, 700, 1000, 950, 1400, 1100, 980, 890, 870, 860, 800, 850]
SPELLING = nuisance_matrices(WORDS, counts=COUNTS).matrices


def noise(n, rng, sd=1.0):
    m = rng.standard_normal((n, n))
    return sd * (m + m.T)


def hidden(coordinates, rng, sd=0.0, d=64):
    """Coordinates somewhere in d dimensions, with noise whose rows have length about sd."""
    basis = np.linalg.qr(rng.standard_normal((d, coordinates.shape[1])))[0]
    return coordinates @ basis.T + 3 + sd * rng.standard_normal((len(coordinates), d)) / np.sqrt(d)


def failed(verdict):
    return set(verdict.failed)


@pytest.mark.parametrize("seed", range(5))
def test_a_circle_is_shown(seed):
    rng = np.random.default_rng(seed)
    assert judge(NEAR + noise(12, rng, 0.03), YEAR, SPELLING, rng).sentence == "shows the symmetry"
    clouds = [rng.standard_normal((12, 64)), hidden(PREDICTED.coordinates, rng, 0.3)]
    found = judge_clouds(clouds, PREDICTED, YEAR, SPELLING, rng)
    assert found.shown and "at cloud 1" in found.gates[0].because


@pytest.mark.parametrize("seed", range(5))
def test_a_line_is_shown_as_a_line_and_not_as_a_circle(seed):
    rng = np.random.default_rng(seed)
    length = {"length": noise(30, rng)}
    kernel = exponential(12)(YEARS.distance)
    assert judge(kernel + noise(30, rng, 0.03), YEARS, length, rng, draws=199).shown
    predicted = modes(kernel)
    assert judge_clouds(
        [hidden(predicted.coordinates, rng, 0.3)], predicted, YEARS, length, rng, draws=199
    ).shown

    assert "statistics: closed" in judge(OPEN + noise(12, rng, 0.01), YEAR, SPELLING, rng).failed
    horseshoe = hidden(modes(OPEN).coordinates, rng, 0.1)
    assert "cloud: closed" in judge_clouds([horseshoe], PREDICTED, YEAR, SPELLING, rng).failed
    assert (
        "cloud: open"
        in judge_clouds(
            [hidden(PREDICTED.coordinates, rng, 0.1)], modes(OPEN), line(12), SPELLING, rng
        ).failed
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sd", [0.1, 0.3])
def test_a_block_of_five_of_twelve_is_refused_as_a_circle(seed, sd):
    """Its first harmonic is stronger than a circle's, and beats every shuffle that is not a block."""
    rng = np.random.default_rng(seed)
    block = (np.arange(12) < 5).astype(float)[:, None]
    cloud = hidden(block, rng, sd)
    found = judge_clouds([cloud], PREDICTED, YEAR, SPELLING, rng)
    assert "cloud: first mode" not in found.failed and "cloud: round" in found.failed
    assert "not shown: fails cloud: round" in found.sentence
    assert not judge(block @ block.T + noise(12, rng, 0.1), YEAR, SPELLING, rng).shown


def test_what_frequency_makes_is_refused_and_what_it_does_not_make_is_not():
    """Words get rarer along the line, as numbers do. One in twenty artefacts may pass at level .05."""
    stopped = {"statistics": 0, "cloud": 0}
    predicted = modes(exponential(12)(YEARS.distance))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        logs = 8 - 3 * YEARS.targets[:, 0] + 0.8 * rng.standard_normal(30)
        apart = np.abs(np.subtract.outer(logs, logs))
        frequency = {"frequency": apart, "frequency sum": np.add.outer(logs, logs)}
        artefacts = {
            "statistics": judge(-apart + noise(30, rng, 0.2), YEARS, frequency, rng, draws=199),
            "cloud": judge_clouds(
                [np.column_stack([logs, rng.standard_normal((30, 20)) / 3])],
                predicted, YEARS, frequency, rng, draws=199,
            ),
        }  # fmt: skip
        for of, verdict in artefacts.items():
            assert not failed(verdict) - {f"{of}: beyond spelling and frequency"}
            stopped[of] += not verdict.shown
        real = exponential(12)(YEARS.distance) - 0.03 * apart + noise(30, rng, 0.02)
        assert judge(real, YEARS, frequency, rng, draws=199).shown
    assert min(stopped.values()) >= 16, stopped


def test_frequency_that_is_the_order_leaves_nothing():
    logs = np.linspace(10, 5, 30)
    same = {"frequency": np.abs(np.subtract.outer(logs, logs))}
    found = judge(exponential(12)(YEARS.distance), YEARS, same, np.random.default_rng(0), draws=99)
    gate = found.gates[-1]
    assert not gate.passed and gate.value is None and "nothing is left once frequency" in gate.because


@pytest.mark.parametrize("seed", range(5))
def test_what_spelling_makes_is_refused(seed):
    """September to December share their ends and follow each other: a calendar made of letters."""
    rng = np.random.default_rng(seed)
    like = sum(SPELLING[name] / SPELLING[name].std() * sign for name, sign in [("end", 1), ("edits", -1)])
    found = judge(like + noise(12, rng, 0.2), YEAR, SPELLING, rng)
    assert "statistics: beyond spelling and frequency" in found.failed
    letters = np.array([[word.lower().count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for word in WORDS])
    cloud = judge_clouds([hidden(letters.astype(float), rng, 0.5)], PREDICTED, YEAR, SPELLING, rng)
    assert not cloud.shown


def test_a_step_between_two_groups_is_refused_as_a_line():
    """Before and after: near items are more alike, and the first mode is a line's to a cosine of .9."""
    length, stopped = (
        {"length": noise(30, np.random.default_rng(9))},
        {"statistics: graded": 0, "cloud: graded": 0},
    )
    predicted = modes(exponential(12)(YEARS.distance))
    for seed in range(12):
        rng = np.random.default_rng(seed)
        step = (np.arange(30) < 13).astype(float)[:, None]
        found = judge(
            2 * np.equal.outer(step[:, 0], step[:, 0]) + noise(30, rng, 0.2), YEARS, length, rng, draws=199
        )
        assert "statistics: symmetric" not in found.failed
        clouds = [hidden(step, rng, 0.3), hidden(step, rng, 0.5)]
        verdicts = found, judge_clouds(clouds, predicted, YEARS, length, rng, draws=199)
        assert "cloud: first mode" not in verdicts[1].failed
        for name in stopped:
            stopped[name] += any(name in verdict.failed for verdict in verdicts)
    assert min(stopped.values()) >= 10, stopped  # one in twenty may pass at level .05


def test_accidentals_of_a_shared_token_are_refused():
    """Five of twelve names end in one token, in a row: the block that fakes a circle of keys."""
    rng = np.random.default_rng(0)
    names = ["C", "G", "D", "A", "E", "B", "F sharp", "C sharp", "G sharp", "D sharp", "A sharp", "F"]
    tokens = [[ord(c) for c in name.split()[0]] + [99] * name.endswith("sharp") for name in names]
    spelling = nuisance_matrices(names, tokens=tokens).matrices
    block = np.array([[float(name.endswith("sharp"))] for name in names])
    found = judge_clouds([hidden(block, rng, 0.2)], PREDICTED, YEAR, spelling, rng)
    assert {"cloud: round", "cloud: beyond spelling and frequency"} <= failed(found)


def test_an_order_that_only_the_cycles_automorphism_sees_is_refused():
    rng = np.random.default_rng(0)
    order = 5 * np.arange(12) % 12
    found = judge(NEAR[np.ix_(order, order)], YEAR, SPELLING, rng)
    assert "statistics: symmetric" not in found.failed and "statistics: near is alike" in found.failed


def test_too_few_items_are_not_resolvable_and_noise_with_many_is_not_shown():
    rng = np.random.default_rng(0)
    few = judge(-cycle(5).distance, cycle(5), {"length": noise(5, rng)}, rng)
    assert few.gates[0].p == pytest.approx(2 / 12)  # 12 orders, and x -> 2 x is one of them
    assert few.power == 0.0 and few.sentence.startswith("not resolvable: a planted symmetry is found 0% of")
    seasons = judge(-cycle(4).distance, cycle(4), {"length": noise(4, rng)}, rng)
    assert seasons.gates[0].p == pytest.approx(1 / 3) and seasons.sentence.startswith("not resolvable")
    many = judge(noise(30, rng), YEARS, {"length": noise(30, rng)}, rng, draws=199)
    assert many.power == 1.0 and many.sentence.startswith("not shown: fails statistics: symmetric")


def test_places_and_grids_are_judged_too():
    rng = np.random.default_rng(0)
    globe = sphere(np.column_stack([rng.uniform(-60, 60, 40), rng.uniform(-180, 180, 40)]))
    for layout in (globe, grid((5, 6))):
        kernel = exponential(layout.distance.mean())(layout.distance)
        length = {"length": noise(layout.n, rng)}
        assert judge(kernel + noise(layout.n, rng, 0.02), layout, length, rng, draws=199).shown
        predicted = modes(kernel)
        cloud = hidden(predicted.coordinates, rng, 0.1)
        assert judge_clouds([cloud], predicted, layout, length, rng, draws=199).shown
        assert not judge_clouds([rng.permutation(cloud)], predicted, layout, length, rng, draws=199).shown


def test_a_mode_that_is_weaker_than_chance_shows_nothing():
    """Far out on the wrong side is no evidence: all energy in the second harmonic."""
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * np.arange(12) / 12
    cloud = hidden(np.column_stack([np.cos(2 * angle), np.sin(2 * angle)]), rng, 0.05)
    assert "cloud: first mode" in judge_clouds([cloud], PREDICTED, YEAR, SPELLING, rng).failed


@pytest.mark.slow
def test_shuffled_sets_pass_each_gate_at_most_at_its_level_and_hardly_any_passes_all():
    """500 sets: real kernels and clouds, labels shuffled. Twelve layers are looked at in each."""
    rng = np.random.default_rng(1)
    passed, shown = {}, 0
    for _ in range(500):
        order = rng.permutation(12)
        matrix = NEAR[np.ix_(order, order)] + noise(12, rng, 0.05)
        clouds = [hidden(PREDICTED.coordinates[order], rng, sd) for sd in np.linspace(0.2, 2, 12)]
        verdicts = (
            judge(matrix, YEAR, SPELLING, rng, draws=199),
            judge_clouds(clouds, PREDICTED, YEAR, SPELLING, rng, draws=199),
        )
        shown += any(verdict.shown for verdict in verdicts)
        for gate in (gate for verdict in verdicts for gate in verdict.gates):
            passed[gate.name] = passed.get(gate.name, 0) + gate.passed
    # binomial, 500 sets: 5 +- 2.2 at level .01, 25 +- 4.9 at level .05; three deviations are allowed
    assert passed["statistics: symmetric"] <= 12
    assert passed["cloud: first mode"] <= 40
    assert passed["statistics: beyond spelling and frequency"] <= 40
    assert passed["cloud: beyond spelling and frequency"] <= 40
    assert shown <= 12, (shown, passed)


def test_power_grows_with_what_is_planted():
    rng = np.random.default_rng(0)
    m = noise(12, rng)
    found = [detection_rate(m, YEAR, np.random.default_rng(1), share=share) for share in (0.0, 0.3, 0.9)]
    assert found[0] <= 0.1 < found[1] < found[2] == 1.0


def test_sentences():
    gate = Gate("a", 1.0, 0.0, None, False, "because")
    assert SymmetryVerdict((gate,), power=0.2).sentence.startswith("not resolvable")
    assert SymmetryVerdict((gate,), power=0.9).sentence == "not shown: fails a (because)"
    assert SymmetryVerdict(()).shown


def test_what_cannot_be_judged_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ShapeError, match="nuisances: expected at least one"):
        judge(NEAR, YEAR, {}, rng)
    with pytest.raises(ShapeError, match="at least 99 shuffles"):
        judge(NEAR, YEAR, SPELLING, rng, draws=20)
    with pytest.raises(ShapeError, match="expected at least one; capture"):
        judge_clouds([], PREDICTED, YEAR, SPELLING, rng)
    with pytest.raises(ShapeError, match="12 rows"):
        judge_clouds([np.eye(5)], PREDICTED, YEAR, SPELLING, rng)
    with pytest.raises(ShapeError, match="nothing to plant"):
        detection_rate(np.ones((12, 12)), YEAR, rng)
    with pytest.raises(ShapeError, match="all pairs of items are equal"):
        judge(np.ones((12, 12)), YEAR, SPELLING, rng)
    with pytest.raises(ShapeError, match="cloud 1: all items are equal"):
        judge_clouds([np.eye(12), np.ones((12, 4))], PREDICTED, YEAR, SPELLING, rng)
    with pytest.raises(ShapeError, match="nuisance length: expected"):
        judge(NEAR, YEAR, {"length": np.eye(5)}, rng)
