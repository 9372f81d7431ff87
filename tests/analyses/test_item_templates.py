"""Every shipped concept can be put before a model in at least 15 contexts; users' own are checked in one line."""

import numpy as np
import pytest

from analyses.concepts import load, names
from analyses.item_templates import (
    BARE,
    GENERIC,
    OTHER_WORDS,
    other_words,
    read_templates,
    require_templates,
    with_context,
)
from geometry.checks import DataError, InputError

PLACED = {"cities", "countries", "us_states"}


@pytest.mark.parametrize("name", names())
def test_shipped_concepts_bring_fifteen_contexts_and_the_bare_item(name):
    import yaml

    from analyses.concepts import FOLDER

    given = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))["templates"]
    require_templates(given)
    assert BARE in given and len(with_context(given)) >= 15
    # a causal model knows nothing at the item of what comes after it
    assert sum(template.index("{}") > 3 for template in with_context(given)) >= 15 - 2


def test_ambiguous_months_have_contexts_that_say_month():
    assert sum("month" in template for template in load("months").templates) >= 5


def test_generic_templates_serve_concepts_without_their_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("about: Mine.\ntopology: cycle\nitems: [a, b, c, d, e]\n")
    assert load(str(path)).templates == GENERIC
    require_templates(GENERIC)
    path.write_text(path.read_text() + 'templates: ["an {}", "the {} one"]\n')
    assert load(str(path)).templates == ("an {}", "the {} one")
    path.write_text(path.read_text().replace("the {} one", "the one"))
    with pytest.raises(InputError, match=r"expected \{\} in it once"):
        load(str(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a {}\nb\n", "template 'b': expected {} in it once"),
        ("a {} {}\nb {}\n", "'a {} {}'"),
        ("{}\na {}\n", "at least two besides"),
        ("a {}\na {}\nb {}\n", "all different"),
        ("", "at least two"),
        (None, "cannot be read"),
    ],
)
def test_a_file_of_templates_is_checked(tmp_path, text, said):
    path = tmp_path / "templates.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_templates(path)


def test_a_file_of_templates_is_read_line_by_line(tmp_path):
    path = tmp_path / "templates.txt"
    path.write_text("a {}\n\n  b {}.\n", encoding="utf-8")
    assert read_templates(path) == ("a {}", "b {}.")


def test_other_words_are_as_many_and_none_is_an_item():
    rng = np.random.default_rng(0)
    found = other_words(["Apple", "river", *map(str, range(60))], rng)
    assert len(set(found)) == 62 and not {"apple", "river"} & set(found)
    assert other_words([str(i) for i in range(len(OTHER_WORDS) + 1)], rng) == ()
    assert len(set(OTHER_WORDS)) == len(OTHER_WORDS)
