"""Which tensors of a SavedModel are served: by its signature, by names, in TensorFlow 1 anywhere in the graph."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accel_toolchain.conditions import Terminal
from accel_toolchain.workspace import Workspace
from tf_models import SIDE, convert, network, save_tensorflow1, variables

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's own, at import
]

Make = Callable[..., str]


def test_tensorflow_1_by_its_signature(tf: Any, convert_job: Make, work: Workspace, tmp_path: Path) -> None:
    report = convert(save_tensorflow1(tf, tmp_path / "model"), work, convert_job())
    assert report["inputs"][0]["name"] == "image_bytes:0"
    assert report["outputs"] == [
        {
            "name": "classifier/predictions/Softmax:0",
            "alias": "output_alias",
            "dtype": "float32",
            "shape": [-1, 4],
        }
    ]
    assert [step["op"] for step in report["decode"]["steps"]] == ["resize"]
    assert report["floatParity"]["maxRel"] < 1e-4


def test_tensorflow_1_cut_at_a_tensor(tf: Any, convert_job: Make, work: Workspace, tmp_path: Path) -> None:
    source = save_tensorflow1(tf, tmp_path / "model")
    text = convert_job(inputs=["image_bytes:0"], outputs=["classifier/Mean:0"])
    report = convert(source, work, text)
    assert report["outputs"] == [
        {"name": "classifier/Mean:0", "alias": "classifier/Mean", "dtype": "float32", "shape": [-1, 8]}
    ]


def test_arrays_in_and_some_of_the_outputs_out(
    tf: Any, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    module = tf.Module()
    module.v = variables(tf)

    def serve(x: Any) -> Any:
        scores = network(tf, module.v, x, fused=True)
        return {"scores": scores, "double": scores * 2.0}

    signature = [tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32, name="pixels")]
    tf.saved_model.save(
        module, str(tmp_path / "model"), {"serving_default": tf.function(serve, input_signature=signature)}
    )
    report = convert(tmp_path / "model", work, convert_job(outputs=["double"]))
    assert report["decode"] is None
    assert report["inputs"] == [
        {
            "name": "serving_default_pixels:0",
            "alias": "pixels",
            "dtype": "float32",
            "shape": [-1, SIDE, SIDE, 3],
        }
    ]
    assert [output["alias"] for output in report["outputs"]] == ["double"]
    assert report["floatParity"]["maxRel"] < 1e-5


def test_a_tensorflow_1_graph_names_similar_tensors(
    tf: Any, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    text = convert_job(outputs=["classifier/prediction/Softmax:0"])
    with pytest.raises(Terminal, match="Similar in the graph: classifier/predictions/Softmax:0") as raised:
        convert(save_tensorflow1(tf, tmp_path / "model"), work, text)
    assert raised.value.reason == "UnknownTensor"
