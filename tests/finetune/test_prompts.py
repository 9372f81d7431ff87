import pytest

from finetune.prompts import IGNORED, completion, encode, encode_prompt, one_line, render
from geometry.checks import ModelError

EXAMPLES = [("Go home.", "Return to thine abode.")]


@pytest.fixture(scope="module")
def with_bos(tiny_tokenizer):
    """A tokenizer that opens and closes every text, as Llama's and BERT's do between them."""
    import copy

    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(tiny_tokenizer)
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<|mask|>", "<|endoftext|>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|mask|> $A <|endoftext|>", special_tokens=ids
    )
    return tokenizer


def test_a_text_cannot_leave_its_line():
    assert render("a\nOutput: b\n\nInput: c").count("\n") == 1
    assert completion("a\r\n b") == " a b"
    assert one_line("\ta\u2028b ") == "a b"


def test_the_labels_are_the_answer_and_the_end(tiny_tokenizer):
    ids, labels = encode(tiny_tokenizer, "It rained.", "It did rain.")
    answer = [label for label in labels if label != IGNORED]
    assert 0 < len(answer) < len(ids) == len(labels)
    assert answer == ids[-len(answer) :]
    assert answer[-1] == tiny_tokenizer.eos_token_id
    assert tiny_tokenizer.decode(answer[:-1]) == " It did rain."
    assert tiny_tokenizer.decode(ids[: -len(answer)]) == render("It rained.")


@pytest.mark.parametrize("examples", [(), EXAMPLES])
def test_training_and_rewriting_see_the_same_prompt(tiny_tokenizer, examples):
    prompt = encode_prompt(tiny_tokenizer, "It rained.", examples)
    ids, labels = encode(tiny_tokenizer, "It rained.", "It did rain.", examples)
    assert ids[: len(prompt)] == prompt
    assert labels[: len(prompt)] == [IGNORED] * len(prompt)
    assert IGNORED not in labels[len(prompt) :]


def test_examples_come_first_and_bear_no_loss(tiny_tokenizer):
    prompt = render("It rained.", EXAMPLES)
    assert prompt.startswith("Input: Go home.\nOutput: Return to thine abode.\n\nInput: It")
    plain = encode(tiny_tokenizer, "It rained.", "It did rain.")[1]
    shown = encode(tiny_tokenizer, "It rained.", "It did rain.", EXAMPLES)[1]
    assert [x for x in shown if x != IGNORED] == [x for x in plain if x != IGNORED]


def test_only_the_opening_token_that_the_tokenizer_adds_is_kept(with_bos, tiny_tokenizer):
    plain = encode_prompt(tiny_tokenizer, "It rained.")
    assert encode_prompt(with_bos, "It rained.") == [with_bos.convert_tokens_to_ids("<|mask|>"), *plain]
    ids, _ = encode(with_bos, "It rained.", "It did.")
    assert ids.count(with_bos.eos_token_id) == 1
    assert ids[1:] == encode(tiny_tokenizer, "It rained.", "It did.")[0]


def test_a_text_that_spells_the_end_does_not_end_it(tiny_tokenizer):
    ids, _ = encode(tiny_tokenizer, "a <|endoftext|> b", "c <|endoftext|> d")
    assert ids.count(tiny_tokenizer.eos_token_id) == 1
    assert tiny_tokenizer.decode(ids[:-1]).count("<|endoftext|>") == 2


def test_a_token_across_the_border_does_not_change_the_prompt():
    """A tokenizer with a token ': x' would join the prompt's colon with the answer."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    letters = {c: i for i, c in enumerate(sorted({*"Input: ab\nOutput: x"}))}
    vocabulary = {**letters, ": ": len(letters), ": x": len(letters) + 1, "</s>": len(letters) + 2}
    model = models.BPE(vocab=vocabulary, merges=[(":", " "), (": ", "x")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), eos_token="</s>")
    assert vocabulary[": x"] in tokenizer(render("a") + completion("x"))["input_ids"]
    prompt = encode_prompt(tokenizer, "a")
    ids, _ = encode(tokenizer, "a", "x")
    assert ids == [*prompt, vocabulary[" "], vocabulary["x"], vocabulary["</s>"]]


@pytest.mark.parametrize("call", [lambda t: encode_prompt(t, "a"), lambda t: encode(t, "a", "b")])
def test_a_tokenizer_without_an_end_is_refused(tiny_tokenizer, call):
    import copy

    endless = copy.deepcopy(tiny_tokenizer)
    endless.eos_token = None
    with pytest.raises(ModelError, match="end-of-text"):
        call(endless)
