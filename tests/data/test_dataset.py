import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scene_files import (
    HEIGHT,
    WIDTH,
    make_cameras,
    picture,
    write_blender,
    write_capture,
    write_image,
)

from neural_fields.data.dataset import load_dataset
from neural_fields.errors import InputError


def edit(folder, change, name="transforms.json"):
    data = json.loads((folder / name).read_text())
    data = change(data) or data
    (folder / name).write_text(json.dumps(data))
    return folder


def assert_reprojects(data, cameras):
    """World points land where the cameras that wrote the files say."""
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)) * 0.3
    for i in range(len(data)):
        pixels, depth = data.cameras.project(i, points)
        expected, expected_depth = cameras.project(i, points)
        assert torch.allclose(pixels, expected, atol=1e-3)
        assert torch.allclose(depth, expected_depth, atol=1e-5)


def test_blender(tmp_path):
    data = load_dataset(write_blender(tmp_path / "set"))
    assert data.names == ["r_0", "r_1", "r_2"]
    assert data.images.shape == (3, HEIGHT, WIDTH, 4)
    assert data.images.dtype == torch.uint8
    for i in range(3):
        assert (data.images[i].numpy() == picture(i, 4)).all()
    assert data.masks is None
    assert data.protocol == {
        "background": "white",
        "alpha": "straight",
        "color_space": "srgb",
        "downscale": 1,
        "split": "files",
    }
    assert data.background.tolist() == [1, 1, 1]
    assert data.box_rule in ("silhouettes", "focus")
    assert_reprojects(data, make_cameras(3))


def test_blender_extensions_and_times(tmp_path):
    folder = write_blender(tmp_path / "set", splits=("train",))
    (folder / "train/r_1.png").unlink()
    write_image(folder / "train/r_1.jpg", picture(1))

    def add_times(data):
        for index, frame in enumerate(data["frames"]):
            frame["time"] = index / 2

    edit(folder, add_times, "transforms_train.json")
    data = load_dataset(folder)
    assert data.names == ["r_1", "r_2"]  # r_0 is held out: there is no test split
    assert data.cameras.times.tolist() == [0.5, 1]
    assert (data.images[0, ..., 3] == 255).all()


def test_blender_without_test_or_val(tmp_path):
    folder = write_blender(tmp_path / "a", splits=("train",), n=10)
    assert load_dataset(folder, "test").names == ["r_0", "r_8"]
    assert load_dataset(folder, "val").names == ["r_0", "r_8"]
    train = load_dataset(folder, "train")
    assert train.names == [f"r_{i}" for i in (1, 2, 3, 4, 5, 6, 7, 9)]
    assert train.protocol["split"] == "every 8th"
    both = write_blender(tmp_path / "b", splits=("train", "test"))
    assert len(load_dataset(both, "val")) == 3
    assert load_dataset(both, "val").protocol["split"] == "files"


def test_capture(tmp_path):
    folder = write_capture(tmp_path / "set", n=18)
    test = load_dataset(folder, "test")
    assert test.names == ["000", "008", "016"]
    assert load_dataset(folder, "val").names == test.names
    train = load_dataset(folder)
    assert set(train.names) | set(test.names) == {f"{i:03d}" for i in range(18)}
    assert not set(train.names) & set(test.names)
    assert train.protocol["background"] == "black"
    assert train.protocol["alpha"] == "none"
    assert_reprojects(test, make_cameras(18)[torch.tensor([0, 8, 16])])
    by_file = load_dataset(folder / "transforms.json", "test")
    assert by_file.fingerprint == test.fingerprint != train.fingerprint


def test_split_is_by_name_whatever_the_order_of_the_file(tmp_path):
    folder = write_capture(tmp_path / "set", n=10)
    expected = load_dataset(folder, "test")

    def shuffle(data):
        data["frames"] = data["frames"][::-1]
        for frame in data["frames"][::2]:
            frame["file_path"] = "./" + frame["file_path"].removesuffix(".png")

    shuffled = load_dataset(edit(folder, shuffle), "test")
    assert shuffled.names == expected.names
    assert torch.equal(shuffled.cameras.camera_to_world, expected.cameras.camera_to_world)


def paths(*indices):
    return [f"./images/{i:03d}.png" for i in indices]


def test_filename_lists(tmp_path):
    def names(split, **lists):
        folder = write_capture(tmp_path / str(len(list(tmp_path.iterdir()))), n=4, **lists)
        data = load_dataset(folder, split)
        assert data.protocol["split"] == "filenames"
        return [int(name) for name in data.names]

    full = {
        "train_filenames": paths(0, 1),
        "val_filenames": paths(2),
        "test_filenames": paths(3),
    }
    assert [names(split, **full) for split in ("train", "val", "test")] == [[0, 1], [2], [3]]
    only_train = {"train_filenames": paths(0, 1)}
    assert names("test", **only_train) == names("val", **only_train) == [2, 3]
    only_val = {"val_filenames": paths(2)}
    assert names("test", **only_val) == [2]
    assert names("train", **only_val) == [0, 1, 3]


def test_an_empty_filename_list_is_an_empty_split(tmp_path):
    folder = write_capture(tmp_path / "set", n=4, test_filenames=[])
    assert len(load_dataset(folder)) == 4
    with pytest.raises(InputError, match="test split has no image"):
        load_dataset(folder, "test")


def test_intrinsics_follow_the_image_size(tmp_path):
    def half(data):
        for key in ("w", "h", "fl_x", "fl_y", "cx", "cy"):
            data[key] *= 2

    data = load_dataset(write_capture(tmp_path / "set", n=3, change=half))
    assert (data.cameras.width, data.cameras.height) == (WIDTH, HEIGHT)
    assert_reprojects(data, make_cameras(3)[1:])


@pytest.mark.parametrize("size", [(WIDTH, HEIGHT + 1), (HEIGHT, WIDTH), (2 * WIDTH, HEIGHT)])
def test_other_sizes_are_refused(tmp_path, size):
    folder = write_capture(tmp_path / "set", n=3, w=size[0], h=size[1])
    with pytest.raises(InputError, match=rf"images/001.*{size[0]}x{size[1]}.*{WIDTH}x{HEIGHT}"):
        load_dataset(folder)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_orientation_only_where_the_size_asks_for_it(tmp_path, orientation):
    folder = write_capture(tmp_path / "set", n=3)
    upright = load_dataset(folder)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}
    stored = turns.get(orientation, Image.Transpose.ROTATE_270)
    for index in range(3):
        image = Image.fromarray(picture(index))
        image.transpose(stored).save(folder / f"images/{index:03d}.png", exif=exif)
    data = load_dataset(folder)
    if orientation == 3:  # the size agrees as stored, as COLMAP reads it
        assert (data.images[0].numpy() == picture(1)[::-1, ::-1]).all()
    else:
        assert torch.equal(data.images, upright.images)
    swapped = edit(folder, lambda data: data.update(w=HEIGHT, h=WIDTH))
    if orientation != 3:
        assert load_dataset(swapped).images.shape == (2, WIDTH, HEIGHT, 3)


def test_missing_images_of_a_capture_are_skipped(tmp_path):
    data = load_dataset(write_capture(tmp_path / "a", n=10, skip=(0, 5)), "test")
    assert data.skipped == ["images/000.png", "images/005.png"]
    assert data.names == ["001"]
    with pytest.raises(InputError, match=r"6 of the 10 .*images/000\.png"):
        load_dataset(write_capture(tmp_path / "b", n=10, skip=range(6)))


def test_masks_of_opposite_meanings(tmp_path):
    """mask_path: nonzero = use. dynamic_mask_*: nonzero = ignore."""
    folder = write_capture(tmp_path / "set", n=4)
    left = np.zeros((HEIGHT, WIDTH), np.uint8)
    left[:, :6] = 255
    top = np.zeros((HEIGHT, WIDTH), np.uint8)
    top[:4] = 255
    write_image(folder / "masks/m.png", left)
    write_image(folder / "images/dynamic_mask_002.png", top)
    write_image(folder / "images/dynamic_mask_003.png", top)

    def name_masks(data):
        data["frames"][1]["mask_path"] = "masks/m.png"
        data["frames"][3]["mask_path"] = "./masks/m.png"

    masks = load_dataset(edit(folder, name_masks)).masks.numpy()
    assert (masks[0] == (left > 0)).all()
    assert (masks[1] == (top == 0)).all()
    assert (masks[2] == ((left > 0) & (top == 0))).all()
    half = load_dataset(folder, downscale=2)
    assert half.masks.shape == (3, 8, 6)
    assert load_dataset(folder, "test").masks is None
    write_image(folder / "masks/m.png", left[:3])
    with pytest.raises(InputError, match=r"m\.png"):
        load_dataset(folder)


def test_masks_that_leave_nothing(tmp_path):
    folder = write_capture(tmp_path / "set", n=2)
    write_image(folder / "images/dynamic_mask_001.png", np.full((HEIGHT, WIDTH), 255, np.uint8))
    with pytest.raises(InputError, match="no pixel"):
        load_dataset(folder)
    edit(folder, lambda data: data["frames"][1].update(mask_path="gone.png"))
    with pytest.raises(InputError, match=r"gone\.png"):
        load_dataset(folder)


def test_downscale(tmp_path):
    folder = write_blender(tmp_path / "set")
    full, third = load_dataset(folder), load_dataset(folder, downscale=3)
    assert third.images.shape == (3, 5, 4, 4)
    assert third.protocol["downscale"] == 3
    assert torch.equal(third.cameras.focal, full.cameras.focal / 3)
    assert third.fingerprint == full.fingerprint


def test_pixels_are_premultiplied_and_match_the_image(tmp_path):
    data = load_dataset(write_blender(tmp_path / "set"))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 3, (500,), generator=generator)
    rows = torch.randint(0, HEIGHT, (500,), generator=generator)
    columns = torch.randint(0, WIDTH, (500,), generator=generator)
    color, alpha = data.pixels(ids, torch.stack((rows, columns), 1))
    straight = data.images[ids, rows, columns].float() / 255
    assert color.dtype == alpha.dtype == torch.float32
    assert torch.allclose(color, straight[:, :3] * straight[:, 3:])
    assert torch.equal(alpha, straight[:, 3])
    assert set(alpha.tolist()) == {0.0, 1.0}
    whole, coverage = data.image(1)
    mine = ids == 1
    assert torch.equal(whole[rows[mine], columns[mine]], color[mine])
    assert coverage.shape == (HEIGHT, WIDTH)
    opaque = load_dataset(write_capture(tmp_path / "rgb", n=3))
    _, ones = opaque.pixels(torch.tensor([1]), torch.tensor([[2, 3]]))
    assert ones.tolist() == [1]


def test_backgrounds(tmp_path):
    folder = write_blender(tmp_path / "set")
    assert load_dataset(folder, background="random").background is None
    assert load_dataset(folder, background="black").background.tolist() == [0, 0, 0]
    gray = load_dataset(folder, background="0.5,0.25,1")
    assert gray.protocol["background"] == [0.5, 0.25, 1]
    assert load_dataset(folder, background=(0.5, 0.25, 1)).protocol == gray.protocol
    json.dumps(gray.protocol)


def test_given_box(tmp_path):
    data = load_dataset(write_blender(tmp_path / "set"), aabb=[[-1, -2, -3], [1, 2, 3]])
    assert data.aabb.tolist() == [[-1, -2, -3], [1, 2, 3]]
    assert data.box_rule == "argument"
    scaled = load_dataset(write_capture(tmp_path / "b", n=3, aabb_scale=2))
    assert (scaled.aabb_scale, scaled.box_rule) == (2, "aabb_scale")


def test_names_stay_distinct(tmp_path):
    folder = write_capture(tmp_path / "set", n=3)
    write_image(folder / "other/001.png", picture(7))
    edit(folder, lambda data: data["frames"][2].update(file_path="other/001.png"))
    assert load_dataset(folder).names == ["images_001", "other_001"]


def drop(key):
    return lambda data: {k: v for k, v in data.items() if k != key}


def in_frame(**keys):
    def change(data):
        frame = data["frames"][1]
        frame.update(keys)
        data["frames"][1] = {k: v for k, v in frame.items() if v is not None}

    return change


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda data: [1], "JSON object"),
        (drop("frames"), "frames"),
        (lambda data: data.update(frames=[]), "empty"),
        (drop("fl_x"), "intrinsics"),
        (lambda data: data.update(fl_x="700"), "fl_x"),
        (lambda data: data.update(h=0), "h: needs"),
        (lambda data: data.update(k1=-9), "distortion"),
        (lambda data: data.update(aabb_scale=5), "aabb_scale"),
        (lambda data: data.update(camera_model="EQUIRECTANGULAR"), "EQUIRECTANGULAR"),
        (lambda data: data.update(test_filenames=["images/77.png"]), r"images/77\.png"),
        (lambda data: data.update(test_filenames="images/77.png"), "test_filenames"),
        (
            lambda data: data.update(test_filenames=paths(1), train_filenames=paths(1, 2)),
            r"images/001\.png.*train_filenames",
        ),
        (in_frame(transform_matrix=None), r"frames\[1\].*transform_matrix"),
        (in_frame(transform_matrix=[[1, 2], [3, 4]]), r"frames\[1\].*transform_matrix"),
        (in_frame(file_path=None), r"frames\[1\].*file_path"),
        (in_frame(file_path=3), r"frames\[1\].*file_path"),
        (in_frame(file_path="images/002.png"), "listed twice"),
        (in_frame(file_path="/dev/zero"), None),
        (in_frame(file_path="a\x00b"), None),
        (in_frame(file_path="a" * 5000), None),
        (in_frame(file_path="\ud800"), None),
        (in_frame(time=0.5), "time"),
        (in_frame(camera_model="OPENCV_FISHEYE"), "camera model"),
    ],
)
def test_bad_captures(tmp_path, change, names):
    folder = write_capture(tmp_path / "set", n=4)
    edit(folder, change)
    if names is None:  # no such regular file: skipped like any missing image
        assert len(load_dataset(folder).skipped) == 1
    else:
        with pytest.raises(InputError, match=names):
            load_dataset(folder)


def test_images_outside_the_folder_are_read(tmp_path):
    folder = write_capture(tmp_path / "set", n=2)
    write_image(tmp_path / "elsewhere/a.png", picture(5))
    edit(folder, in_frame(file_path="../elsewhere/a.png"))
    data = load_dataset(folder, "test")  # "../" sorts before "images/"
    assert data.names == ["a"]
    assert (data.images[0].numpy() == picture(5)).all()
    (tmp_path / "elsewhere/a.png").write_text("no image")
    with pytest.raises(InputError, match=r"elsewhere/a\.png.*no image"):
        load_dataset(folder, "test")


def test_truncated_json(tmp_path):
    folder = write_capture(tmp_path / "set", n=4)
    text = (folder / "transforms.json").read_text()
    (folder / "transforms.json").write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match=r"transforms\.json.*cut short"):
        load_dataset(folder)


def test_bad_images(tmp_path):
    folder = write_capture(tmp_path / "set", n=4)
    image = folder / "images/002.png"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"002\.png.*corrupt"):
        load_dataset(folder)
    image.write_bytes(b"")
    with pytest.raises(InputError, match=r"002\.png"):
        load_dataset(folder)
    write_image(image, picture(2, 3, 2 * WIDTH, 2 * HEIGHT))
    with pytest.raises(InputError, match=r"images/002\.png.*same image size"):
        load_dataset(folder)


def test_missing_image_of_a_blender_set(tmp_path):
    folder = write_blender(tmp_path / "set")
    (folder / "train/r_1.png").unlink()
    with pytest.raises(InputError, match="train/r_1"):
        load_dataset(folder)


def test_missing_folder_and_folders_without_poses(tmp_path):
    with pytest.raises(InputError, match="nowhere: does not exist"):
        load_dataset(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"transforms\.json"):
        load_dataset(tmp_path)
    write_image(tmp_path / "photos/images/a.jpg", picture(0))
    with pytest.raises(InputError, match=r"colmap automatic_reconstructor") as caught:
        load_dataset(tmp_path / "photos")
    assert f"ns-process-data images --data {tmp_path / 'photos/images'}" in str(caught.value)
    (tmp_path / "photos/sparse").mkdir()
    with pytest.raises(InputError, match="--skip-colmap --colmap-model-path"):
        load_dataset(tmp_path / "photos")
    (tmp_path / "film").mkdir()
    (tmp_path / "film/clip.mp4").write_bytes(b"")
    for path in (tmp_path / "film", tmp_path / "film/clip.mp4"):
        with pytest.raises(InputError, match=r"ns-process-data video --data .*clip\.mp4"):
            load_dataset(path)
    for path in ("photos/images/a.jpg", "set/transforms_train.json"):
        write_blender(tmp_path / "set")
        with pytest.raises(InputError, match="give the folder"):
            load_dataset(tmp_path / path)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"split": "validation"}, "split"),
        ({"downscale": 0}, "downscale"),
        ({"downscale": 1.5}, "downscale"),
        ({"downscale": WIDTH + 1}, "downscale"),
        ({"background": "blue"}, "background"),
        ({"background": "1,1"}, "background"),
        ({"background": (0, 0, math.nan)}, "background"),
        ({"background": None}, "background"),
        ({"aabb": 1}, "aabb"),
    ],
)
def test_bad_arguments(tmp_path, arguments, names):
    with pytest.raises(InputError, match=names):
        load_dataset(write_blender(tmp_path / "set"), **arguments)


def test_one_image_cannot_be_split(tmp_path):
    with pytest.raises(InputError, match="at least 2 images"):
        load_dataset(write_capture(tmp_path / "set", n=1))


def test_lego(shared_data):
    folder = shared_data("nerf_synthetic/lego")
    train, test = load_dataset(folder), load_dataset(folder, "test", downscale=4)
    assert train.images.shape == (100, 400, 400, 4)
    assert test.images.shape == (50, 100, 100, 4)
    assert test.names[:2] == ["r_0", "r_4"]
    assert train.cameras.focal[0].tolist() == pytest.approx([555.5555, 555.5555], abs=1e-3)
    assert not train.skipped
    for data in (train, test):
        assert data.box_rule == "silhouettes"
        assert (data.aabb[0] <= torch.tensor([-0.64, -1.15, -0.35])).all()
        assert (data.aabb[1] >= torch.tensor([0.64, 1.15, 1.03])).all()
        assert data.aabb.abs().max() < 1.6


def test_fox(shared_data, tmp_path):
    folder = shared_data("fox")
    data = load_dataset(folder, "test")
    assert data.images.shape == (7, 960, 540, 3)
    assert data.aabb[1].tolist() == pytest.approx([2 / 0.33] * 3)
    (tmp_path / "images").symlink_to(folder / "images")
    upstream = json.loads((folder / "transforms_upstream_1080x1920.json").read_text())
    (tmp_path / "transforms.json").write_text(json.dumps(upstream))
    full = load_dataset(tmp_path, "test")
    assert len(full.skipped) == 17
    assert full.names == data.names
    for name in ("focal", "principal", "camera_to_world", "distortion"):
        assert torch.allclose(getattr(full.cameras, name), getattr(data.cameras, name))
    origins, directions = full.cameras.image_rays(3)
    again, _ = full.cameras.project(3, origins + 2 * directions)
    columns = torch.arange(540).repeat(960) + 0.5
    rows = torch.arange(960).repeat_interleave(540) + 0.5
    assert (again - torch.stack((columns, rows), 1)).abs().max() < 1e-3
