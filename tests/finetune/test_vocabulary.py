import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune import vocabulary
from finetune.vocabulary import CITIES, END, MONTHS, PAD, SINGLE_WORDS, WEEKDAYS, learn, split_words, wrap

TEXT = "The river rose on a grey morning and the old miller counted his sacks again. "


@pytest.fixture(scope="module", autouse=True)
def fed_less():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "FED", 200)
        yield


@pytest.fixture(scope="module")
def learnt(fed_less):
    return learn([TEXT] * 20, size=1200)


def test_forced_words_are_single_tokens(learnt):
    assert split_words(learnt) == {}
    ids = [learnt.encode(f" {word}").ids for word in SINGLE_WORDS]
    assert len({i for (i,) in ids}) == len(SINGLE_WORDS) == len(MONTHS) + len(WEEKDAYS) + len(CITIES)


def test_words_split_where_they_are_not_forced_or_have_no_room():
    plain = learn([TEXT] * 20, size=400, single=())
    assert set(split_words(plain)) == set(SINGLE_WORDS)
    assert split_words(plain, ["Monday"])["Monday"][0] == "Ġ"
    assert split_words(learn([TEXT], size=300), ["Ahmedabad"])


def test_size_counts_everything(learnt):
    assert learnt.get_vocab_size() <= 1200
    assert learn([TEXT] * 20, size=280, single=()).get_vocab_size() == 280
    assert learn([""], size=8192, single=()).get_vocab_size() == 258


def test_special_tokens_come_first(learnt):
    assert (learnt.token_to_id(END), learnt.token_to_id(PAD)) == (0, 1)
    wrapped = wrap(learnt)
    assert (wrapped.eos_token_id, wrapped.bos_token_id, wrapped.pad_token_id) == (0, 0, 1)
    assert wrapped("a")["input_ids"] == wrapped("a", add_special_tokens=False)["input_ids"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decoding_gives_back_what_was_encoded(learnt, text):
    wrapped = wrap(learnt)
    ids = wrapped(text, split_special_tokens=True)["input_ids"]
    assert wrapped.decode(ids) == text
    assert not {0, 1} & set(ids)


@pytest.mark.parametrize(
    "text", ["a\x00b\x07", f"{END}{PAD} spelt out", "\ufeff\u200b\u2028", "  two  spaces ", "\r\n\t"]
)
def test_hostile_text_comes_back(learnt, text):
    wrapped = wrap(learnt)
    assert wrapped.decode(wrapped(text, split_special_tokens=True)["input_ids"]) == text


def test_the_same_texts_give_the_same_vocabulary(learnt):
    assert learn([TEXT] * 20, size=1200).to_str() == learnt.to_str()


def test_save_and_read_again(learnt, tmp_path):
    from transformers import PreTrainedTokenizerFast

    wrap(learnt).save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert again(TEXT)["input_ids"] == wrap(learnt)(TEXT)["input_ids"]
    assert (again.eos_token, again.pad_token) == (END, PAD)
