"""PAPerBench: what is in a context is counted again by hand, and a reader that counts right is marked right."""

import json
import re

import numpy as np
import pytest

from finetune import paper_bench
from finetune.asked import Reply
from finetune.paper_bench import (
    KINDS,
    Choice,
    Instance,
    Marked,
    confusion,
    mark,
    paper_scores,
    prompt,
    read_instances,
    trap_rates,
    write_instances,
)  # fmt: skip
from finetune.personas import Recipe, persona_instance
from finetune.prompts import token_spans
from geometry.checks import DataError
from geometry.over_prompts import share_of_prompts

SHAPES = {
    "ACCOUNT_ID": r"AC-\d{8}\b",
    "ADDRESS": r"\d+ \w+ Street, \w+",
    "CREDIT_CARD": r"\b\d{4} \d{4} \d{4} \d{4}\b",
    "EMAIL": r"\S+@example\.com",
    "PHONE": r"\b\d{3}-555-01\d\d\b",
    "SSN": r"\b000-\d\d-\d{4}\b",
    "URL": r"https://\S+\.example\.org",
}


def counted(context):
    return {kind: len(re.findall(shape, context)) for kind, shape in SHAPES.items()}


def truths(context):
    counts = counted(context)
    several = [kind for kind in KINDS if counts[kind] >= 2]
    leaked = sum(n > 0 for n in counts.values())
    return {kind: str(n) for kind, n in counts.items()} | {
        "categories_at_least_two": str(len(several)),
        "leaked_categories": str(leaked),
        "leaked_categories_without_phone": str(leaked - (counts["PHONE"] > 0)),
        "total": str(sum(counts.values())),
        "which_at_least_two": ", ".join(several) or "none",
    }


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_right_answers_are_what_one_counts_by_hand(seed, sparse, tiny_tokenizer):
    recipe = Recipe(4000, sparse=sparse, decoys=5)
    made = persona_instance(recipe, tiny_tokenizer, np.random.default_rng(seed))
    expected = truths(made.context)
    assert len(made.choices) == 13
    for choice in made.choices[1:]:
        assert choice.options[choice.right] == expected[choice.topic], choice.topic
        assert len(set(choice.options.values())) == 5
    if sparse:
        assert max(counted(made.context).values()) <= 1


def test_a_context_fills_its_length_and_no_more(tiny_tokenizer):
    made = persona_instance(Recipe(3000), tiny_tokenizer, np.random.default_rng(1))
    longest = max(len(token_spans(tiny_tokenizer, prompt(made.context, c), "")[0]) for c in made.choices)
    assert 2900 < longest < 3000
    with pytest.raises(DataError, match="the person and the private data take more"):
        persona_instance(Recipe(200), tiny_tokenizer, np.random.default_rng(1))


def test_the_draft_that_is_right_alone_heeds_everything(tiny_tokenizer):
    made = persona_instance(Recipe(3000), tiny_tokenizer, np.random.default_rng(2))
    choice = made.choices[0]
    person = made.context.split(". ")[0]
    name, job, town, likes, needs = re.match(
        r"(\w+ \w+) is a (\w+) from (\w+) who likes (.+?) and (.+)", person
    ).groups()
    heeded = {
        letter: all(fact in text for fact in (name, job, town, likes, needs)) and text.startswith("1. ")
        for letter, text in choice.options.items()
    }
    assert [letter for letter, good in heeded.items() if good] == [choice.right]
    assert choice.types[choice.right] == "correct"


def test_cards_fail_their_checksum(tiny_tokenizer):
    def sound(number):
        digits = [int(d) for d in number if d.isdigit()]
        doubled = [d if i % 2 == 0 else 2 * d - 9 * (d > 4) for i, d in enumerate(reversed(digits))]
        return sum(doubled) % 10 == 0

    assert sound("4539 1488 0343 6467")  # a published test number
    rng = np.random.default_rng(3)
    texts = [persona_instance(Recipe(3000), tiny_tokenizer, rng).context for _ in range(6)]
    cards = [card for text in texts for card in re.findall(SHAPES["CREDIT_CARD"], text)]
    assert cards
    assert not any(map(sound, cards))


def test_letters_and_places_of_the_truth_say_nothing(tiny_tokenizer):
    rng = np.random.default_rng(4)
    choices = [c for _ in range(25) for c in persona_instance(Recipe(2000), tiny_tokenizer, rng).choices]
    shares = np.array([np.mean([c.right == letter for c in choices]) for letter in "ABCDE"])
    assert np.abs(shares - 0.2).max() < 0.08


def test_written_instances_are_read_again_as_they_were(tmp_path, tiny_tokenizer):
    made = tuple(persona_instance(Recipe(3000), tiny_tokenizer, np.random.default_rng(i)) for i in range(2))
    write_instances(tmp_path / "made.jsonl", made)
    assert read_instances(tmp_path / "made.jsonl") == made
    assert read_instances(tmp_path / "made.jsonl", most=1) == made[:1]


DRAFTS = {"B": {"text": "y", "type": "missing_key"}, "A": {"text": "x", "type": "correct"}}
PUBLISHED = {
    "id": 7,
    "generated_context": "a long text",
    "generated_query": "what now",
    "mcq": {"options": DRAFTS, "correct_option": "A"},
    "pii_count_mcq": [
        {"question": "how many", "options": {"A": "1", "B": "2"}, "answer": "B", "pii_type": "EMAIL"}
    ],
    "privacy_aggregate_mcq": [
        {"question": "all", "options": {"A": 3, "B": 4}, "answer": "A", "mcq_type": "total"}
    ],
}


def line(tmp_path, record):
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(record) if record is not None else "")
    return path


def test_published_fields_are_read(tmp_path):
    (one,) = read_instances(line(tmp_path, PUBLISHED))
    personal, count, total = one.choices
    assert (one.id, one.context) == ("7", "a long text")
    assert (personal.question, personal.right, personal.types) == (
        "what now",
        "A",
        {"A": "correct", "B": "missing_key"},
    )
    assert (count.topic, count.options, count.right) == ("EMAIL", {"A": "1", "B": "2"}, "B")
    assert (total.topic, total.options) == ("total", {"A": "3", "B": "4"})


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (None, "holds no record"),
        ({**PUBLISHED, "generated_context": ""}, "has none of"),
        ({"id": 1, "context": "x"}, "asks nothing"),
        (
            {**PUBLISHED, "mcq": {"options": {"A": {"text": "x"}}, "correct_option": "A"}},
            "two letters or more",
        ),
        (
            {**PUBLISHED, "mcq": {"options": {"A": "x", "B": "y"}, "correct_option": "C"}},
            "is not among the options",
        ),
        (
            {**PUBLISHED, "mcq": {"options": {"A": {}, "B": "y"}, "correct_option": "B"}},
            "an option has no text",
        ),
    ],
)
def test_a_line_that_is_no_instance_is_refused(record, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_instances(line(tmp_path, record))


def test_a_reader_that_counts_is_right_and_one_that_does_not_see_the_context_is_not(
    monkeypatch, tiny_tokenizer
):
    made = [persona_instance(Recipe(3000), tiny_tokenizer, np.random.default_rng(i)) for i in range(3)]

    def ask(model, tokenizer, questions, *, write=0):
        replies = []
        for text, letters in questions:
            context = text.partition("Question: ")[0]
            known = truths(context).values() if context else ()
            options = dict(re.findall(r"^([A-E])\. (.*)$", text, re.MULTILINE))
            topic = next((k for k in KINDS if f"kind {k} " in text), None)
            sure = truths(context)[topic] if context and topic else None
            chosen = next((letter for letter in letters if options[letter] == sure), letters[0])
            likelihoods = tuple(0.0 if letter == chosen else -1.0 for letter in letters)
            replies.append(Reply(likelihoods, f"This is a {chosen}" if write else "", len(text)))
            assert known is not None
        return replies

    monkeypatch.setattr(paper_bench, "ask", ask)
    told = []
    marked = mark(None, tiny_tokenizer, made, progress=told.append)
    assert told[-1] == 1.0
    counts = [one for one in marked if one.choice.topic in KINDS]
    assert all(one.likeliest == one.choice.right for one in counts)
    assert all(one.published == "A" for one in marked)  # the article, whatever the letter was
    assert all(one.strict is None for one in marked)
    assert paper_scores(counts)["privacy"]["likelihood"].value == 1.0
    assert paper_scores(counts)["privacy"]["blind"].value < 0.6


def marked(instance, right, likeliest, area="privacy", types=None):
    choice = Choice(area, "total", "q", {"A": "1", "B": "2"}, right, types or {})
    return Marked(instance, choice, likeliest, "A", None, "a", "A")


def test_scores_average_within_an_instance_first():
    scores = paper_scores([marked("x", "A", "A"), marked("x", "A", "B"), marked("y", "B", "B")])["privacy"]
    assert scores["likelihood"].value == 0.75
    assert scores["blind"].value == 0.5
    assert scores["gain"].value == pytest.approx(0.25)
    assert scores["invalid"].value == 1.0
    assert scores["chance"].value == 0.5
    assert scores["likelihood"].n == 2
    assert (scores["likelihood"].low, scores["likelihood"].high) == (0, 1), "a share lies in 0 to 1"
    assert scores["invalid"].low == pytest.approx(share_of_prompts([1, 1]).low), "all of two proves little"


def test_a_favoured_letter_shows_in_its_column_and_traps_are_counted():
    types = {"A": "correct", "B": "ignore_context"}
    found = [marked("x", right, "B", "personalization", types) for right in "AAB"]
    assert confusion(found) == {"A": {"A": 0, "B": 2}, "B": {"A": 0, "B": 1}}
    assert trap_rates(found) == {"ignore_context": 1.0}
    assert trap_rates([marked("x", "A", "A")]) == {}


def test_a_real_model_is_asked_with_and_without_the_context(tiny_llama):
    made = Instance(
        "x", "Some text.", (Choice("privacy", "EMAIL", "How many?", {"A": "1", "B": "2"}, "A", {}),)
    )
    (one,) = mark(tiny_llama.model, tiny_llama.tokenizer, [made])
    assert {one.likeliest, one.blind} <= {"A", "B"}
