"""Cameras: where the pixels of a set of images look, and where points land in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neural_fields.errors import InputError
from neural_fields.rendering.camera_json import (
    DISTORTION_KEYS,
    Intrinsics,
    frame_times,
    frames_of,
    intrinsics,
    pose,
)
from neural_fields.rendering.lens import LensModel, lens_project, lens_unproject
from neural_fields.rendering.poses import orbit_poses

_FRAME_KEYS = ("fl_x", "fl_y", "cx", "cy", *DISTORTION_KEYS)


@dataclass(frozen=True, eq=False)
class Cameras:
    """n cameras that share one image size.

    Attributes:
        camera_to_world: float32 [n, 4, 4], rigid; the camera's x is right, y is up, and it looks
            along -z (OpenGL axes). The world is the input's own frame and units.
        focal: float32 [n, 2], fx and fy in pixels.
        principal: float32 [n, 2], cx and cy in pixels; the centre of the first pixel is 0.5, 0.5.
        width: image width in pixels.
        height: image height in pixels.
        distortion: float32 [n, 6], k1 k2 k3 k4 p1 p2 (see `neural_fields.rendering.lens`).
        times: float32 [n] in [0, 1], or None.
        model: `"perspective"` or `"fisheye"`.

    Raises:
        InputError: a shape or type does not fit.

    Example:
        >>> cameras = Cameras.orbit((0, 0, 0), radius=4, elevation_deg=30, n=8)
        >>> origins, directions = cameras.image_rays(0)
        >>> directions.shape
        torch.Size([160000, 3])
    """

    camera_to_world: Tensor
    focal: Tensor
    principal: Tensor
    width: int
    height: int
    distortion: Tensor
    times: Tensor | None = None
    model: LensModel = "perspective"

    def __post_init__(self) -> None:
        n = self.camera_to_world.shape[0] if self.camera_to_world.ndim else 0
        shapes: dict[str, tuple[int, ...]] = {
            "camera_to_world": (n, 4, 4),
            "focal": (n, 2),
            "principal": (n, 2),
            "distortion": (n, 6),
        }
        if self.times is not None:
            shapes["times"] = (n,)
        for name, shape in shapes.items():
            value: Tensor = getattr(self, name)
            if tuple(value.shape) != shape or value.dtype != torch.float32:
                raise InputError(
                    f"Cameras: {name} needs to be float32 {list(shape)}, got {value.dtype} "
                    f"{list(value.shape)}."
                )
        if self.width < 1 or self.height < 1:
            raise InputError(
                f"Cameras: needs a size of at least 1x1 pixels, got {self.width}x{self.height}."
            )

    def __len__(self) -> int:
        return self.camera_to_world.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> Cameras:
        """Some of the cameras, always as `Cameras`: one for an int."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"camera {index} of {len(self)}")
            index = slice(index, index + 1 or None)
        return replace(
            self,
            camera_to_world=self.camera_to_world[index],
            focal=self.focal[index],
            principal=self.principal[index],
            distortion=self.distortion[index],
            times=None if self.times is None else self.times[index],
        )

    @classmethod
    def joined(cls, parts: Sequence[Cameras]) -> Cameras:
        """The cameras of several, one or more, which have one size and one model.

        Times are kept where all have them.

        Raises:
            InputError: sizes or models differ.

        Example:
            >>> two = Cameras.orbit((0, 0, 0), 4, elevation_deg=0, n=2)
            >>> len(Cameras.joined([two, two[0]]))
            3
        """
        kinds = {(part.width, part.height, part.model) for part in parts}
        if len(kinds) != 1:
            raise InputError(f"Cameras: needs one size and one model, got {sorted(kinds)}.")
        times = [part.times for part in parts if part.times is not None]
        return replace(
            parts[0],
            camera_to_world=torch.cat([part.camera_to_world for part in parts]),
            focal=torch.cat([part.focal for part in parts]),
            principal=torch.cat([part.principal for part in parts]),
            distortion=torch.cat([part.distortion for part in parts]),
            times=torch.cat(times) if len(times) == len(parts) else None,
        )

    def to(self, device: torch.device | str) -> Cameras:
        """The same cameras on another device."""
        return replace(
            self,
            camera_to_world=self.camera_to_world.to(device),
            focal=self.focal.to(device),
            principal=self.principal.to(device),
            distortion=self.distortion.to(device),
            times=None if self.times is None else self.times.to(device),
        )

    def pixel_widths(self, camera_ids: Tensor) -> Tensor:
        """Width of a pixel at unit distance, [m], of cameras int64 [m]; lenses count as none."""
        return 2 / self.focal.sum(1)[camera_ids]

    def rays(self, camera_ids: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The rays through given points of the images.

        Args:
            camera_ids: int64 [m] in [0, n).
            pixels: float32 [m, 2], x to the right and y down; the centre of the pixel in row i,
                column j is (j + 0.5, i + 0.5).

        Returns:
            origins and directions, float32 [m, 3], in world space; the directions are unit
            vectors.

        Example:
            >>> cameras = Cameras.orbit((0, 0, 0), radius=4, elevation_deg=0, n=4)
            >>> cameras.rays(torch.tensor([0]), torch.tensor([[200.0, 200.0]]))[1].norm()
            tensor(1.)
        """
        row = self._ray_table.index_select(0, camera_ids)
        plane = torch.addcmul(row[:, 12:14], pixels, row[:, 14:16])
        if self._is_pinhole:
            u, v = plane.unbind(1)
            directions = row[:, 9:12] + u[:, None] * row[:, 3:6] + v[:, None] * row[:, 6:9]
        else:
            u, v = plane.t().contiguous()
            x, y, z = lens_unproject(u, v, self._coefficients(camera_ids), self.model)
            directions = (
                z[:, None] * row[:, 9:12] + x[:, None] * row[:, 3:6] + y[:, None] * row[:, 6:9]
            )
        length = (directions * directions).sum(1, keepdim=True).sqrt_()
        return row[:, 0:3].contiguous(), directions.div_(length)

    def image_rays(self, camera_id: int) -> tuple[Tensor, Tensor]:
        """The rays through all pixel centres of one image, row by row.

        Args:
            camera_id: which camera, in [0, n).

        Returns:
            origins and directions, float32 [height * width, 3].

        Example:
            >>> camera = Cameras.orbit((0, 0, 0), 4, elevation_deg=0, n=1, width=3, height=2)
            >>> camera.image_rays(0)[0].shape
            torch.Size([6, 3])
        """
        device = self.focal.device
        y, x = torch.meshgrid(
            torch.arange(self.height, device=device, dtype=torch.float32) + 0.5,
            torch.arange(self.width, device=device, dtype=torch.float32) + 0.5,
            indexing="ij",
        )
        pixels = torch.stack((x.flatten(), y.flatten()), 1)
        ids = torch.full((pixels.shape[0],), camera_id, dtype=torch.int64, device=device)
        return self.rays(ids, pixels)

    def project(self, camera_id: int, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where world points land in one image.

        Args:
            camera_id: which camera, in [0, n).
            points: float32 [m, 3], world space.

        Returns:
            pixels float32 [m, 2] (x right, y down, may lie outside the image), and depth float32
            [m] along the optical axis. With a perspective lens, pixels mean nothing where the
            depth is not positive.

        Example:
            >>> camera = Cameras.orbit((0, 0, 0), 4, elevation_deg=0, n=1, width=30, height=20)
            >>> camera.project(0, torch.zeros(1, 3))
            (tensor([[15., 10.]]), tensor([4.]))
        """
        matrix = self.camera_to_world[camera_id]
        x, y, z = ((points - matrix[:3, 3]) @ matrix[:3, :3]).unbind(1)
        coefficients = self.distortion[camera_id].unbind(0)
        u, v = lens_project(x, -y, -z, coefficients, self.model)
        plane = torch.stack((u, v), 1)
        return plane * self.focal[camera_id] + self.principal[camera_id], -z

    def downscaled(self, factor: int) -> Cameras:
        """The cameras of images whose factor x factor blocks of pixels became one pixel.

        A remainder at the right and bottom that fills no block is cropped, which leaves the
        principal point where it is.

        Args:
            factor: at least 1, at most the shorter side.

        Returns:
            The cameras, with intrinsics divided by the factor exactly.

        Raises:
            InputError: the factor is out of range.

        Example:
            >>> Cameras.orbit((0, 0, 0), 4, elevation_deg=0, n=1, width=9, height=6).downscaled(
            ...     2
            ... ).width
            4
        """
        if not 1 <= factor <= min(self.width, self.height):
            raise InputError(
                f"downscale: needs a whole number from 1 to the shorter side of the "
                f"{self.width}x{self.height} images, got {factor}."
            )
        return replace(
            self,
            focal=self.focal / factor,
            principal=self.principal / factor,
            width=self.width // factor,
            height=self.height // factor,
        )

    def to_json(
        self, fps: float | None = None, file_paths: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """The cameras in the form of nerfstudio's transforms.json.

        Args:
            fps: frames per second of a video along these cameras, kept under the key `fps`.
            file_paths: one per camera, kept under `frames[].file_path`.

        Returns:
            Plain data for `json.dump`; `from_json` of it gives equal cameras. A lens that all
            cameras share is written once; times are under `frames[].time`.

        Example:
            >>> sorted(Cameras.orbit((0, 0, 0), 4, elevation_deg=0, n=1).to_json(fps=24))[:3]
            ['camera_model', 'cx', 'cy']
        """
        numbers = torch.cat((self.focal, self.principal, self.distortion), 1).tolist()
        lenses = [dict(zip(_FRAME_KEYS, row, strict=True)) for row in numbers]
        shared = all(lens == lenses[0] for lens in lenses)
        fisheye = self.model == "fisheye"
        data: dict[str, Any] = {"camera_model": "OPENCV_FISHEYE" if fisheye else "OPENCV"}
        data |= {"w": self.width, "h": self.height}
        data |= {} if fps is None else {"fps": fps}
        data |= lenses[0] if shared and lenses else {}
        times = None if self.times is None else self.times.tolist()
        data["frames"] = [
            ({} if file_paths is None else {"file_path": file_paths[i]})
            | ({} if shared else lenses[i])
            | ({} if times is None else {"time": times[i]})
            | {"transform_matrix": matrix}
            for i, matrix in enumerate(self.camera_to_world.tolist())
        ]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any], source: str = "cameras") -> Cameras:
        """Cameras of a transforms.json that gives the image size `w` and `h`.

        Args:
            data: the JSON object; of each frame the pose, the lens and the time are read, no
                image is. `fps` is left to the caller.
            source: what an error calls it, such as the file's path.

        Returns:
            The cameras, in the order of `frames`.

        Raises:
            InputError: something is missing or wrong; the sentence names it.

        Example:
            >>> cameras = Cameras.orbit((0, 0, 0), 4, elevation_deg=0, n=3)
            >>> len(Cameras.from_json(cameras.to_json()))
            3
        """
        frames = frames_of(data, source)
        wheres = [f"{source}: frames[{index}]" for index in range(len(frames))]
        poses = [pose(frame, where) for frame, where in zip(frames, wheres, strict=True)]
        lenses = [
            intrinsics(frame, data, source, where)
            for frame, where in zip(frames, wheres, strict=True)
        ]
        return cls.from_frames(poses, lenses, frame_times(frames, source), wheres)

    @classmethod
    def from_frames(
        cls,
        poses: Sequence[np.ndarray[Any, np.dtype[np.float64]]],
        lenses: Sequence[Intrinsics],
        times: Sequence[float] | None,
        wheres: Sequence[str],
    ) -> Cameras:
        """Cameras from one pose and one lens per frame.

        Args:
            poses: camera-to-world, float64 [4, 4] each; at least one.
            lenses: of one image size and one model.
            times: in [0, 1], or None.
            wheres: what an error calls each frame.

        Returns:
            The cameras.

        Raises:
            InputError: image sizes or lens models differ.
        """
        first = lenses[0]
        for lens, where in zip(lenses, wheres, strict=True):
            if (lens.width, lens.height) != (first.width, first.height):
                raise InputError(
                    f"{where}: needs the same image size as the other frames, "
                    f"{first.width}x{first.height}, got {lens.width}x{lens.height}; bring the "
                    "images to one size, or keep only those of one size."
                )
            if lens.model != first.model:
                raise InputError(
                    f"{where}: needs the same camera model as the other frames, {first.model}, "
                    f"got {lens.model}; keep only the frames of one model."
                )
        return cls(
            camera_to_world=torch.from_numpy(np.stack(poses).astype(np.float32)),
            focal=torch.tensor([lens.focal for lens in lenses], dtype=torch.float32),
            principal=torch.tensor([lens.principal for lens in lenses], dtype=torch.float32),
            width=first.width,
            height=first.height,
            distortion=torch.tensor([lens.distortion for lens in lenses], dtype=torch.float32),
            times=None if times is None else torch.tensor(times, dtype=torch.float32),
            model=first.model,
        )

    @classmethod
    def orbit(
        cls,
        center: Sequence[float],
        radius: float,
        elevation_deg: float,
        n: int,
        up: Sequence[float] = (0.0, 0.0, 1.0),
        focal: float | None = None,
        width: int = 400,
        height: int = 400,
    ) -> Cameras:
        """A turntable: cameras on a circle around the up axis that look at the centre.

        Args:
            center: 3 numbers, world space; it lands in the middle of every image.
            radius: distance from the centre, positive.
            elevation_deg: angle above the plane through the centre, in (-90, 90).
            n: number of cameras, at least 1, evenly spaced over the full turn, anticlockwise
                seen from above.
            up: 3 numbers, not all zero; any length.
            focal: in pixels; by default 1.2 times the longer side.
            width: in pixels.
            height: in pixels.

        Returns:
            n perspective cameras.

        Raises:
            InputError: a number is out of range.

        Example:
            >>> cameras = Cameras.orbit((0, 0, 0), radius=4, elevation_deg=0, n=120)
            >>> len(cameras)
            120
        """
        poses = orbit_poses(center, radius, elevation_deg, n, up)
        length_px = 1.2 * max(width, height) if focal is None else focal
        return cls(
            camera_to_world=poses.float(),
            focal=torch.full((n, 2), float(length_px)),
            principal=torch.tensor([0.5 * width, 0.5 * height]).repeat(n, 1),
            width=width,
            height=height,
            distortion=torch.zeros(n, 6),
        )

    @cached_property
    def _ray_table(self) -> Tensor:
        """[n, 16]: origin, right, down, forward, and offset and scale from pixels to the plane.

        One row holds all that a ray needs of its camera, so that a batch gathers once.
        """
        matrix = self.camera_to_world
        scale = 1 / self.focal
        return torch.cat(
            (
                matrix[:, :3, 3],
                matrix[:, :3, 0],
                -matrix[:, :3, 1],
                -matrix[:, :3, 2],
                -self.principal * scale,
                scale,
            ),
            1,
        )

    @cached_property
    def _is_pinhole(self) -> bool:
        return self.model == "perspective" and not bool(self.distortion.any())

    @cached_property
    def _has_one_lens(self) -> bool:
        return bool((self.distortion == self.distortion[:1]).all())

    def _coefficients(self, camera_ids: Tensor) -> tuple[Tensor, ...]:
        """The lens coefficients of each ray; scalars where all cameras share them."""
        if self._has_one_lens and len(self):
            return self.distortion[0].unbind(0)
        return self.distortion.t().index_select(1, camera_ids).unbind(0)
