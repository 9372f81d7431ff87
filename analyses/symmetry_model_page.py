"""The model's side of a page of symmetry: layers, positions, templates, probes; each with its floor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses.digits import digits
from analyses.report import FigureSpec, Section, TableSpec
from analyses.symmetry_words import SCORES, SHORT, figure_name, place_name, title_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Facts = dict[str, Any]

SHUFFLED = "shuffled labels (95 %)"


def layers_section(concept: Facts) -> Section:
    """Every layer of the position that was judged, and the other positions beside it."""
    name, model = concept["name"], concept["model"]
    position = model["at"]["position"]
    scores = model["scores"][position]
    main = "first" if "first" in scores else "alignment"
    text = [
        f"States of {len(concept['corpus']['items'])} items in {len(model['templates'])} templates, averaged over "
        f"templates. A score is of that mean; bars are 95 % intervals from leaving out one template at a time, grey "
        f"bands are what shuffled labels reach at this layer alone. Verdicts use p values that are corrected for "
        f"having looked at {len(model['layers'])} layers and {len(model['positions'])} positions.",
        f"What is predicted are the modes of the kernel {_kernel(model['kernel'])}.",
    ]
    return Section(
        f"{title_of(name)} in the model, layer by layer",
        tuple(text),
        figures=tuple(
            filter(
                None,
                (
                    _beside(concept, main, position),
                    _all_scores(concept, position),
                    _positions(concept, main),
                    _probes(concept, position),
                ),
            )
        ),
        tables=(_score_table(concept), _token_table(concept)),
    )


def templates_section(concept: Facts) -> Section:
    """Layers and templates as a map: is it one prompt that does it?"""
    name, maps, model = concept["name"], concept["model"]["maps"], concept["model"]
    position = model["at"]["position"]
    shown = [score for score in ("first", "alignment") if score in maps]
    figures, said = [], []
    for score in shown:
        values, limit = maps[score]["values"][position], maps[score]["threshold"]
        cells = [x for row in values[: len(model["templates"])] for x in row if x is not None]
        above = sum(x > limit for x in cells)
        said.append(
            f"{SCORES[score]}: {above} of {len(cells)} cells are above {digits(limit, places=2)}, which 95 % of "
            f"{maps[score]['draws']} shuffles reach nowhere among all layers, templates and positions"
        )
        figures.append(
            FigureSpec(
                figure_name(name, f"templates-{score}"),
                "threshold_map",
                f"{SCORES[score].capitalize()} of `{name}` at {position}, in single templates. Red is above, blue "
                f"below {digits(limit, places=2)}, which 95 % of shuffles reach nowhere; dots mark cells above.",
                {
                    "values": values,
                    "rows": maps["templates"],
                    "columns": _layers(model["layers"]),
                    "label": SCORES[score],
                    "threshold": limit,
                    "x_label": "layer",
                },
            )
        )
    text = (
        "One template is no evidence: the words around an item move it as much as its meaning does. The bare item, "
        "`{}`, has no context and stands in no mean.",
        "; ".join(said) + ".",
    )
    return Section(f"{title_of(name)} in the model, template by template", text, figures=tuple(figures))


def _beside(concept: Facts, score: str, position: str) -> FigureSpec:
    """The main score with everything that should show nothing."""
    model = concept["model"]
    record = model["scores"][position][score]
    series = [{"name": "model", "values": record["value"], "low": record["low"], "high": record["high"]}]
    if any(value is not None for value in record["other"]):
        series.append({"name": "other words", "values": record["other"]})
    draws = record["untrained"]
    if draws and draws[0]:
        series.append({
            "name": f"random weights ({len(draws[0])})",
            "values": [_mean(one) for one in draws],
            "low": [_end(one, min) for one in draws],
            "high": [_end(one, max) for one in draws],
        })
    return FigureSpec(
        figure_name(concept["name"], "layers"),
        "by_layer",
        f"{SCORES[score].capitalize()} of `{concept['name']}` at {position}. Other words stand in the same places of "
        "the same templates; models of random weights have the same tokenizer, so that shared tokens show in them.",
        {"layers": model["layers"], "series": series, "y_label": SCORES[score], "null": _band(record)},
    )


def _all_scores(concept: Facts, position: str) -> FigureSpec:
    model = concept["model"]
    shown = {key: value for key, value in model["scores"][position].items() if key != "corpus"}
    series = [
        {
            "name": SHORT[score],
            "values": record["value"],
            "low": record["low"],
            "high": record["high"],
            "null": _band(record),
        }
        for score, record in shown.items()
    ]
    names = "; ".join(f"{SHORT[score]}, {SCORES[score]}" for score in shown)
    return FigureSpec(
        figure_name(concept["name"], "scores"),
        "by_layer",
        f"All scores of `{concept['name']}` at {position}, each with what shuffled labels give: {names}.",
        {"layers": model["layers"], "series": series, "y_label": "score"},
    )


def _positions(concept: Facts, score: str) -> FigureSpec | None:
    model = concept["model"]
    if len(model["positions"]) < 2:
        return None
    series = [
        {
            "name": position,
            "values": record[score]["value"],
            "low": record[score]["low"],
            "high": record[score]["high"],
        }
        for position, record in model["scores"].items()
    ]
    bands = [_band(record[score]) for record in model["scores"].values()]
    widest = {
        "name": f"{SHUFFLED}, of any position",
        "low": [_end([b["low"][i] for b in bands], min) for i in range(len(model["layers"]))],
        "high": [_end([b["high"][i] for b in bands], max) for i in range(len(model["layers"]))],
    }
    return FigureSpec(
        figure_name(concept["name"], "positions"),
        "by_layer",
        f"{SCORES[score].capitalize()} of `{concept['name']}` where it is read: at the item's last token, over its "
        "tokens, at the end of the text, and as sentence models pool.",
        {"layers": model["layers"], "series": series, "y_label": SCORES[score], "null": widest},
    )


def _probes(concept: Facts, position: str) -> FigureSpec:
    model = concept["model"]
    series = [
        {"name": folds, "values": record[position]["values"]} for folds, record in model["probes"].items()
    ]
    random = model["probes"]["random folds"][position]
    if any(value is not None for value in random["other"]):
        series.append({"name": "other words, random folds", "values": random["other"]})
    if random["untrained"] and random["untrained"][0]:
        series.append({
            "name": "random weights, random folds",
            "values": [_mean(one) for one in random["untrained"]],
            "low": [_end(one, min) for one in random["untrained"]],
            "high": [_end(one, max) for one in random["untrained"]],
        })
    return FigureSpec(
        figure_name(concept["name"], "probes"),
        "by_layer",
        f"Error of probes for the place of `{concept['name']}` at {position}, squared, over the variance of places: "
        "0 is perfect, 1 no better than their mean. Penalty and centring are chosen on training items only.",
        {
            "layers": model["layers"],
            "series": series,
            "y_label": "held-out error ε²",
            "ceiling": {"value": 1.0, "name": "no better than the mean"},
            "y_limits": [0.0, 1.35],
        },
    )


def _score_table(concept: Facts) -> TableSpec:
    """Every score at the judged place, beside the model's tables of embeddings."""
    model, rows = concept["model"], []
    at = model["at"]["layer"] + 1
    tables = {name: record for name, record in model["static"].items() if record}
    for score, record in model["scores"][model["at"]["position"]].items():
        cell = {key: record[key][at] for key in ("value", "low", "high", "null", "p")}
        static = [table.get(score) for table in tables.values()]
        rows.append((
            SCORES[score],
            _cell(cell),
            digits(record["adjusted"][at], 2),
            record["other"][at],
            *static,
        ))
    return TableSpec(
        f"Scores at {place_name(model['at'])}. p is of this place alone, the next column corrected for all layers "
        "and positions. Tables of embeddings, averaged over an item's tokens, are what is there before any context.",
        ("score", "value", "corrected p", "other words", *tables),
        tuple(rows),
    )


def _token_table(concept: Facts) -> TableSpec:
    tokens = concept["model"]["tokens"]
    split = list(tokens["split"].items())
    rows = [
        ("items of more than one token", len(split), _some([f"{k}: {'·'.join(v)}" for k, v in split])),
        (
            "tokens that several items share", len(tokens["shared"]),
            _some([f"{k}: {', '.join(v[:3])}" for k, v in tokens["shared"].items()]),
        ),
        (
            "last tokens that several items share", len(tokens["same_end"]),
            _some([f"{k}: {', '.join(v[:3])}" for k, v in tokens["same_end"].items()]),
        ),
        ("items with unknown tokens", len(tokens["unknown"]), _some(list(tokens["unknown"]))),
    ]  # fmt: skip
    nuisances = ", ".join(concept["model"]["nuisances"]["taken_out"])
    return TableSpec(
        f"How the tokenizer cuts the items. Taken out of partial correlations: {nuisances}.",
        ("what", "how many", "such as"),
        tuple(rows),
    )


def _band(record: Mapping[str, Any]) -> dict[str, Any]:
    nulls = record["null"]
    return {"name": SHUFFLED} | {
        end: [None if null is None else null[end] for null in nulls] for end in ("low", "high", "mean")
    }


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in cell.items() if value is not None} | {"value": cell["value"]}


def _kernel(kernel: Mapping[str, Any]) -> str:
    return f"`{kernel['shape']}` of width {digits(kernel['width'])}, {kernel['source']}"


def _layers(layers: Sequence[int]) -> list[str]:
    return ["emb" if layer < 0 else str(layer) for layer in layers]


def _some(texts: Sequence[str]) -> str:
    return "; ".join(texts[:3]) + ("; …" if len(texts) > 3 else "") if texts else "–"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _end(values: Sequence[float | None], choose: Any) -> float | None:
    known = [value for value in values if value is not None]
    return choose(known) if known else None
