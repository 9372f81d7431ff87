"""Needles in long contexts: what stands where is what the text says, in characters and in tokens."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.needle_layout import (
    Arrangement,
    Case,
    Filler,
    Piece,
    Place,
    fitted,
    lay_out,
    token_count,
    token_ranges,
    without_needles,
)  # fmt: skip
from finetune.needle_tasks import (
    documents,
    from_sentences,
    haystack,
    key_values,
    neutral,
    rivals,
    same_format,
)  # fmt: skip
from finetune.prompts import token_spans
from geometry.checks import DataError, ModelError

TASKS = {"haystack": haystack, "documents": documents, "kv": key_values}


def marked(question, name):
    return [question.prompt[a:b] for a, b in question.spans[name]]


def decoded(tokenizer, question, name):
    ids = token_spans(tokenizer, question.prompt, "")[0]
    ranges = token_ranges(tokenizer, question.prompt, {name: question.spans[name]})[name]
    return [tokenizer.decode(ids[a:b]).strip() for a, b in ranges]


@pytest.mark.parametrize("task", TASKS)
@given(st.integers(0, 12), st.floats(0, 1), st.floats(0, 1), st.integers(1, 3), st.sampled_from(list(Place)))
def test_spans_say_what_the_text_says(task, fill, depth, spacing, needles, place):
    case = TASKS[task](np.random.default_rng(5), needles=needles)
    question = lay_out(case, fill, Arrangement(depth, spacing, place))
    assert question.pieces == fill + needles == len(question.spans["pieces"])
    assert marked(question, "needle") == [needle.text for needle in case.needles]
    assert set(marked(question, "question")) == {case.question}
    assert question.prompt.count(case.question) == (2 if place is Place.both else 1)
    assert " and ".join(marked(question, "value")) == case.answer.replace(", ", " and ")
    assert question.prompt.endswith(case.lead)
    assert question.rivals == (fill if task == "kv" else 0)
    assert case.answer not in case.foils
    assert len(set(case.foils)) == 3


@given(st.integers(1, 40), st.floats(0, 1))
def test_depth_is_the_share_of_filler_before_the_needle_and_filler_keeps_its_order(fill, depth):
    case = haystack(np.random.default_rng(0))
    question = lay_out(case, fill, Arrangement(depth))
    pieces = marked(question, "pieces")
    assert abs(pieces.index(case.needles[0].text) / fill - depth) <= 0.5 / fill + 1e-12
    pieces.remove(case.needles[0].text)
    assert pieces == [piece.text for piece in case.filler.take(fill)]


def test_spacing_spreads_needles_from_side_by_side_to_the_end():
    before = [Arrangement(0.2, spacing).before(100, 3) for spacing in (0.0, 0.5, 1.0)]
    assert before == [[20, 20, 20], [20, 40, 60], [20, 60, 100]]


@pytest.mark.parametrize("task", TASKS)
def test_without_its_needles_a_prompt_is_as_long_and_does_not_hold_the_answer(task):
    case = TASKS[task](np.random.default_rng(1), needles=2)
    floor = without_needles(case, 9, Arrangement())
    assert floor.pieces == 11
    assert "needle" not in floor.spans
    assert case.answer.split(" and ")[0] not in floor.prompt.replace(case.question, "")


@pytest.mark.parametrize("task", TASKS)
def test_fitted_fills_the_length_and_no_more(task, tiny_tokenizer):
    case, places = TASKS[task](np.random.default_rng(2)), [Arrangement(d) for d in (0.0, 0.5, 1.0)]
    fill = fitted(case, places, tiny_tokenizer, 1500)
    counts = [token_count(tiny_tokenizer, lay_out(case, fill, place)) for place in places]
    more = [token_count(tiny_tokenizer, lay_out(case, fill + 1, place)) for place in places]
    floor = token_count(tiny_tokenizer, without_needles(case, fill + 1, places[0]))
    assert max(counts) <= 1500 < max(*more, floor)


def test_a_length_that_the_needles_alone_exceed_is_refused(tiny_tokenizer):
    with pytest.raises(DataError, match="needles and question alone take"):
        fitted(haystack(np.random.default_rng(0)), [Arrangement()], tiny_tokenizer, 10)


def test_filler_that_ends_before_the_length_is_refused(tiny_tokenizer):
    case = haystack(
        np.random.default_rng(0), filler=from_sentences(["It rained all day.", "Then it stopped."])
    )
    with pytest.raises(DataError, match="the filler ends after 2 pieces"):
        fitted(case, [Arrangement()], tiny_tokenizer, 1000)


@pytest.mark.parametrize("name", ["depth", "spacing"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_place_outside_of_the_context_is_refused(name, value):
    with pytest.raises(DataError, match=name):
        Arrangement(**{name: value})


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("needles", [0, 9])
def test_a_number_of_needles_without_a_name_is_refused(task, needles):
    with pytest.raises(DataError, match="needles: expected 1 to 8"):
        TASKS[task](np.random.default_rng(0), needles=needles)


def test_fillers_differ_in_what_competes_with_the_needle():
    made = {}
    for filler in (neutral, same_format, rivals):
        case = haystack(np.random.default_rng(3), filler=filler)
        relation = case.question.removeprefix("What is the ").partition(" of ")[0]
        question = lay_out(case, 30, Arrangement())
        made[filler] = (
            question.rivals,
            question.prompt.count(f"The {relation} of "),
            question.prompt.count(" is "),
        )
    assert made[neutral] == (0, 2, 3)  # needle and lead; the question has one more "is"
    assert made[same_format] == (0, 2, 33)
    assert made[rivals] == (30, 32, 33)


def test_no_rival_has_the_name_that_is_asked_for():
    case = haystack(np.random.default_rng(4), filler=rivals)
    ((a, b),) = case.needles[0].marks["key"]
    name = case.needles[0].text[a:b]
    assert not any(f" {name} " in piece.text for piece in case.filler.take(4000))


def test_a_filler_gives_the_same_pieces_again_and_reads_an_endless_source_no_further_than_asked():
    read = []
    filler = Filler(Piece(str(read.append(i) or i)) for i in itertools.count())
    assert filler.take(3) == filler.take(5)[:3]
    assert read == [0, 1, 2, 3, 4]


def test_texts_of_others_begin_anywhere_and_go_round_once():
    sentences = ["One.", "Two.", "Three."]
    pieces = [p.text for p in from_sentences(sentences)("", iter(()), np.random.default_rng(1))]
    assert sorted(pieces) == sorted(sentences)
    assert pieces[1] == sentences[(sentences.index(pieces[0]) + 1) % 3]
    with pytest.raises(DataError, match="holds no sentence"):
        from_sentences([])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["needle", "value", "key", "question", "pieces"])
def test_tokens_of_a_span_decode_to_its_text(task, name, tiny_tokenizer):
    question = lay_out(TASKS[task](np.random.default_rng(6)), 4, Arrangement(0.5))
    found = decoded(tiny_tokenizer, question, name)
    assert all(text in got for got, text in zip(found, marked(question, name), strict=True))
    assert all(len(got) <= len(text) + 4 for got, text in zip(found, marked(question, name), strict=True))


def test_token_ranges_count_the_opening_token(tiny_tokenizer):
    from tokenizers.processors import TemplateProcessing

    spans = {"word": ((4, 8),)}
    plain = token_ranges(tiny_tokenizer, "The ship came", spans)["word"]
    import copy

    opened = copy.deepcopy(tiny_tokenizer)
    opened._tokenizer.post_processor = TemplateProcessing(
        single="<|mask|> $A", special_tokens=[("<|mask|>", tiny_tokenizer.mask_token_id)]
    )
    assert token_ranges(opened, "The ship came", spans)["word"] == tuple((a + 1, b + 1) for a, b in plain)


def test_a_span_that_does_not_survive_tokenisation_is_refused(tiny_tokenizer):
    text = "The ship came home in the morning"
    whole = tiny_tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    first, last = next((a, b) for a, b in whole if b - a > 3)
    with pytest.raises(DataError, match="does not survive tokenisation"):
        token_ranges(tiny_tokenizer, text, {"torn": ((last - 1, last),)})
    with pytest.raises(DataError, match="no token is made of"):
        token_ranges(tiny_tokenizer, text, {"empty": ((first, first),)})


def test_a_tokenizer_that_cannot_tell_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="take a fast one"):
        token_ranges(Slow(), "text", {})


def test_every_needle_is_needed_for_the_answer():
    case = haystack(np.random.default_rng(8), needles=3)
    parts = case.answer.split(" and ")
    changed = [[a != b for a, b in zip(foil.split(" and "), parts, strict=True)] for foil in case.foils]
    assert [sum(row) for row in changed] == [1, 1, 1]
    assert np.any(changed, axis=0).all()


def test_a_case_with_other_words_is_laid_out_as_it_says():
    case = Case(
        (Piece("N"),), Filler([Piece("f")] * 2), "Q", "L", "x", ("y",), head="H", joint="|", numbered="{}:"
    )
    assert lay_out(case, 2, Arrangement(1.0)).prompt == "H\n\n1:f|2:f|3:N\n\nQ\nL"
    assert (
        lay_out(replace(case, head=""), 1, Arrangement(0.0, 0.0, Place.first)).prompt == "Q\n\n1:N|2:f\n\nL"
    )
