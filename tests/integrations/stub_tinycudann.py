"""A stand-in for the package tinycudann on the CPU: layouts and rounding of tiny-cuda-nn 2.0.

Written from its sources (bindings/torch/tinycudann/modules.py, encodings/grid.h, common_device.h,
encodings/identity.h, networks) without any of our operations. What is rounded to half there is
rounded here at the borders of a kernel; sums within a kernel are float32.
"""

import itertools
import math
from types import ModuleType

import numpy as np
import torch
from torch import nn
from torch.nn.functional import pad

PRIMES = (1, 2654435761, 805459861, 3674653429)
GRANULARITY = 256
NEURONS_OF_FUSED = (16, 32, 64, 128)
MAX_BASES = {2: 0xFFFF, 3: 0x659, 4: 0xFF}
ACTIVATIONS = {"None": lambda z: z, "ReLU": torch.relu, "Sigmoid": torch.sigmoid}


class Kernel(torch.autograd.Function):
    """Compute and, once, differentiate; rounded to the module's type on the way in and out."""

    @staticmethod
    def forward(ctx, module, inputs, params, loss_scale):
        ctx.leaves = [inputs.detach().requires_grad_(), params.detach().float().requires_grad_()]
        ctx.loss_scale, ctx.dtype = loss_scale, module.dtype
        with torch.enable_grad():
            ctx.output = module.compute(*ctx.leaves)
        return ctx.output.detach().to(module.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        scaled = (grad * ctx.loss_scale).float()
        of_inputs, of_params = torch.autograd.grad(ctx.output, ctx.leaves, scaled)
        rounded = of_params.to(ctx.dtype) / ctx.loss_scale
        return None, of_inputs / ctx.loss_scale, rounded, None


class Module(nn.Module):
    loss_scale = 128.0

    def __init__(self, n_input_dims, n_params, dtype):
        super().__init__()
        self.n_input_dims, self.n_params, self.dtype = n_input_dims, n_params, dtype
        self.params = nn.Parameter(torch.full((n_params,), math.nan))
        self.received = []  # the parameters of every call
        self.trained = []  # whether it kept what gradients need

    def forward(self, x):
        assert x.shape[1] == self.n_input_dims
        assert len(x), "a launch of no blocks"
        assert self.params.shape == (self.n_params,)
        params = self.params.to(self.dtype)
        self.received.append(params.detach().clone())
        self.trained.append(x.requires_grad or params.requires_grad)
        padded = pad(x, (0, 0, 0, -len(x) % GRANULARITY)).float()
        output = Kernel.apply(self, padded, params, self.loss_scale)
        return output[: len(x), : self.n_output_dims]


class Encoding(Module):
    def __init__(self, n_input_dims, encoding_config, seed=1337, dtype=None):
        config = dict(encoding_config)
        assert config.pop("otype") == "Grid"
        self.kind, self.interpolation = config.pop("type"), config.pop("interpolation")
        self.n_features, self.n_levels = config.pop("n_features_per_level"), config.pop("n_levels")
        self.cap = 1 << config.pop("log2_hashmap_size")
        self.base = config.pop("base_resolution")
        log2_growth = np.log2(np.float32(config.pop("per_level_scale")))
        assert not config
        exponents = np.arange(self.n_levels, dtype=np.float32) * log2_growth
        self.scales = np.exp2(exponents) * np.float32(self.base) - np.float32(1)
        assert self.scales.dtype == np.float32
        self.n_dims = n_input_dims
        self.sizes = [self.size(self.resolution(scale)) for scale in self.scales]
        self.n_output_dims = self.n_levels * self.n_features
        super().__init__(n_input_dims, sum(self.sizes) * self.n_features, dtype or torch.half)

    def resolution(self, scale):
        return int(np.ceil(scale)) + 1

    def size(self, resolution):
        dense = -(-min(resolution**self.n_dims, 2**31 - 1) // 8) * 8
        caps = {"Hash": self.cap, "Tiled": self.base**self.n_dims, "Dense": dense}
        return min(dense, caps[self.kind])

    def index(self, vertex, resolution, size):
        """Entries within a level of vertices, uint32 [n, n_dims]."""
        index, stride = np.zeros(len(vertex), np.uint32), 1
        if resolution <= MAX_BASES[self.n_dims]:
            for column in vertex.T:
                index = index + column * np.uint32(stride)
                stride *= resolution
        else:
            stride = 0xFFFFFFFF
        if self.kind == "Hash" and size < stride:
            index = np.zeros(len(vertex), np.uint32)
            for column, prime in zip(vertex.T, PRIMES, strict=False):
                index = index ^ (column * np.uint32(prime))
        return torch.from_numpy((index % np.uint32(size)).astype(np.int64))

    def compute(self, x, params):
        table, features, offset = params.view(-1, self.n_features), [], 0
        for scale, size in zip(self.scales, self.sizes, strict=True):
            place = x * float(scale) + 0.5
            cell = place.detach().floor()
            weight = place - cell
            if self.interpolation == "Smoothstep":
                weight = weight * weight * (3 - 2 * weight)
            lower = cell.numpy().astype(np.uint32)
            level = 0
            for corner in itertools.product((0, 1), repeat=self.n_dims):
                upper = torch.tensor(corner, dtype=torch.bool)
                share = torch.where(upper, weight, 1 - weight).prod(dim=1, keepdim=True)
                vertex = lower + np.array(corner, np.uint32)
                level = (
                    level + share * table[offset + self.index(vertex, self.resolution(scale), size)]
                )
            features.append(level)
            offset += size
        return torch.cat(features, dim=1)


class Network(Module):
    dtype_of_networks = torch.half  # as the package was built

    def __init__(self, n_input_dims, n_output_dims, network_config, seed=1337):
        config = dict(network_config)
        self.kind, width = config.pop("otype"), config.pop("n_neurons")
        self.hidden = ACTIVATIONS[config.pop("activation")]
        self.last = ACTIVATIONS[config.pop("output_activation")]
        n_hidden = config.pop("n_hidden_layers")
        assert not config
        if self.kind == "FullyFusedMLP":
            assert n_hidden > 0
            assert width in NEURONS_OF_FUSED
        else:
            assert self.kind == "CutlassMLP"
            assert width % 8 == 0  # of numbers that CUTLASS fetches at once
        aligned = [-(-n // 16) * 16 for n in (n_input_dims, n_output_dims)]
        self.widths = [aligned[0], *[width] * n_hidden, aligned[1]]
        self.n_output_dims = n_output_dims
        n_params = sum(a * b for a, b in itertools.pairwise(self.widths))
        super().__init__(n_input_dims, n_params, self.dtype_of_networks)

    def compute(self, x, params):
        values = pad(x, (0, self.widths[0] - x.shape[1]), value=1.0)  # ones, not zeros
        start = 0
        for layer, (n_in, n_out) in enumerate(itertools.pairwise(self.widths)):
            matrix = params[start : start + n_in * n_out].view(n_out, n_in)
            start += n_in * n_out
            is_last = layer == len(self.widths) - 2
            values = (self.last if is_last else self.hidden)(values @ matrix.T)
        return values


def made(dtype_of_networks=torch.half):
    """A module to put into sys.modules, and the list of what is created from it."""
    package, created = ModuleType("tinycudann"), []

    class OurEncoding(Encoding):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            created.append(self)

    class OurNetwork(Network):
        def __init__(self, *args, **kwargs):
            self.dtype_of_networks = dtype_of_networks
            super().__init__(*args, **kwargs)
            created.append(self)

    package.Encoding, package.Network = OurEncoding, OurNetwork
    return package, created
