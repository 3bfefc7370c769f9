"""Posed photographs as one object: cameras, images, masks, box and protocol."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neural_fields.data.box import SceneBox, check_aabb, scene_box
from neural_fields.data.images import (
    ImageHeader,
    downscale_image,
    downscale_mask,
    read_image,
    read_mask,
)
from neural_fields.data.transforms import SPLITS, Frame, Listing, Split, read_listing
from neural_fields.errors import InputError, unknown_value
from neural_fields.rendering.camera_json import Intrinsics, intrinsics
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.lens import lens_inversion_error

_NAMED_BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "random": None}
MASKS = ("use", "object")
_MAX_LENS_ERROR_PX = 0.05
_N_DECODERS = 4


@dataclass(frozen=True, eq=False)
class Dataset:
    """The images of one split and where they were taken from.

    Attributes:
        cameras: n cameras, one per image.
        images: uint8 [n, height, width, 3 or 4], sRGB; the fourth channel is straight alpha.
        masks: bool [n, height, width], True = use the pixel; None = use all.
        names: n distinct file stems (with folders, joined by `_`, where stems repeat).
        split: `"train"`, `"val"` or `"test"`.
        aabb: float32 [2, 3], the scene box's lowest and highest corner in world units.
        aabb_scale: the JSON's `aabb_scale`, a power of two; 1 where it has none.
        box_rule: where the box is from: `"argument"`, `"aabb_scale"`, `"silhouettes"`,
            `"focus"` or `"positions"`.
        protocol: plain JSON data: `background` (`"white"`, `"black"`, `"random"` or three
            numbers), `alpha` (`"straight"` or `"none"`), `color_space`, `downscale`, `split`
            (`"files"`, `"filenames"` or `"every 8th"`); `backdrop` where images without alpha
            show that background behind all things.
        fingerprint: sha256 of the split's file paths, sizes and full-size cameras.
        skipped: file paths that the JSON lists but that do not exist.

    Example:
        >>> data = load_dataset("lego")  # doctest: +SKIP
        >>> len(data), data.images.shape[1:3]  # doctest: +SKIP
        (100, torch.Size([400, 400]))
    """

    cameras: Cameras
    images: Tensor
    masks: Tensor | None
    names: list[str]
    split: str
    aabb: Tensor
    aabb_scale: int
    box_rule: str
    protocol: dict[str, Any]
    fingerprint: str
    skipped: list[str]

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def background(self) -> Tensor | None:
        """The protocol's background, float32 [3] in [0, 1]; None = random."""
        value = self.protocol["background"]
        color = _NAMED_BACKGROUNDS[value] if isinstance(value, str) else value
        return None if color is None else torch.tensor(color, dtype=torch.float32)

    def to(self, device: torch.device | str) -> Dataset:
        """The same images and cameras on another device."""
        return replace(
            self,
            cameras=self.cameras.to(device),
            images=self.images.to(device),
            masks=None if self.masks is None else self.masks.to(device),
        )

    def pixels(self, camera_ids: Tensor, ij: Tensor) -> tuple[Tensor, Tensor]:
        """The values of some pixels.

        Args:
            camera_ids: int64 [m] in [0, n).
            ij: int64 [m, 2], row in [0, height) and column in [0, width). The ray of a pixel goes
                through x = column + 0.5, y = row + 0.5.

        Returns:
            premultiplied colour float32 [m, 3] and alpha float32 [m], in [0, 1]; over a
            background they are `color + (1 - alpha) * background`.

        Example:
            >>> data.pixels(torch.tensor([0]), torch.tensor([[9, 5]]))  # doctest: +SKIP
            (tensor([[0., 0., 0.]]), tensor([0.]))
        """
        n_channels = self.images.shape[3]
        height, width = self.cameras.height, self.cameras.width
        index = (camera_ids * height + ij[:, 0]) * width + ij[:, 1]
        return _premultiplied(self.images.view(-1, n_channels).index_select(0, index))

    def image(self, index: int) -> tuple[Tensor, Tensor]:
        """One whole image.

        Args:
            index: in [0, n).

        Returns:
            premultiplied colour float32 [height, width, 3] and alpha float32 [height, width].

        Example:
            >>> data.image(0)[0].shape  # doctest: +SKIP
            torch.Size([400, 400, 3])
        """
        return _premultiplied(self.images[index])


def load_dataset(
    path: str | os.PathLike[str],
    split: str = "train",
    downscale: int = 1,
    background: str | Sequence[float] = "auto",
    aabb: object = None,
    masks: str = "use",
) -> Dataset:
    """Read posed photographs: a Blender NeRF set, or a nerfstudio / instant-ngp capture.

    Args:
        path: the folder, or a capture's JSON file.
        split: `"train"`, `"val"` or `"test"`.
        downscale: box-average the images by this factor, at least 1.
        background: `"white"`, `"black"`, `"random"`, `"R,G,B"` or three numbers in [0, 1];
            `"auto"` is white for images with alpha and black for others, which show none of it. A
            colour given for images without alpha is what lies behind all that they show.
        aabb: two corners that replace the automatic scene box, or None.
        masks: what mask files say: which pixels to `use`, or where the `object` is; then images
            have that as their alpha.

    Returns:
        The split. The automatic box is computed from the images and cameras of this split.

    Raises:
        InputError: anything is wrong with the data or an argument; the sentence names it.

    Example:
        >>> load_dataset("fox", split="test", downscale=2).protocol["split"]  # doctest: +SKIP
        'every 8th'
    """
    chosen = _check_split(split)
    if not isinstance(downscale, int) or isinstance(downscale, bool) or downscale < 1:
        raise InputError(f"downscale: needs a whole number of at least 1, got {downscale!r:.40}.")
    if masks not in MASKS:
        raise InputError(unknown_value("--masks", masks, MASKS))
    box = None if aabb is None else SceneBox(check_aabb(aabb), "argument")
    color = _check_background(background)
    listing = read_listing(Path(path), chosen)
    frames = listing.frames
    headers = [ImageHeader(frame.image) for frame in frames]
    full_size, turned = _cameras(listing, headers)
    cameras = full_size.downscaled(downscale)
    has_alpha = any(header.has_alpha for header in headers)
    images = _read_images(frames, turned, cameras, 4 if has_alpha else 3, downscale)
    if masks == "object":
        images, has_alpha = _cut_out(images, frames, full_size, downscale, listing.source), True
    used = _read_masks(frames, full_size, downscale) if masks == "use" else None
    if used is not None and not bool(used.any()):
        raise InputError(
            f"{listing.source}: its masks leave no pixel to use; mask_path needs nonzero where a "
            "pixel is used, dynamic_mask_*.png nonzero where it is ignored."
        )
    if box is None:
        alpha = images[..., 3] if has_alpha else None
        box = scene_box(cameras, alpha, listing.shared, str(listing.source))
    backdrop = not has_alpha and color not in ("auto", "random")
    if color == "auto":
        color = "white" if has_alpha else "black"
    return Dataset(
        cameras=cameras,
        images=images,
        masks=used,
        names=_names(frames),
        split=split,
        aabb=box.aabb,
        aabb_scale=box.aabb_scale,
        box_rule=box.rule,
        protocol={
            "background": color,
            "alpha": "straight" if has_alpha else "none",
            "color_space": "srgb",
            "downscale": downscale,
            "split": listing.split_rule,
            **({"masks": masks} if masks != "use" else {}),
            **({"backdrop": True} if backdrop else {}),
        },
        fingerprint=_fingerprint(frames, full_size),
        skipped=listing.skipped,
    )


def _premultiplied(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Colour [..., 3] times alpha, and alpha [...], from uint8 [..., 3 or 4]."""
    values = pixels.float().div_(255)
    if pixels.shape[-1] == 3:
        return values, values.new_ones(values.shape[:-1])
    alpha = values[..., 3]
    return values[..., :3] * alpha[..., None], alpha.contiguous()


def _check_split(split: str) -> Split:
    for known in SPLITS:
        if split == known:
            return known
    raise InputError(f"split: needs train, val or test, got {split!r:.40}.")


def _check_background(background: str | Sequence[float]) -> str | list[float]:
    if isinstance(background, str):
        if background == "auto" or background in _NAMED_BACKGROUNDS:
            return background
        parts: Sequence[object] = background.split(",")
    else:
        parts = list(background) if isinstance(background, Sequence) else []
    try:
        color = [float(part) for part in parts]  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        color = []
    if len(color) != 3 or not all(0 <= value <= 1 for value in color):
        raise InputError(
            "background: needs white, black, random, auto or three numbers in [0, 1] such as "
            f"0.5,0.5,0.5; got {background!r:.60}."
        )
    return color


def _cameras(listing: Listing, headers: Sequence[ImageHeader]) -> tuple[Cameras, list[bool]]:
    """Full-size cameras, and per image whether its EXIF orientation is to be applied."""
    lenses: list[Intrinsics] = []
    turned: list[bool] = []
    source = str(listing.source)
    for frame, header in zip(listing.frames, headers, strict=True):
        declared = intrinsics(frame.keys, listing.shared, source, frame.where, header.size)
        lens, turn = _fit_to_image(declared, header, frame)
        lenses.append(lens)
        turned.append(turn)
    times = [frame.time for frame in listing.frames if frame.time is not None]
    wheres = [frame.where for frame in listing.frames]
    poses = [frame.pose for frame in listing.frames]
    cameras = Cameras.from_frames(poses, lenses, times or None, wheres)
    _check_lens(cameras, wheres)
    return cameras, turned


def _fit_to_image(lens: Intrinsics, header: ImageHeader, frame: Frame) -> tuple[Intrinsics, bool]:
    """The lens in pixels of the image, and whether the image has to be turned for it."""
    for turn in (False, True) if header.swaps else (False,):
        width, height = header.size[::-1] if turn else header.size
        if _is_scaled((width, height), (lens.width, lens.height)):
            x, y = width / lens.width, height / lens.height
            fitted = replace(
                lens,
                width=width,
                height=height,
                focal=(lens.focal[0] * x, lens.focal[1] * y),
                principal=(lens.principal[0] * x, lens.principal[1] * y),
            )
            return fitted, turn
    raise InputError(
        f"{frame.where}: needs an image of {lens.width}x{lens.height} pixels (`w`, `h`), or that "
        f"size scaled evenly, got {header.size[0]}x{header.size[1]} in {frame.image}; use the "
        "images that the poses were made from, uncropped."
    )


def _is_scaled(size: tuple[int, int], declared: tuple[int, int]) -> bool:
    """Whether one factor on both axes, up to rounding to whole pixels, gives the size."""
    same = [a == b for a, b in zip(size, declared, strict=True)]
    if any(same):
        return all(same)
    low = max((a - 1) / b for a, b in zip(size, declared, strict=True))
    high = min((a + 1) / b for a, b in zip(size, declared, strict=True))
    return low < high


def _check_lens(cameras: Cameras, wheres: Sequence[str]) -> None:
    """Refuse distortion that cannot be inverted somewhere in the image."""
    side = torch.linspace(0, 1, 17)
    x, y = torch.meshgrid(side * cameras.width, side * cameras.height, indexing="ij")
    pixels = torch.stack((x.flatten(), y.flatten()), 1)
    plane = (pixels - cameras.principal[:, None]) / cameras.focal[:, None]
    coefficients = cameras.distortion.t()[:, :, None].unbind(0)
    error = lens_inversion_error(plane[..., 0], plane[..., 1], coefficients, cameras.model)
    error_px = (error * cameras.focal.max(1).values[:, None]).max(1).values
    worst = int(error_px.argmax())
    if error_px[worst] > _MAX_LENS_ERROR_PX:
        raise InputError(
            f"{wheres[worst]}: its distortion (k1 k2 k3 k4 p1 p2 = "
            f"{[round(value, 6) for value in cameras.distortion[worst].tolist()]}) needs to be "
            "invertible all over the image, but is not; undistort the images first, or "
            "recalibrate with fewer coefficients."
        )


def _read_images(
    frames: Sequence[Frame],
    turned: Sequence[bool],
    cameras: Cameras,
    channels: int,
    downscale: int,
) -> Tensor:
    images = torch.empty(len(frames), cameras.height, cameras.width, channels, dtype=torch.uint8)
    target = images.numpy()

    def read(index: int) -> None:
        image = read_image(frames[index].image, channels, turned[index])
        target[index] = downscale_image(image, downscale)

    with ThreadPoolExecutor(min(_N_DECODERS, os.cpu_count() or 1)) as pool:
        list(pool.map(read, range(len(frames))))
    return images


def _read_masks(frames: Sequence[Frame], full_size: Cameras, downscale: int) -> Tensor | None:
    """Where pixels are used; an image without a mask is used whole."""
    if all(frame.keep_mask is None and frame.ignore_mask is None for frame in frames):
        return None
    size = (full_size.width, full_size.height)
    masks = []
    for frame in frames:
        use = np.ones(size[::-1], dtype=np.bool_)
        if frame.keep_mask is not None:
            use &= read_mask(frame.keep_mask, size)
        if frame.ignore_mask is not None:
            use &= ~read_mask(frame.ignore_mask, size)
        masks.append(downscale_mask(use, downscale))
    return torch.from_numpy(np.stack(masks))


def _cut_out(
    images: Tensor, frames: Sequence[Frame], full_size: Cameras, downscale: int, source: Path
) -> Tensor:
    """Images [n, h, w, 3 or 4] whose alpha is their masks."""
    bare = [frame.image.name for frame in frames if frame.keep_mask is None]
    if bare:
        raise InputError(
            f"--masks object: needs a mask_path for every image of {source}, but {len(bare)} of "
            f"{len(frames)} have none, {bare[0]} among them; add them, or leave the option out."
        )
    size = (full_size.width, full_size.height)
    alpha = torch.empty(images.shape[:3], dtype=torch.uint8)
    for index, frame in enumerate(frames):
        assert frame.keep_mask is not None
        mask = read_mask(frame.keep_mask, size).astype(np.uint8)[:, :, None].repeat(3, 2) * 255
        alpha[index] = torch.from_numpy(downscale_image(mask, downscale))[:, :, 0]
    return torch.cat([images[..., :3], alpha[..., None]], dim=3)


def _names(frames: Sequence[Frame]) -> list[str]:
    stems = [frame.image.stem for frame in frames]
    if len(set(stems)) == len(stems):
        return stems
    # Two folders may hold the same stem, and a.png and a.jpg may stand side by side.
    paths = [PurePosixPath(frame.file_path).with_suffix("") for frame in frames]
    names = ["_".join(part for part in path.parts if part not in ("/", "..")) for path in paths]
    if len(set(names)) == len(names):
        return names
    return [f"{index:05d}_{name}" for index, name in enumerate(names)]


def _fingerprint(frames: Sequence[Frame], cameras: Cameras) -> str:
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(f"{frame.file_path}\0{frame.image.stat().st_size}\0".encode())
    digest.update(f"{cameras.width}x{cameras.height} {cameras.model}".encode())
    tensors = [cameras.camera_to_world, cameras.focal, cameras.principal, cameras.distortion]
    for tensor in tensors if cameras.times is None else [*tensors, cameras.times]:
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
