import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.sentences import split_sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["It rained.", "It snowed!", "Did it?", "Yes…", "No."],
        ['"Go!" she said.', '"Never."', "He went."],
        ["“Is it so?”", "“It is.”", "(It was.)", "Then night came."],
        ["Mr. and Mrs. J. R. Smith met Dr. Jones at St. Ives.", "Messrs. Dodson & Co. came, too."],
        ["It cost 3.50, see Fig. 7 and No. 12, e.g. the first, i.e. not vol. II.", "Nobody bought it."],
        ["I said no.", "Seven came.", "It was I.", "He left at 5 p.m. on the 3rd."],
        ["The U.S. Senate met.", "What!", "It did!!!", "Really?!", "Yes."],
        ["Smith et al. found it (see ref. 3).", "They say so."],
        ["He wrote... and wrote.", "Then... Nothing."[:7], "Nothing."],
        ["它下雨了。", "真的吗？", "是的。"],
        ['He cried, "Stop! thief!" and ran.', "- Nobody stopped."[2:]],
    ],
)
def test_sentences_come_apart_where_they_end(sentences):
    joined = "".join(sentences) if "。" in sentences[0] else " ".join(sentences)
    assert split_sentences(joined) == sentences


def test_an_empty_line_ends_a_sentence_and_another_line_break_does_not():
    assert split_sentences("CHAPTER I\n\n  It rained\nall day\r\n \t\nThe end") == [
        "CHAPTER I", "It rained all day", "The end",
    ]  # fmt: skip


@given(st.text(alphabet=st.sampled_from("aAB .!?\"'\n-(中。1\u2028\0"), max_size=60))
def test_nothing_is_lost_or_added_but_white_space(text):
    found = split_sentences(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(sentence.strip() == sentence != "" for sentence in found)


def test_a_very_long_line_takes_no_longer_than_its_length():
    assert split_sentences("a" * 300_000 + ". " + "." * 100_000 + " B") != []


def test_blank_text_has_no_sentence():
    assert split_sentences(" \n\n ") == []
