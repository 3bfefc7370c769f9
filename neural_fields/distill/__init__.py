"""Any field into any other: Progressive Volume Distillation (Fang et al. 2023) and PVD-AL."""

from neural_fields.distill.conversion import Conversion, convert
from neural_fields.distill.options import DistillOptions, Method
from neural_fields.distill.report import Comparison, compare

__all__ = ["Comparison", "Conversion", "DistillOptions", "Method", "compare", "convert"]
