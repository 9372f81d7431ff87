"""A byte-level BPE vocabulary in which chosen words are single tokens.

Symmetry probes ask a model about months, weekdays and cities; a word that splits into pieces has no
row of its own to look at, so the words that matter are forced in while the merges are learnt.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

END, PAD = "<|endoftext|>", "<|pad|>"

MONTHS = tuple(
    "January February March April May June July August September October November December".split()
)
WEEKDAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
# One-word names among the largest urban areas of the world (United Nations, World Urbanization
# Prospects 2018), kept where English text of the nineteenth and twentieth centuries names them often.
CITIES = tuple(
    "Tokyo Delhi Shanghai Cairo Mumbai Beijing Dhaka Osaka Karachi Istanbul Chongqing Kolkata Manila "
    "Lagos Kinshasa Tianjin Guangzhou Moscow Shenzhen Lahore Bangalore Paris Jakarta Chennai Lima Bangkok "
    "Seoul Nagoya Hyderabad London Tehran Chicago Chengdu Nanjing Wuhan Luanda Ahmedabad Baghdad Houston "
    "Toronto Singapore Philadelphia Santiago Madrid Khartoum Barcelona Johannesburg Berlin Rome Vienna "
    "Athens Dublin Lisbon Warsaw Budapest Stockholm Copenhagen Amsterdam Brussels Hamburg Munich Milan "
    "Naples Melbourne Sydney Montreal Boston Washington Detroit Dallas Miami Atlanta Seattle Havana "
    "Edinburgh Glasgow Liverpool Manchester Birmingham Jerusalem Damascus Calcutta Bombay Nairobi".split()
)
SINGLE_WORDS = MONTHS + WEEKDAYS + CITIES

FED = 20_000
"""How often each forced word is fed: as the 25th most frequent word of 33 M characters of English occurs."""


def learn(texts: Iterable[str], *, size: int = 8192, single: Sequence[str] = SINGLE_WORDS) -> Tokenizer:
    """Learn byte-level BPE merges (Sennrich et al. 2016; Radford et al. 2019) with forced words.

    BPE merges the most frequent pair first, so a word that is fed often enough becomes one token. Each
    forced word is fed, with its leading space, ``FED`` times; :func:`split_words` says which still split.

    Args:
        texts: documents to learn from; read once.
        size: number of tokens, the two special ones and the 256 bytes included. Fewer come out of a text
            that has no more pairs to merge.
        single: words that are to be one token when a space stands before them.

    Returns:
        A tokenizer with ``END`` as id 0 and ``PAD`` as id 1, and no normalisation: decoding gives back
        the very characters that were encoded.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    forced = (f" {word}" * FED for word in single)
    tokenizer.train_from_iterator(chain(texts, forced), trainer)
    return tokenizer


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Give a learnt tokenizer the interface of transformers, with its end and padding tokens."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )


def split_words(tokenizer: Tokenizer, words: Sequence[str] = SINGLE_WORDS) -> dict[str, list[str]]:
    """List the words that are more than one token after a space.

    Args:
        tokenizer: the ``backend_tokenizer`` of a tokenizer of transformers, or what :func:`learn` made.
        words: to look up.

    Returns:
        Each word that splits, with the pieces as the vocabulary spells them (``Ġ`` is the space).
    """
    pieces = {word: tokenizer.encode(f" {word}", add_special_tokens=False).tokens for word in words}
    return {word: parts for word, parts in pieces.items() if len(parts) > 1}
