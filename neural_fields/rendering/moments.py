"""What a camera sees of something that moves."""

from __future__ import annotations

from typing import TypeVar

from neural_fields.errors import InputError
from neural_fields.fields import DynamicField, RadianceField, SdfField
from neural_fields.rendering.cameras import Cameras

Still = TypeVar("Still", bound=RadianceField | SdfField)


def seen_from(field: Still, cameras: Cameras, index: int) -> Still:
    """A field as it is at a camera's time; one that rests, or is a moment already, as it is.

    Raises:
        InputError: the field moves and the cameras have no times.
    """
    if not isinstance(field, DynamicField) or field.is_moment:
        return field
    if cameras.times is None:
        raise InputError("this field moves: its cameras need times, or give one moment: at(0.5).")
    return field.at(float(cameras.times[index]))
