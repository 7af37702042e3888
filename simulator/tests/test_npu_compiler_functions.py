"""Models with functions of their own, as PyTorch's newer exporters write them."""

import pytest
from npu.compiler import compile_model
from npu.errors import UnsupportedModel
from onnx import helper
from whole_models import chains_of, check_parts, relative_errors

STANDARD = [helper.make_opsetid("", 18), helper.make_opsetid("module", 1)]


def function(name, nodes, inputs=("x",), output="y"):
    return helper.make_function("module", name, list(inputs), [output], nodes, STANDARD)


def model_of(n, end, *functions):
    model = n.model(end)
    model.functions.extend(functions)
    model.opset_import.append(helper.make_opsetid("module", 1))
    return model


def test_functions_are_expanded_where_they_are_called(net):
    n = net(("N", 3, 8, 8))
    n.op("Sigmoid", "x")  # names that are taken
    x = n.relu(n.conv("x", 4))
    weights = [n.constant(n.rng.normal(0, 0.3, (4, 4, 1, 1)).astype("float32")) for _ in range(2)]
    for weight in weights:
        n.nodes.append(helper.make_node("Block", [x, weight], [f"block_{weight}"], domain="module"))
        x = f"block_{weight}"
    block = [
        helper.make_node("Conv", ["x", "w"], ["relu1"]),
        helper.make_node("Act", ["relu1"], ["y"], domain="module"),
    ]
    act = function("Act", [helper.make_node("Relu", ["x"], ["y"])])
    compiled = compile_model(model_of(n, x, function("Block", block, ("x", "w")), act), precision="msfp16")
    assert chains_of(compiled) == [("EXPAND", "bias+relu"), ("CONV", "bias+relu"), ("CONV", "bias+relu")]
    check_parts(compiled)
    model = model_of(n, x, function("Block", block, ("x", "w")), act)
    assert max(relative_errors(model, compiled).values()) < 0.05


def calls(name, count):
    nodes = [helper.make_node(name, [f"t{i}"], [f"t{i + 1}"], domain="module") for i in range(count)]
    nodes[0].input[0] = "x"
    nodes[-1].output[0] = "y"
    return nodes


def test_functions_that_stand_for_too_much_are_refused(net):
    n = net(("N", 3, 8, 8))
    x = n.conv("x", 4)
    n.nodes.append(helper.make_node("F0", [x], ["end"], domain="module"))
    laughs = [function(f"F{i}", calls(f"F{i + 1}", 10)) for i in range(9)]
    laughs.append(function("F9", [helper.make_node("Relu", ["x"], ["y"])]))
    with pytest.raises(UnsupportedModel, match="more than 20000 nodes"):
        compile_model(model_of(n, "end", *laughs))
    circle = [function("F0", calls("F1", 2)), function("F1", calls("F0", 2))]
    with pytest.raises(UnsupportedModel, match="calls itself"):
        compile_model(model_of(n, "end", *circle))
