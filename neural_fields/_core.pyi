"""The native CPU core."""

from collections.abc import Sequence

from torch import Tensor

def best_isa() -> str: ...
def active_isa() -> str: ...
def set_isa(name: str) -> None: ...
def has_avx512_bf16() -> bool: ...
def num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def keep_freed_memory() -> None: ...
def limit_fma(seconds: float) -> float: ...
def limit_lines(table: Tensor, seconds: float) -> float: ...
def limit_stream(source: Tensor, destination: Tensor, seconds: float) -> float: ...

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
        convention: str,
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
        precision: str = ...,
        omega: float = ...,
        first_omega: float = ...,
        gabor_scale: float = ...,
        normalize: bool = ...,
    ) -> None: ...
    @property
    def n_params(self) -> int: ...
    @property
    def n_hidden(self) -> int: ...

def mlp_forward(
    shape: MlpShape,
    input: Tensor,
    params: Tensor,
    output: Tensor,
    hidden: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
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
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    grad_scale: Tensor | None = None,
    grad_shift: Tensor | None = None,
) -> None: ...
def mlp_second(
    shape: MlpShape,
    tangents: Tensor | None,
    grad_output: Tensor,
    input: Tensor,
    params: Tensor,
    hidden: Tensor,
    output: Tensor,
    grad_grad_output: Tensor,
    grad_input: Tensor | None,
    grad_params: Tensor | None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    grad_scale: Tensor | None = None,
    grad_shift: Tensor | None = None,
    scale_tangents: Tensor | None = None,
    shift_tangents: Tensor | None = None,
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

class TensorPlanesShape:
    def __init__(
        self, resolution: Sequence[int], rank: int, terms: str, interpolation: str
    ) -> None: ...
    @property
    def n_dims(self) -> int: ...
    @property
    def n_params(self) -> int: ...
    @property
    def n_output(self) -> int: ...
    @property
    def factors(self) -> list[tuple[tuple[tuple[int, ...], int], ...]]: ...

def tensor_planes_forward(
    shape: TensorPlanesShape, positions: Tensor, table: Tensor, output: Tensor
) -> None: ...
def tensor_planes_backward_table(
    shape: TensorPlanesShape,
    grad_output: Tensor,
    positions: Tensor,
    table: Tensor,
    grad_table: Tensor,
) -> None: ...
def tensor_planes_backward_positions(
    shape: TensorPlanesShape,
    grad_output: Tensor,
    positions: Tensor,
    table: Tensor,
    grad_positions: Tensor,
) -> None: ...
def tensor_planes_second(
    shape: TensorPlanesShape,
    tangents: Tensor | None,
    table_tangents: Tensor | None,
    grad_output: Tensor,
    positions: Tensor,
    table: Tensor,
    grad_grad_output: Tensor,
    grad_positions: Tensor,
    grad_table: Tensor | None,
) -> None: ...

class VoxelsShape:
    def __init__(
        self,
        resolution: Sequence[int],
        n_channels: int,
        n_harmonics: int,
        interpolation: str,
        wrap: Sequence[bool],
    ) -> None: ...
    @property
    def n_vertices(self) -> int: ...
    @property
    def n_output(self) -> int: ...

def voxels_forward(
    shape: VoxelsShape, positions: Tensor, grid: Tensor, directions: Tensor | None, output: Tensor
) -> None: ...
def voxels_backward_grid(
    shape: VoxelsShape,
    grad_output: Tensor,
    positions: Tensor,
    directions: Tensor | None,
    grad_grid: Tensor,
) -> None: ...
def voxels_backward_positions(
    shape: VoxelsShape,
    grad_output: Tensor,
    positions: Tensor,
    grid: Tensor,
    directions: Tensor | None,
    grad_positions: Tensor,
) -> None: ...
def voxels_second(
    shape: VoxelsShape,
    tangents: Tensor,
    grad_output: Tensor,
    positions: Tensor,
    grid: Tensor,
    directions: Tensor | None,
    grad_grad_output: Tensor,
    grad_positions: Tensor,
    grad_grid: Tensor | None,
) -> None: ...
def modulate_forward(
    features: Tensor, scale: Tensor, shift: Tensor, normalize: bool, output: Tensor
) -> None: ...
def modulate_backward(
    grad_output: Tensor,
    features: Tensor,
    scale: Tensor,
    normalize: bool,
    grad_features: Tensor,
    grad_scale: Tensor,
    grad_shift: Tensor,
) -> None: ...
def rbf_forward(
    features: Tensor,
    centers: Tensor,
    log_precision: Tensor,
    weight: Tensor,
    bias: Tensor,
    output: Tensor,
    activations: Tensor | None,
) -> None: ...
def rbf_backward(
    grad_output: Tensor,
    features: Tensor,
    centers: Tensor,
    log_precision: Tensor,
    weight: Tensor,
    activations: Tensor,
    grad_features: Tensor | None,
    grad_centers: Tensor | None,
    grad_log_precision: Tensor | None,
    grad_weight: Tensor | None,
    grad_bias: Tensor | None,
) -> None: ...
def rbf_second(
    tangents: Tensor,
    grad_output: Tensor,
    features: Tensor,
    centers: Tensor,
    log_precision: Tensor,
    weight: Tensor,
    activations: Tensor,
    grad_grad_output: Tensor,
    grad_features: Tensor | None,
    grad_centers: Tensor | None,
    grad_log_precision: Tensor | None,
    grad_weight: Tensor | None,
) -> None: ...

class MarchScene:
    def __init__(
        self,
        box_min: Sequence[float],
        box_max: Sequence[float],
        center: Sequence[float],
        unit: float,
        step: float,
        cone: float,
        max_step: float,
        near: float,
        far: float,
        max_samples: int,
        resolution: int,
        n_cascades: int,
    ) -> None: ...

class RadianceShape:
    def __init__(self, grid: HashGridShape, density: MlpShape, color: MlpShape) -> None: ...

def adam(
    params: Tensor,
    grads: Tensor,
    first: Tensor,
    second: Tensor,
    rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    l2: float,
    step: int,
    skip_zero: bool,
    clear: bool,
    touched: Tensor | None = None,
) -> None: ...
def composite_backward(
    offsets: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    density: Tensor,
    color: Tensor,
    stop: float,
    grad_color: Tensor | None,
    grad_opacity: Tensor | None,
    grad_depth: Tensor | None,
    grad_distortion: Tensor | None,
    grad_weights: Tensor | None,
    grad_density: Tensor,
    grad_sample_color: Tensor,
) -> None: ...
def composite_forward(
    offsets: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    density: Tensor,
    color: Tensor,
    stop: float,
    ray_color: Tensor,
    opacity: Tensor,
    depth: Tensor,
    distortion: Tensor | None = None,
    weights: Tensor | None = None,
) -> None: ...
def distill_backward(
    student_features: Tensor | None,
    student_log_density: Tensor | None,
    student_color: Tensor | None,
    teacher_features: Tensor | None,
    teacher_log_density: Tensor | None,
    teacher_color: Tensor | None,
    keep: Tensor | None,
    low: float,
    high: float,
    grad_losses: Tensor,
    factors: Tensor,
    grad_features: Tensor | None,
    grad_log_density: Tensor | None,
    grad_color: Tensor | None,
) -> None: ...
def distill_forward(
    student_features: Tensor | None,
    student_log_density: Tensor | None,
    student_color: Tensor | None,
    teacher_features: Tensor | None,
    teacher_log_density: Tensor | None,
    teacher_color: Tensor | None,
    keep: Tensor | None,
    low: float,
    high: float,
    mean: bool,
    losses: Tensor,
    factors: Tensor,
) -> None: ...
def distill_hardest(difficulty: Tensor, output: Tensor) -> None: ...
def distill_visible(
    offsets: Tensor,
    weights: Tensor,
    share: float,
    opacity: float,
    keep: Tensor | None,
    output: Tensor,
) -> None: ...
def march_count(
    scene: MarchScene,
    words: Tensor,
    origins: Tensor,
    directions: Tensor,
    jitter: Tensor | None,
    offsets: Tensor,
) -> None: ...
def march_distance_at(scene: MarchScene, n: float) -> float: ...
def march_into(
    scene: MarchScene,
    words: Tensor,
    origins: Tensor,
    directions: Tensor,
    jitter: Tensor,
    grids: Tensor | None,
    offsets: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    positions: Tensor,
    used: Tensor,
) -> None: ...
def march_fill(
    scene: MarchScene,
    words: Tensor,
    origins: Tensor,
    directions: Tensor,
    jitter: Tensor | None,
    offsets: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
) -> None: ...
def march_index_at(scene: MarchScene, t: float) -> float: ...
def occupancy_points(
    resolution: int, n_cascades: int, cells: Tensor, seed: int, stream: int, positions: Tensor
) -> None: ...
def occupancy_update(
    resolution: int, n_cascades: int, values: Tensor, cells: Tensor, fresh: Tensor, decay: float
) -> None: ...
def occupancy_words(
    resolution: int, n_cascades: int, values: Tensor, threshold: float, words: Tensor
) -> None: ...
def radiance_density(
    shape: RadianceShape,
    table: Tensor,
    density_params: Tensor,
    color_params: Tensor,
    positions: Tensor,
    log_density: Tensor,
) -> None: ...
def radiance_render(
    shape: RadianceShape,
    table: Tensor,
    density_params: Tensor,
    color_params: Tensor,
    scene: MarchScene,
    words: Tensor,
    origins: Tensor,
    directions: Tensor,
    color: Tensor,
    opacity: Tensor,
    depth: Tensor,
    stop: float,
    cull: float,
) -> int: ...
def radiance_train(
    shape: RadianceShape,
    table: Tensor,
    density_params: Tensor,
    color_params: Tensor,
    origins: Tensor,
    directions: Tensor,
    offsets: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    positions: Tensor,
    target: Tensor,
    background: Tensor,
    features: Tensor,
    grad_table: Tensor,
    touched: Tensor,
    grad_density: Tensor,
    grad_color: Tensor,
    ray_loss: Tensor,
    ray_color: Tensor,
    unit: float,
    stop: float,
    huber: float,
    n_loss_rays: int,
) -> int: ...
def check_slope_trunk(grid: HashGridShape, network: MlpShape) -> None: ...
def slope_forward(
    grid: HashGridShape,
    network: MlpShape,
    table: Tensor,
    params: Tensor,
    n_levels: int,
    positions: Tensor,
    encoded: Tensor,
    features: Tensor,
    slope: Tensor | None = None,
) -> None: ...
def slope_backward(
    grid: HashGridShape,
    network: MlpShape,
    table: Tensor,
    params: Tensor,
    n_levels: int,
    positions: Tensor,
    encoded: Tensor,
    grad_features: Tensor,
    grad_slope: Tensor,
    grad_table: Tensor,
    touched: Tensor,
    grad_params: Tensor,
) -> None: ...

class FrameShape:
    def __init__(
        self,
        levels: Sequence[tuple[int, int, int]],
        motion_width: int,
        motion_height: int,
        network: MlpShape,
    ) -> None: ...
    @property
    def n_grids(self) -> int: ...

def frame_forward(
    shape: FrameShape,
    place: Sequence[float],
    positions: Tensor,
    grids: Tensor,
    motion: Tensor | None,
    params: Tensor,
    output: Tensor,
) -> None: ...
def frame_lattice(
    shape: FrameShape,
    place: Sequence[float],
    x: Tensor,
    y: Tensor,
    levels: Sequence[tuple[Tensor, float]],
    motion: tuple[Tensor, float] | None,
    unit: Sequence[float],
    params: Tensor,
    output: Tensor,
) -> None: ...
def frame_backward(
    shape: FrameShape,
    place: Sequence[float],
    positions: Tensor,
    grids: Tensor,
    motion: Tensor | None,
    params: Tensor,
    grad_output: Tensor,
    grad_grids: Tensor,
    grad_motion: Tensor | None,
    grad_params: Tensor,
) -> None: ...
def rate_bits(
    numbers: Tensor, before: Tensor | None, weights: Sequence[float], grad_numbers: Tensor
) -> tuple[float, tuple[float, float, float]]: ...
