"""Modules find their place in the map, and cells their floor."""

from analyses.module_maps import cell, count_verdicts, layer_map, place, short_names, span


def test_modules_are_laid_out_by_layer_and_projection_with_gaps_where_there_is_none():
    records = [
        {"layer": 1, "projection": "attn.q"},
        {"layer": None, "projection": "head"},
        {"layer": 1, "projection": "mlp.up"},
    ]
    shape = layer_map(records, [1.0, 2.0, 3.0])
    assert shape["rows"] == ["outside", 1]
    assert shape["columns"] == ["q", "head", "up"]
    assert shape["values"] == [[None, 2.0, None], [1.0, None, 3.0]]
    assert [place(r) for r in records] == ["layer 1 attn.q", "head", "layer 1 mlp.up"]


def test_layers_run_across_where_projections_are_fewer_and_there_is_room():
    records = [{"layer": i, "projection": "attn.q"} for i in range(3)]
    shape = layer_map(records, [1.0, 2.0, 3.0])
    assert (shape["rows"], shape["columns"], shape["values"]) == (["q"], [0, 1, 2], [[1.0, 2.0, 3.0]])
    assert shape["x_label"] == "layer"
    many = [{"layer": i, "projection": "attn.q"} for i in range(13)]
    assert layer_map(many, list(range(13)))["columns"] == ["q"]


def test_names_keep_what_tells_them_apart():
    assert short_names(["attn.c_proj", "mlp.c_proj"]) == ["attn.c_proj", "mlp.c_proj"]


def test_a_number_without_a_null_is_a_bare_number():
    null = {"low": 0.0, "high": 1.0, "verdict": "above", "p": 0.2, "mean": 0.5}
    assert cell(None) is None
    assert cell({"value": 2.0}) == 2.0
    assert cell({"value": 2.0, "null": null})["verdict"] == "above"


def test_verdicts_are_counted_in_three_words():
    records = [{"null": {"verdict": v}} for v in ("above", "below", "above", "not distinguishable")]
    said = count_verdicts(records, "chance")
    assert said == "above chance in 2 of 4 modules, not distinguishable in 1, below in 1"
    assert count_verdicts(records[3:], "chance") == "not distinguishable from chance in 1 of 1 modules"
    assert count_verdicts([], "chance") == "there is nothing to compare"


def test_a_span_of_one_number_is_that_number():
    assert (span({2.0}), span({1, 3})) == ("2.00", "1 to 3")
