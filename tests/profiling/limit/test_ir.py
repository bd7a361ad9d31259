"""What an IR stores for its products, counted by hand."""

from pathlib import Path

import pytest

from slipstream.profiling.limit.ir import Products, read_products
from slipstream.profiling.limit.work import LimitUnknown
from tests.profiling.limit.made import HEAD, HEAD_BYTES, LAYER, LAYER_BYTES, ROW_BYTES, VOCABULARY, write_ir


@pytest.mark.parametrize("tied", [True, False])
def test_codes_scales_and_zero_points_of_each_product_are_counted_once(tmp_path: Path, tied: bool) -> None:
    found = read_products(write_ir(tmp_path, tied=tied), VOCABULARY)
    assert found == Products(
        weight_bytes=HEAD_BYTES + LAYER_BYTES,  # an embedding that is no head is read by its rows only
        parameters=HEAD + LAYER,
        head_parameters=HEAD,
        row_bytes=ROW_BYTES,
    )


def test_two_products_with_one_matrix_read_it_once_and_multiply_twice(tmp_path: Path) -> None:
    assert read_products(_graph(tmp_path, products=2), VOCABULARY) == Products(48, 48, 0, 0)


def _graph(folder: Path, *, products: int, kind: str = "Const", edges: str = "") -> Path:
    data = '<data element_type="u8" shape="4, 6" offset="0" size="48"/>'
    layers = "".join(f'<layer id="m{number}" type="MatMul"/>' for number in range(products))
    feeds = "".join(f'<edge from-layer="c" to-layer="m{number}" to-port="1"/>' for number in range(products))
    path = folder / "openvino_model.xml"
    path.write_text(
        f'<net><layers><layer id="c" type="{kind}">{data}</layer>{layers}</layers><edges>{feeds}{edges}</edges></net>'
    )
    return path


def test_a_product_of_two_computed_inputs_stores_nothing(tmp_path: Path) -> None:
    with pytest.raises(LimitUnknown, match="multiplies by no weights"):
        read_products(_graph(tmp_path, products=1, kind="Swish"), VOCABULARY)


def test_a_graph_that_runs_in_a_circle_ends(tmp_path: Path) -> None:
    circle = '<edge from-layer="m0" to-layer="c" to-port="0"/><edge from-layer="c" to-layer="c" to-port="1"/>'
    with pytest.raises(LimitUnknown, match="multiplies by no weights"):
        read_products(_graph(tmp_path, products=1, kind="Multiply", edges=circle), VOCABULARY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<net><layers>",
        "<net/>",
        "<net><layers><layer/></layers><edges/></net>",
        '<net><layers><layer id="0" type="Const"/></layers><edges/></net>',
        '<net><layers><layer id="0" type="Const"><data shape="x" size="1"/></layer></layers><edges/></net>',
        '<net><layers/><edges><edge from-layer="0"/></edges></net>',
    ],
)
def test_what_is_no_ir_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "openvino_model.xml"
    path.write_text(text)
    with pytest.raises(LimitUnknown, match="is no OpenVINO IR"):
        read_products(path, VOCABULARY)


def test_an_ir_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = write_ir(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(LimitUnknown, match="is no OpenVINO IR"):
        read_products(path, VOCABULARY)
