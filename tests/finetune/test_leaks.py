from finetune.leaks import RUN, leaking, leaks, repeats
from finetune.pairs import Pair


def pair(i, doc, source, target):
    return Pair(str(i), doc, source, target)


RUNNING = "one two three four five six seven eight nine"


def test_planted_leaks_are_found_and_nothing_else():
    train = [pair(0, "a", "x", RUNNING), pair(1, "a", "plain text", "styled text")]
    clean = [pair(2, "b", "other", "words that nobody shares with anybody in training here")]
    planted = [
        pair(3, "a", "p", "q"),
        pair(4, "c", "Plain text!", "r"),
        pair(5, "c", "s", "STYLED text."),
        pair(6, "c", "t", f"zero {' '.join(RUNNING.split()[:RUN])} ten"),
        pair(7, "c", "u", " ".join(RUNNING.split()[: RUN - 1])),
    ]
    found = leaks({"train": train, "validation": clean, "test": planted})
    by = {(one["earlier"], one["later"]): one for one in found}
    assert by["train", "test"] == {
        "earlier": "train", "later": "test", "n": 5, "document": 1, "source": 1, "target": 1, "run": 1,
    }  # fmt: skip
    assert not any(by["train", "validation"][kind] for kind in ("document", "source", "target", "run"))
    assert len(leaking(found)) == 1


def test_repeated_targets_are_counted():
    assert repeats([pair(0, "a", "x", "One."), pair(1, "a", "y", "one"), pair(2, "a", "z", "two")]) == 1
