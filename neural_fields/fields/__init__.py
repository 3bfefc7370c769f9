"""Domain, encoding and decoder as one object: fields, and the file that holds them."""

from neural_fields.fields.dynamic import DynamicConfig, DynamicField
from neural_fields.fields.file import FieldFile, read_field_file, write_field_file
from neural_fields.fields.frames import AnyVideo, FramesConfig, FramesField
from neural_fields.fields.image import ImageConfig, ImageField
from neural_fields.fields.radiance import (
    Levels,
    RadianceConfig,
    RadianceField,
    Samples,
    Sampling,
)
from neural_fields.fields.sdf import SdfConfig, SdfField
from neural_fields.fields.surface import SurfaceConfig, SurfaceField
from neural_fields.fields.video import VideoConfig, VideoField

__all__ = [
    "AnyVideo",
    "DynamicConfig",
    "DynamicField",
    "FieldFile",
    "FramesConfig",
    "FramesField",
    "ImageConfig",
    "ImageField",
    "Levels",
    "RadianceConfig",
    "RadianceField",
    "Samples",
    "Sampling",
    "SdfConfig",
    "SdfField",
    "SurfaceConfig",
    "SurfaceField",
    "VideoConfig",
    "VideoField",
    "read_field_file",
    "write_field_file",
]
