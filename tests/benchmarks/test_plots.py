"""Plots of benchmark rows."""

from neural_fields.benchmarks.plots import quality_over_size


def test_every_point_is_drawn_with_its_name(tmp_path):
    panels = {
        "a picture": {"hash": (1e6, 30.0), "mlp": (1e5, 25.0)},
        "a scene": {"hash": (2e6, 28.0), "voxels": (1e7, 22.0)},
    }
    quality_over_size(panels, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    for word in ("a picture", "a scene", "mlp", "voxels", "PSNR, dB"):
        assert word in text
    assert text.count(">hash<") == 2
    quality_over_size(panels, tmp_path / "b.svg")
    assert (tmp_path / "b.svg").read_text() == text  # so that the documentation's does not churn
