"""The native CPU core."""

from torch import Tensor

def best_isa() -> str: ...
def active_isa() -> str: ...
def set_isa(name: str) -> None: ...
def has_avx512_bf16() -> bool: ...
def num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...

class HashGridShape:
    def __init__(
        self,
        n_dims: int,
        n_levels: int,
        n_features: int,
        log2_table_size: int,
        base_resolution: int,
        per_level_scale: float,
        grid_type: str,
        interpolation: str,
    ) -> None: ...
    @property
    def n_dims(self) -> int: ...
    @property
    def n_features(self) -> int: ...
    @property
    def n_levels(self) -> int: ...
    @property
    def n_entries(self) -> int: ...
    @property
    def levels(self) -> list[tuple[float, int, int, int, str]]: ...

def hash_grid_forward(
    shape: HashGridShape, positions: Tensor, table: Tensor, output: Tensor
) -> None: ...
def hash_grid_backward_table(
    shape: HashGridShape,
    grad_output: Tensor,
    positions: Tensor,
    grad_table: Tensor,
    touched: Tensor | None = None,
) -> None: ...
def hash_grid_backward_positions(
    shape: HashGridShape,
    grad_output: Tensor,
    positions: Tensor,
    table: Tensor,
    grad_positions: Tensor,
) -> None: ...
def hash_grid_second(
    shape: HashGridShape,
    tangents: Tensor,
    grad_output: Tensor,
    positions: Tensor,
    table: Tensor,
    grad_grad_output: Tensor,
    grad_positions: Tensor,
    grad_table: Tensor | None,
) -> None: ...

class MlpShape:
    def __init__(
        self,
        widths: list[int] | tuple[int, ...],
        hidden: str,
        output: str,
        beta: float,
        biases: bool,
    ) -> None: ...
    @property
    def n_params(self) -> int: ...
    @property
    def n_hidden(self) -> int: ...

def mlp_forward(
    shape: MlpShape, input: Tensor, params: Tensor, output: Tensor, hidden: Tensor | None = None
) -> None: ...
def mlp_backward(
    shape: MlpShape,
    grad_output: Tensor,
    input: Tensor,
    params: Tensor,
    hidden: Tensor,
    output: Tensor,
    grad_input: Tensor | None,
    grad_params: Tensor | None,
) -> None: ...
def mlp_second(
    shape: MlpShape,
    tangents: Tensor,
    grad_output: Tensor,
    input: Tensor,
    params: Tensor,
    hidden: Tensor,
    output: Tensor,
    grad_grad_output: Tensor,
    grad_input: Tensor | None,
    grad_params: Tensor | None,
) -> None: ...

class FrequencyShape:
    def __init__(self, n_dims: int, n_octaves: int, identity: bool, include_pi: bool) -> None: ...
    @property
    def n_output(self) -> int: ...

def frequency_forward(shape: FrequencyShape, positions: Tensor, output: Tensor) -> None: ...
def frequency_backward(
    shape: FrequencyShape, grad_output: Tensor, positions: Tensor, grad_positions: Tensor
) -> None: ...
def frequency_second(
    shape: FrequencyShape,
    tangents: Tensor,
    grad_output: Tensor,
    positions: Tensor,
    grad_grad_output: Tensor,
    grad_positions: Tensor,
) -> None: ...
def spherical_harmonics_forward(degree: int, directions: Tensor, output: Tensor) -> None: ...
def spherical_harmonics_backward(
    degree: int, grad_output: Tensor, directions: Tensor, grad_directions: Tensor
) -> None: ...
def spherical_harmonics_second(
    degree: int,
    tangents: Tensor,
    grad_output: Tensor,
    directions: Tensor,
    grad_grad_output: Tensor,
    grad_directions: Tensor,
) -> None: ...
