import pytest

from finetune.prompts import render
from finetune.templates import SHIPPED, Template
from geometry.checks import DataError

EXAMPLES = [("Go  now.", "Depart\nforthwith!"), ("a {x} b", "c")]


def shipped():
    import yaml

    return sorted(yaml.safe_load(SHIPPED.read_text()))


def test_the_plain_template_is_the_prompt_that_adapters_are_trained_on():
    plain = Template.named("plain")
    assert plain.render("It  rained.", EXAMPLES) == render("It  rained.", EXAMPLES)
    assert plain.render("It {rained}.") == render("It {rained}.")


@pytest.mark.parametrize("name", shipped())
def test_every_template_shows_all_and_asks_last(name):
    text = Template.named(name).render("THE QUESTION", EXAMPLES, [("king", "sovereign")], style="NAME")
    places = [
        text.index(part) for part in ("Go now.", "Depart forthwith!", "king", "sovereign", "THE QUESTION")
    ]
    assert places == sorted(places)
    assert text == text.rstrip()
    assert name == "plain" or "NAME" in text
    assert "THE QUESTION" not in text[: text.index("sovereign")]


def test_braces_of_texts_are_text():
    assert "{style}{0}" in Template.named("instruct").render("{style}{0}", style="x")


PARTS = {"task": "", "example": "{source}{target}", "note": "{term}{styled}", "query": "{source}:"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": "no gap"}, "query has the gaps"),
        ({"example": "{source}"}, "needs"),
        ({"task": "{source}"}, "may have"),
        ({"query": "{source}: "}, "white space"),
        ({"query": "{source:>10}"}, "one word"),
        ({"query": "{source!r}"}, "one word"),
        ({"query": "{source.__class__}"}, "one word"),
        ({"query": "{source} {"}, "partner"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        Template(**{**PARTS, **changes})


def test_files_that_hold_no_such_template_are_refused(tmp_path):
    path = tmp_path / "own.yaml"
    with pytest.raises(DataError, match="cannot be read"):
        Template.named("plain", path)
    path.write_text("mine: {task: '', example: 'x', note: 'x'}\n")
    with pytest.raises(DataError, match="has no prompt 'plain'; it has mine"):
        Template.named("plain", path)
    with pytest.raises(DataError, match="must have the texts"):
        Template.named("mine", path)
    path.write_text("just a text")
    with pytest.raises(DataError, match="it has none"):
        Template.named("plain", path)
    path.write_text("a: [")
    with pytest.raises(DataError, match="YAML"):
        Template.named("plain", path)
