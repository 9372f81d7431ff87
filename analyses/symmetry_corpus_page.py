"""The corpus's side of a page of symmetry: M* beside the fitted kernel, and whether it is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.digits import digits
from analyses.report import FigureSpec, Section, TableSpec
from analyses.symmetry_closeup_page import manifolds, probe_table, read_off
from analyses.symmetry_words import SCORES, SHORT, figure_name, in_order, shown_order, title_of

if TYPE_CHECKING:
    from collections.abc import Sequence

Facts = dict[str, Any]

_PERIODIC = {
    "periodic": "nearness round the cycle, given nearness along the line",
    "open": "nearness along the line, given nearness round the cycle",
    "seam": "nearness round the cycle, across the seam",
}


def corpus_sections(concept: Facts) -> list[Section]:
    """M* and its kernel; the word embeddings of the corpus, where a whole vocabulary was counted."""
    corpus = concept["corpus"]
    found = [_matrix_section(concept)]
    if corpus["embedding"]:
        found.append(_embedding_section(concept, corpus["embedding"]))
    if corpus["robustness"]:
        found.append(_robustness_section(concept, corpus["robustness"]))
    return found


def _matrix_section(concept: Facts) -> Section:
    name, corpus = concept["name"], concept["corpus"]
    figures = [_block(concept), _by_distance(concept), _profile(concept)]
    if not concept["model"]:
        vectors = corpus["embedding"] and {"word vectors": corpus["embedding"]["closeup"]["manifold"]}
        figures += manifolds(concept, {"corpus": concept["laid"]} | (vectors or {}))
    tables = [_score_table(corpus), _kernel_table(concept)]
    if corpus["excluded"]:
        tables.append(_excluded_table(corpus))
    return Section(
        f"{title_of(name)} in the corpus",
        (f"{concept['about']} {_what(corpus)}", _how_many(corpus)),
        figures=tuple(figure for figure in figures if figure),
        tables=tuple(tables),
    )


def _what(corpus: Facts) -> str:
    if corpus["target"] == "PMI":
        return (
            "PMI, the logarithm of how many times as often as by chance two items stand near each other; M* is too "
            "near its bound of 2 here to tell pairs apart."
        )
    return "M* says how much more often than by chance two items stand near each other, from -2 (never) to 2."


def _how_many(corpus: Facts) -> str:
    report = corpus["report"]
    return (
        f"{len(corpus['items'])} items; the rarest occurs {digits(report['rarest'])} times, and "
        f"{digits(100 * report['zero'], 2)} % of pairs never meet. "
        + (
            f"Intervals come from {corpus['documents']['resamples']} resamples of {corpus['documents']['blocks']} "
            "blocks of documents."
            if corpus["documents"]
            else "Documents were not counted apart, so that numbers of the corpus have no intervals."
        )
    )


def _block(concept: Facts) -> FigureSpec:
    corpus, target = concept["corpus"], concept["corpus"]["target"]
    west = "; from west to east" if concept["places"] else ""
    return FigureSpec(
        figure_name(concept["name"], "block"),
        "blocks",
        f"{target} over the items of `{concept['name']}`, and the kernel fitted to its pairs{west}. The diagonal is "
        "not used.",
        {
            "panels": [
                {"title": target, "values": in_order(concept, _hollow(corpus["block"]))},
                {
                    "title": "fitted kernel",
                    "values": in_order(concept, _hollow(concept["prediction"]["values"])),
                },
            ],
            "labels": [corpus["items"][at] for at in shown_order(concept)],
            "label": target,
        },
    )


def _by_distance(concept: Facts) -> FigureSpec:
    found, target = concept["distance"], concept["corpus"]["target"]
    far = found["unit"] == "km"
    return FigureSpec(
        figure_name(concept["name"], "distance"),
        "by_layer",
        f"{target} of pairs of `{concept['name']}` by distance: mean over the pairs of a class, with the range of "
        "the middle 80 %, and the fitted kernel.",
        {
            "layers": [round(at / 1000, 1) if far else round(at) for at in found["at"]],
            "series": [
                {"name": target, "values": found["mean"], "low": found["low"], "high": found["high"]},
                {"name": "fitted kernel", "values": found["kernel"]},
            ],
            "x_label": "distance, 1000 km" if far else "distance, steps",
            "y_label": target,
        },
    )


def _profile(concept: Facts) -> FigureSpec | None:
    found = concept["corpus"]["profile"]
    if concept["model"] or len(found["corpus"]) < 2:
        return None  # the same shares are drawn beside those of the model
    what = "harmonic" if concept["layout"] == "cycle" else "component"
    data: Facts = {
        "layers": list(range(1, len(found["corpus"]) + 1)),
        "series": [
            {"name": "corpus", "values": found["corpus"]},
            {"name": "fitted kernel", "values": found["kernel"]},
        ],
        "x_label": what,
        "y_label": "share",
    }
    if found["null"]:
        data["null"] = found["null"] | {"name": "shuffled labels (95 %)"}
    return FigureSpec(
        figure_name(concept["name"], "corpus-spectrum"),
        "by_layer",
        f"Share of each {what} in {concept['corpus']['target']} and in the fitted kernel, by absolute eigenvalue.",
        data,
    )


def _score_table(corpus: Facts) -> TableSpec:
    rows = [("share of the variation that is by distance", with_floor(corpus["symmetric"]))]
    if corpus["other_words"]:
        rows.append((
            "the same beside other words of the same frequencies",
            with_floor(corpus["other_words"]),
        ))
    rows.append(("Spearman with nearness", with_floor(corpus["monotone"])))
    if corpus["partial"]:
        given = ", ".join(corpus["nuisances"]["taken_out"])
        rows.append((f"the same given {given}", with_floor(corpus["partial"])))
    if corpus["periodic"]:
        rows += [(_PERIODIC[key], with_floor(record)) for key, record in corpus["periodic"].items()]
    rows += [(SCORES[score], with_floor(record)) for score, record in corpus["scores"].items()]
    return TableSpec(
        f"Scores of {corpus['target']}. Nulls are shuffled labels (95 % of them lie in the band); p is the share "
        "that reaches as much, or of either side where the sign is what is asked for.",
        ("score", "value"),
        tuple(rows),
    )


def _kernel_table(concept: Facts) -> TableSpec:
    rows = [
        (
            fit["shape"],
            {"value": fit["width"], "low": fit.get("width_low"), "high": fit.get("width_high")},
            fit["plateau"],
            fit["amplitude"],
            fit["offset"],
            fit["r2"],
            fit["held_out"],
        )
        for fit in concept["corpus"]["fits"]
    ]
    unit = concept["distance"]["unit"]
    return TableSpec(
        "Kernels C(d) = offset + amplitude k(d / width), the best on held-out pairs first. Predictions are those of "
        f"`{concept['prediction']['shape']}`, {concept['prediction']['source']}. A held-out R² of 0 is no better "
        "than the mean.",
        ("shape", f"width, {unit}", f"plateau, {unit}", "amplitude", "offset", "R²", "held-out R²"),
        tuple(rows),
    )


def _excluded_table(corpus: Facts) -> TableSpec:
    shown = corpus["excluded"][:20]
    more = len(corpus["excluded"]) - len(shown)
    return TableSpec(
        f"Items that were left out{f'; {more} more are in report.json' if more else ''}.",
        ("item", "because"),
        tuple((one["item"], one["because"]) for one in shown),
    )


def _embedding_section(concept: Facts, found: Facts) -> Section:
    name = concept["name"]
    series = [
        {
            "name": SHORT[score],
            "values": record["values"],
            "null": record["null"] | {"name": "shuffled labels (95 %)"},
        }
        for score, record in found["scores"].items()
    ]
    return Section(
        f"{title_of(name)} in the corpus's word embeddings",
        (
            "Word vectors that are eigenvectors of M* over the whole vocabulary, each scaled by the root of its "
            f"absolute eigenvalue: nothing is trained. Verdict: {found['verdict']['sentence']}.",
        ),
        figures=(
            FigureSpec(
                figure_name(name, "embedding"),
                "by_layer",
                f"Scores of the vectors of `{name}` by the number of leading dimensions.",
                {
                    "layers": found["dimensions"],
                    "series": series,
                    "x_label": "dimensions",
                    "y_label": "score",
                },
            ),
            *_embedding_probes(name, found),
            *read_off(concept, found["closeup"]["probes"], "word vectors"),
        ),
        tables=(probe_table(found["closeup"]["probes"]),),
    )


def _embedding_probes(name: str, found: Facts) -> list[FigureSpec]:
    return [
        FigureSpec(
            figure_name(name, "embedding-probes"),
            "by_layer",
            f"R² of ridge probes for the place of `{name}`, by the number of leading dimensions; 0 is the mean.",
            {
                "layers": found["dimensions"],
                "series": [{"name": folds, "values": values} for folds, values in found["probes"].items()],
                "x_label": "dimensions",
                "y_label": "held-out R²",
            },
        )
    ]


def _robustness_section(concept: Facts, found: Facts) -> Section:
    curve = found["helpers"]
    high = found["null"]["high"]
    if found["full"] <= high:
        stays = "; shuffled labels reach as much, so that among these words there is nothing to lose"
    elif found["zeroed"] <= high:
        stays = "; what is left is no more than shuffled labels reach"
    else:
        stays = f": {digits(100 * found['collective'], 2)} % of it stays"
    return Section(
        f"{title_of(concept['name'])} in the corpus, their own pairs taken away",
        (
            "If the geometry were made by the items' own co-occurrences it would go with them; if other words that "
            f"vary alike carry it, it stays. Among {curve['at'][-1]} other words the Spearman correlation with "
            f"nearness is {digits(found['full'], places=2)} with the items' own pairs and "
            f"{digits(found['zeroed'], places=2)} without{stays}.",
        ),
        figures=(
            FigureSpec(
                figure_name(concept["name"], "helpers"),
                "by_layer",
                "Spearman correlation of nearness in the word embedding with nearness in the layout, the items' own "
                "pairs set to 0, by the number of other words among which they are embedded; bars are 95 % of random "
                "choices.",
                {
                    "layers": curve["at"],
                    "series": [
                        {
                            "name": "own pairs taken away",
                            "values": curve["mean"],
                            "low": curve["low"],
                            "high": curve["high"],
                        }
                    ],
                    "null": found["null"] | {"name": "shuffled labels (95 %)"},
                    "ceiling": {"value": found["full"], "name": "with their own pairs"},
                    "x_label": "other words",
                    "y_label": "Spearman with nearness",
                },
            ),
        ),
    )


def with_floor(record: Facts) -> Facts:
    """A number with its interval and its null, as a cell."""
    null = record.get("null")
    cell: Facts = {"value": record["value"], "low": record.get("low"), "high": record.get("high")}
    if null:
        cell["null"] = {"low": null["low"], "high": null["high"]}
        cell["p"] = record.get("p", null["p"])
    return cell


def _hollow(matrix: Sequence[Sequence[float]]) -> list[list[float | None]]:
    return [[None if i == j else x for j, x in enumerate(row)] for i, row in enumerate(matrix)]
