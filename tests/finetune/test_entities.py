from finetune.entities import names, numbers, words


def test_numbers_are_the_same_with_and_without_commas():
    assert numbers("1,000,000 and 3.5") == numbers("1000000 and 3.5")
    assert numbers("3, 4") != numbers("34")


def test_names_do_not_open_sentences_or_quotations():
    assert set(names("The king met Anna. Then he left. “Come,” said Peter’s son: You must.")) == {
        "Anna",
        "Peter",
    }
    assert not names("SHOUTING ANNA AND PETER")
    assert not names("I think, and Oh, so I do")


def test_words_are_letters_of_any_script():
    assert words("Café 3x, don't — 漢字") == ["café", "x", "don't", "漢字"]
