import json
import math

import numpy as np
import pytest
import torch

from neural_fields.errors import InputError
from neural_fields.rendering.camera_json import read_json
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.lens import lens_inversion_error

LENSES = {
    "none": ("perspective", [0.0] * 6),
    "phone": ("perspective", [0.0578421, -0.0805099, 0, 0, -0.000980296, 0.00015575]),
    "action": ("perspective", [-0.25, 0.08, -0.01, 0.001, 0.002, -0.003]),
    "fisheye": ("fisheye", [-0.02, 0.004, -0.001, 0.0001, 0, 0]),
}


def make_cameras(lens="none", n=5, seed=0):
    model, coefficients = LENSES[lens]
    orbit = Cameras.orbit((0.3, -0.2, 0.1), 4, 25, n, up=(0.1, 0.2, 1), width=400, height=300)
    noise = torch.Generator().manual_seed(seed)
    return Cameras(
        camera_to_world=orbit.camera_to_world,
        focal=torch.tensor([380.0, 390.0]) + torch.rand(n, 2, generator=noise),
        principal=torch.tensor([203.0, 148.0]) + torch.rand(n, 2, generator=noise),
        width=400,
        height=300,
        distortion=torch.tensor(coefficients).repeat(n, 1),
        times=torch.linspace(0, 1, n),
        model=model,
    )


def random_pixels(cameras, m=2000, seed=1):
    noise = torch.Generator().manual_seed(seed)
    size = torch.tensor([cameras.width, cameras.height])
    ids = torch.randint(0, len(cameras), (m,), generator=noise)
    return ids, torch.rand(m, 2, generator=noise) * size


def project_scalar(cameras, i, point):
    """The documented lens, one point at a time in float64."""
    matrix = cameras.camera_to_world[i].double().numpy()
    camera = np.linalg.inv(matrix) @ np.append(point, 1.0)
    x, y, z = camera[0], -camera[1], -camera[2]
    k1, k2, k3, k4, p1, p2 = cameras.distortion[i].double().tolist()
    if cameras.model == "fisheye":
        r = math.hypot(x, y)
        t = math.atan2(r, z)
        d = t + k1 * t**3 + k2 * t**5 + k3 * t**7 + k4 * t**9
        u, v = x / r * d, y / r * d
    else:
        x, y = x / z, y / z
        r2 = x * x + y * y
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + k4 * r2**4
        u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        v = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    fx, fy = cameras.focal[i].tolist()
    cx, cy = cameras.principal[i].tolist()
    return fx * u + cx, fy * v + cy, z


@pytest.mark.parametrize("lens", LENSES)
def test_project_is_the_documented_model(lens):
    cameras = make_cameras(lens)
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(3)) * 0.6
    for i in range(len(cameras)):
        pixels, depth = cameras.project(i, points)
        for j, point in enumerate(points.double().numpy()):
            x, y, z = project_scalar(cameras, i, point)
            assert pixels[j].tolist() == pytest.approx([x, y], abs=1e-3)
            assert float(depth[j]) == pytest.approx(z, abs=1e-5)


@pytest.mark.parametrize("lens", LENSES)
def test_points_along_rays_project_back(lens):
    cameras = make_cameras(lens)
    ids, pixels = random_pixels(cameras)
    origins, directions = cameras.rays(ids, pixels)
    assert origins.dtype == directions.dtype == torch.float32
    assert torch.allclose(directions.norm(dim=1), torch.ones(len(ids)), atol=1e-6)
    for i in range(len(cameras)):
        mine = ids == i
        again, depth = cameras.project(i, origins[mine] + 3.7 * directions[mine])
        assert (depth > 0).all()
        assert (again - pixels[mine]).abs().max() < 1e-3


@pytest.mark.parametrize("lens", LENSES)
def test_rays_with_one_lens_per_camera_equal_rays_of_each_camera(lens):
    cameras = make_cameras(lens)
    cameras.distortion.mul_(torch.linspace(0.8, 1, len(cameras))[:, None])
    ids, pixels = random_pixels(cameras)
    _, directions = cameras.rays(ids, pixels)
    for i in range(len(cameras)):
        mine = ids == i
        _, alone = cameras[i].rays(torch.zeros_like(ids[mine]), pixels[mine])
        assert torch.allclose(directions[mine], alone, atol=1e-6)


def test_lens_inversion_error_sees_a_fold():
    u = torch.linspace(0, 1.2, 50)
    good = torch.tensor([-0.05, 0, 0, 0, 0, 0]).unbind(0)
    folded = torch.tensor([-0.5, 0, 0, 0, 0, 0]).unbind(0)  # largest image radius is 0.54
    assert lens_inversion_error(u, 0 * u, good, "perspective").max() < 1e-6
    assert lens_inversion_error(u, 0 * u, folded, "perspective")[-1] > 0.01
    bent = torch.tensor([-0.5, 0, 0, 0, 0, 0]).unbind(0)
    assert lens_inversion_error(u, 0 * u, bent, "fisheye")[-1] > 0.01


def test_axes_and_pixel_centres():
    """At the identity pose the camera looks along -z, right is +x, up is +y."""
    cameras = Cameras(
        torch.eye(4)[None],
        torch.tensor([[2.0, 2.0]]),
        torch.tensor([[2.0, 1.0]]),
        4,
        2,
        torch.zeros(1, 6),
    )
    origins, directions = cameras.image_rays(0)
    assert origins.abs().max() == 0
    plane = directions / -directions[:, 2:]
    assert plane[0].tolist() == pytest.approx([-0.75, 0.25, -1])  # top left, centre (0.5, 0.5)
    assert plane[-1].tolist() == pytest.approx([0.75, -0.25, -1])  # bottom right
    assert plane[1].tolist() == pytest.approx([-0.25, 0.25, -1])  # row by row


def test_fisheye_sees_beyond_a_right_angle():
    cameras = make_cameras("fisheye")[0]
    cameras.distortion.zero_()
    edge = cameras.principal + torch.tensor([[float(cameras.focal[0, 0]) * 1.7, 0]])
    _, directions = cameras.rays(torch.tensor([0]), edge)
    cosine = directions[0] @ -cameras.camera_to_world[0, :3, 2]
    assert math.acos(float(cosine)) == pytest.approx(1.7, abs=1e-5)
    again, _ = cameras.project(0, cameras.camera_to_world[0, :3, 3] + directions)
    assert torch.allclose(again, edge, atol=1e-3)


@pytest.mark.parametrize("lens", LENSES)
def test_optical_axis(lens):
    cameras = make_cameras(lens)[1]
    cameras.distortion[:, 4:] = 0
    _, directions = cameras.rays(torch.tensor([0]), cameras.principal)
    assert torch.allclose(directions[0], -cameras.camera_to_world[0, :3, 2], atol=1e-6)
    again, _ = cameras.project(0, cameras.camera_to_world[0, :3, 3] + directions)
    assert torch.allclose(again, cameras.principal, atol=1e-3)


def test_downscaled_pixels_look_between_theirs():
    cameras = make_cameras("phone")
    small = cameras.downscaled(3)
    assert (small.width, small.height) == (133, 100)
    _, coarse = small.rays(torch.tensor([2]), torch.tensor([[10.5, 20.5]]))
    _, fine = cameras.rays(torch.tensor([2]), torch.tensor([[31.5, 61.5]]))
    assert torch.allclose(coarse, fine, atol=1e-6)
    for factor in (0, -1, 301):
        with pytest.raises(InputError, match="downscale"):
            cameras.downscaled(factor)


def test_indexing():
    cameras = make_cameras()
    assert len(cameras[1]) == 1
    assert torch.equal(cameras[-1].camera_to_world[0], cameras.camera_to_world[4])
    assert torch.equal(cameras[1:3].times, cameras.times[1:3])
    picked = cameras[torch.tensor([3, 0])]
    assert torch.equal(picked.focal, cameras.focal[[3, 0]])
    assert len(cameras[torch.arange(5) > 2]) == 2
    with pytest.raises(IndexError):
        cameras[5]
    assert len(list(cameras)) == 5


def test_empty_batch_and_other_strides():
    cameras = make_cameras("phone")
    origins, directions = cameras.rays(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2))
    assert origins.shape == directions.shape == (0, 3)
    ids, pixels = random_pixels(cameras, 33)
    strided = pixels.repeat_interleave(2, 1)[:, ::2]
    assert not strided.is_contiguous()
    assert torch.equal(cameras.rays(ids, strided)[1], cameras.rays(ids, pixels)[1])


@pytest.mark.parametrize("lens", LENSES)
def test_json_round_trip_is_exact(lens):
    cameras = make_cameras(lens)
    text = json.dumps(cameras.to_json(fps=24, file_paths=[f"{i}.png" for i in range(5)]))
    data = json.loads(text)
    assert data["fps"] == 24
    assert data["frames"][3]["file_path"] == "3.png"
    again = Cameras.from_json(data)
    for name in ("camera_to_world", "focal", "principal", "distortion", "times"):
        assert torch.equal(getattr(again, name), getattr(cameras, name)), name
    assert (again.width, again.height, again.model) == (400, 300, cameras.model)


def test_json_writes_a_shared_lens_once():
    data = Cameras.orbit((0, 0, 0), 2, 10, 3).to_json()
    assert set(data["frames"][0]) == {"transform_matrix"}
    assert data["fl_x"] == 480
    assert "time" not in data["frames"][0]
    assert "fps" not in data


def test_orbit():
    center = torch.tensor([1.0, 2.0, 3.0])
    up = torch.tensor([0.0, -2.0, 0.0])
    cameras = Cameras.orbit(center.tolist(), 5, 30, 4, up=up.tolist(), focal=100)
    rotations = cameras.camera_to_world[:, :3, :3]
    assert torch.allclose(rotations.mT @ rotations, torch.eye(3).expand(4, 3, 3), atol=1e-6)
    assert torch.allclose(torch.linalg.det(rotations), torch.ones(4))
    offsets = cameras.camera_to_world[:, :3, 3] - center
    assert torch.allclose(offsets.norm(dim=1), torch.full((4,), 5.0))
    assert torch.allclose(offsets @ up / 2, torch.full((4,), 2.5), atol=1e-6)
    for i in range(4):
        pixels, depth = cameras.project(i, torch.stack((center, center + 0.1 * up)))
        assert pixels[0].tolist() == pytest.approx([200, 200], abs=1e-3)
        assert float(depth[0]) == pytest.approx(5)
        assert pixels[1, 1] < 199  # up is up
    turn = torch.linalg.cross(offsets[0], offsets[1]) @ up
    assert turn > 0  # anticlockwise seen from above
    for bad in (
        {"radius": 0},
        {"n": 0},
        {"elevation_deg": 90},
        {"up": (0, 0, 0)},
        {"center": (0, 0)},
        {"radius": math.nan},
    ):
        arguments = {"center": (0, 0, 0), "radius": 1, "elevation_deg": 0, "n": 1} | bad
        with pytest.raises(InputError, match="orbit"):
            Cameras.orbit(**arguments)


def test_shapes_are_checked():
    cameras = make_cameras()
    with pytest.raises(InputError, match="focal"):
        Cameras(
            cameras.camera_to_world,
            torch.ones(5, 1),
            cameras.principal,
            4,
            4,
            cameras.distortion,
        )


def frame(**keys):
    return {"transform_matrix": torch.eye(4).tolist()} | keys


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({}, "frames"),
        ({"frames": 3}, "frames"),
        ({"frames": []}, "empty"),
        ({"frames": [7]}, r"frames\[0\]"),
        ({"w": 4, "h": 4, "frames": [frame()]}, "fl_x"),
        ({"fl_x": 4, "frames": [frame()]}, "`w` and `h`"),
        ({"fl_x": 4, "w": 1e9, "h": 4, "frames": [frame()]}, "w: needs"),
        ({"fl_x": 0, "w": 4, "h": 4, "frames": [frame()]}, "fl_x"),
        ({"fl_x": True, "w": 4, "h": 4, "frames": [frame()]}, "fl_x"),
        ({"fl_x": 10**400, "w": 4, "h": 4, "frames": [frame()]}, "fl_x"),
        ({"fl_x": 4, "cx": math.nan, "w": 4, "h": 4, "frames": [frame()]}, "cx"),
        ({"camera_angle_x": 3.2, "w": 4, "h": 4, "frames": [frame()]}, "camera_angle_x"),
        ({"fl_x": 4, "w": 4, "h": 4, "camera_model": "FOV", "frames": [frame()]}, "FOV"),
        ({"fl_x": 4, "w": 4, "h": 4, "latlong": True, "frames": [frame()]}, "latlong"),
        ({"fl_x": 4, "w": 4, "h": 4, "frames": [frame(time=2)]}, "time"),
        ({"fl_x": 4, "w": 4, "h": 4, "frames": [frame(time=0), frame()]}, "time"),
        ({"fl_x": 4, "w": 4, "h": 4, "frames": [frame(), frame(w=5)]}, r"frames\[1\].*5x4"),
    ],
)
def test_from_json_names_what_is_wrong(data, names):
    with pytest.raises(InputError, match=names):
        Cameras.from_json(data)


def test_from_json_refuses_mixed_models():
    mixed = [frame(), frame(camera_model="OPENCV_FISHEYE")]
    with pytest.raises(InputError, match=r"frames\[1\].*camera model"):
        Cameras.from_json({"fl_x": 4, "w": 4, "h": 4, "frames": mixed})


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda m: None, "transform_matrix"),
        (lambda m: m[:2], "four rows"),
        (lambda m: [row[:3] for row in m], "four rows"),
        (lambda m: [["a", 0, 0, 0], *m[1:]], r"transform_matrix\[0\]\[0\]"),
        (lambda m: [[math.nan, 0, 0, 0], *m[1:]], "finite"),
        (lambda m: [[1e300, 0, 0, 0], *m[1:]], "rotation"),
        (lambda m: [[1.01, 0, 0, 0], *m[1:]], "orthonormal"),
        (lambda m: [[-1, 0, 0, 0], *m[1:]], "reflection"),
        (lambda m: [*m[:3], [0, 0, 1, 1]], "last row"),
    ],
)
def test_from_json_refuses_poses_that_are_not_rigid(change, names):
    matrix = change(torch.eye(4).tolist())
    data = {"fl_x": 4, "w": 4, "h": 4, "frames": [frame(), {"transform_matrix": matrix}]}
    with pytest.raises(InputError, match=names) as caught:
        Cameras.from_json(data, "paths.json")
    assert "paths.json: frames[1]" in str(caught.value)


def test_from_json_defaults():
    data = {"camera_angle_x": 0.5 * math.pi, "w": 8, "h": 6, "frames": [frame()]}
    cameras = Cameras.from_json(data)
    assert cameras.focal[0].tolist() == pytest.approx([4, 4])
    assert cameras.principal[0].tolist() == [4, 3]
    data |= {"fl_x": 9, "fl_y": 7, "is_fisheye": True, "cx": 0}
    data["frames"] = [frame(fl_x=11)]
    cameras = Cameras.from_json(data)
    assert cameras.focal[0].tolist() == [11, 7]
    assert cameras.principal[0].tolist() == [0, 3]
    assert cameras.model == "fisheye"
    three_rows = {"transform_matrix": torch.eye(4).tolist()[:3]}
    assert len(Cameras.from_json(data | {"frames": [three_rows]})) == 1


@pytest.mark.parametrize("content", [b'{"frames": [', b"[1]", b"\xff\xfe", b"", b"[" * 10**5])
def test_read_json_refuses_what_is_no_object(tmp_path, content):
    path = tmp_path / "cameras.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cameras\.json"):
        read_json(path)
    with pytest.raises(InputError, match="could not be read"):
        read_json(tmp_path)
