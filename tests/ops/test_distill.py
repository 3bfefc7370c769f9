"""Losses between the levels of two fields, and which samples count."""

import pytest
import tolerances
import torch

from neural_fields import ops
from neural_fields.ops import SampleLevels, reference

from .suite import (
    SIZES,
    Case,
    OpSuite,
    assert_equal,
    assert_near,
    derivatives,
    weights_like,
    with_gaps,
)

LEVELS = SampleLevels._fields
WIDTHS = [1, 2, 3, 5, 16, 17, 33, 64]
FORMS = ["norm", "mean"]


def away_from(bounds, x):
    """The same numbers, none of them within 0.05 of a bound, where the clamp has its kinks."""
    for bound in bounds:
        x = torch.where((x - bound).abs() < 0.05, x + 0.1, x)
    return x


def golden(shape, like):
    """Numbers from -4 to 9 without a generator, since they are part of what is compiled."""
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    count = torch.arange(torch.Size(shape).numel(), device=like.device)
    return ((count * 0.618).double() % 1 * 13 - 4).float().to(dtype).reshape(shape)


def make_case(name, levels=LEVELS, width=16, masked=False, **options):
    clip = options.get("clip", (-2.0, 7.0))

    def call(level_losses, *tensors):
        like = tensors[0]
        teacher = {level: golden(t.shape, like) for level, t in zip(levels, tensors, strict=True)}
        student = SampleLevels(**dict(zip(levels, tensors, strict=True)))
        keep = torch.arange(like.shape[0], device=like.device) % 3 != 1 if masked else None
        return level_losses(student, SampleLevels(**teacher), keep, **options)

    def inputs(n, generator):
        shapes = {"features": (n, width), "log_density": (n,), "color": (n, 3)}
        numbers = (torch.rand(shapes[level], generator=generator) * 13 - 4 for level in levels)
        return [away_from(clip, x) for x in numbers]

    return Case(
        name=name,
        function=lambda *tensors: call(ops.level_losses, *tensors),
        reference=lambda *tensors: call(reference.level_losses, *tensors),
        inputs=inputs,
        arguments=tuple(f"student.{level}" for level in levels),
        tolerance=tolerances.DISTILL_FLOAT32,
        twice=(),
    )


class TestLevelLosses(OpSuite):
    name = "level_losses"
    cases = (
        make_case("all"),
        make_case("all-kept", width=5, masked=True),
        make_case("mean", width=17, form="mean"),
        make_case("mean-kept", width=3, masked=True, form="mean"),
        make_case("features", ("features",), width=64, masked=True, clip=(-1.0, 2.0)),
        make_case("one-feature", ("features", "color"), width=1),
        make_case("log-density", ("log_density",), form="mean"),
        make_case("color", ("color",), masked=True),
    )

    def any_shape(self, argument, wrong):
        first_of_case = argument == "student.log_density" and wrong.shape == (3,)
        return (argument == "student.features" and wrong.dim() == 2) or first_of_case

    def test_second_derivatives_are_right(self, case):
        inputs = [tensor.requires_grad_() for tensor in case.make(5, torch.float64)]
        first = torch.autograd.grad(case.function(*inputs).sum(), inputs, create_graph=True)
        message = r"^level_losses: second-order .*neural_fields\.ops\.reference\.level_losses"
        with pytest.raises(RuntimeError, match=message):
            torch.autograd.grad(first[0].sum(), inputs)

    def test_third_order_names_the_reference(self, case):
        """The second order already does; the reference goes on."""
        first, *rest = case.make(5, torch.float64)
        first.requires_grad_()
        result = case.reference(first, *rest).sum()
        for _ in range(3):
            if not result.requires_grad:
                return
            options = {"create_graph": True, "materialize_grads": True}
            (slope,) = torch.autograd.grad(result, first, **options)
            result = slope.pow(3).sum()
        assert result.isfinite()

    def test_works_under_torch_func(self, case):
        inputs = case.make(33, torch.float64)
        values, *first = derivatives(case.function, inputs)
        weights = weights_like(values, 1)

        def loss(*tensors):
            return (case.function(*tensors) * weights).sum()

        positions = tuple(range(len(inputs)))
        torch.testing.assert_close(torch.func.grad(loss, positions)(*inputs), tuple(first))
        same_values, pull_back = torch.func.vjp(case.function, *inputs)
        torch.testing.assert_close((same_values, *pull_back(weights)), (values, *first))

    def registered(self, case):
        student = [torch.rand(7, 4).double(), torch.rand(7).double(), torch.rand(7, 3).double()]
        teacher = [tensor.flip(0) for tensor in student]
        leaves = [tensor.clone().requires_grad_() for tensor in student]
        keep = torch.arange(7) % 2 == 0
        yield "distill", (*leaves, *teacher, None, -2.0, 0.8, False)
        yield "distill", (*leaves[:2], None, *teacher, keep, -2.0, 0.8, True)
        yield "distill", (*student, None, *teacher[1:], keep, -2.0, 0.8, False)
        losses = torch.rand(3).double(), torch.rand(3).double()
        yield "distill_backward", (*student, *teacher, None, -2.0, 0.8, *losses)
        yield "distill_backward", (student[0], None, None, *teacher, keep, -2.0, 0.8, *losses)


# ---- losses --------------------------------------------------------------------------------------


def random_levels(n, width, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed + 7 * n)
    shapes = ((n, width), (n,), (n, 3))
    numbers = (torch.rand(shape, generator=generator) * 13 - 4 for shape in shapes)
    return SampleLevels(*(x.to(dtype) for x in numbers))


def both(n, width, form, keep=None, device="cpu"):
    """Losses and gradients of either side's function, of random levels."""
    student, teacher = random_levels(n, width), random_levels(n, width, seed=1)

    def call(level_losses, tensors, dtype, device):
        given = SampleLevels(*(t.to(device, dtype) for t in teacher))
        mask = None if keep is None else keep.to(device)
        return level_losses(SampleLevels(*tensors), given, mask, form=form)

    expected = derivatives(
        lambda *t: call(reference.level_losses, t, torch.float64, "cpu"),
        [t.double() for t in student],
    )
    actual = derivatives(
        lambda *t: call(ops.level_losses, t, torch.float32, device),
        [t.to(device) for t in student],
    )
    return actual, expected


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("n", SIZES)
def test_losses_equal_the_reference(n, width, form, any_isa, device):
    for keep in (None, torch.arange(n) % 5 < 2):
        assert_near(*both(n, width, form, keep, device), tolerances.DISTILL_FLOAT32)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_kept(form, any_isa):
    for n in (0, 5, 300):
        actual, _ = both(n, 4, form, torch.zeros(n, dtype=torch.bool))
        assert all((tensor == 0).all() for tensor in actual)


def gradient_of(raw, other, form="norm", clip=(-2.0, 7.0)):
    """Of a log-density, as a level of its own and as the first of two features."""
    leaves = [torch.tensor([[raw, raw]]).requires_grad_(), torch.tensor([raw]).requires_grad_()]
    teacher = SampleLevels(torch.tensor([[other, other]]), torch.tensor([other]))
    losses = ops.level_losses(SampleLevels(*leaves), teacher, clip=clip, form=form)
    of_features, of_log_density = torch.autograd.grad(losses.sum(), leaves)
    return (*of_features[0].tolist(), of_log_density.item())


@pytest.mark.parametrize("form", FORMS)
def test_no_gradient_outside_of_the_clip(form, any_isa):
    for raw in (-3.0, 8.0, -2.0001, 7.001, float("inf")):
        first, second, log_density = gradient_of(raw, 1.0, form)
        assert (first, log_density) == (0, 0)
        assert raw == float("inf") or second != 0
    for raw in (0.0, -2.0, 7.0):
        first, second, log_density = gradient_of(raw, 1.0, form)
        assert first != 0
        assert second != 0
        assert log_density != 0


def test_a_clipped_teacher_gives_a_gradient(any_isa):
    *_, log_density = gradient_of(0.0, -50.0)
    assert log_density == 1
    student, teacher = (SampleLevels(log_density=torch.tensor([x])) for x in (0.0, -50.0))
    assert ops.level_losses(student, teacher)[1] == 2
    both_clipped = ops.level_losses(teacher, SampleLevels(log_density=torch.tensor([-9.0])))
    assert both_clipped[1] == 0


@pytest.mark.parametrize("width", [2, 16, 33])
def test_only_the_first_feature_is_clipped(width, any_isa):
    zeros = SampleLevels(torch.zeros(40, width))
    for column in range(width):
        features = torch.zeros(40, width)
        features[:, column] = 10
        loss = ops.level_losses(SampleLevels(features), zeros, form="mean")[0].item()
        assert loss == pytest.approx((49 if column == 0 else 100) / width)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_on_both_sides_is_exactly_0(form, any_isa):
    student = random_levels(100, 16)
    leaves = [tensor.clone().requires_grad_() for tensor in student]
    losses = ops.level_losses(SampleLevels(*leaves), student, form=form)
    assert (losses == 0).all()
    losses.sum().backward()
    assert all((leaf.grad == 0).all() for leaf in leaves)


def test_norm_and_mean_by_hand():
    student = SampleLevels(torch.tensor([[9.0, 3.0]]), torch.tensor([-4.0]), torch.ones(1, 3))
    teacher = SampleLevels(torch.tensor([[3.0, 6.0]]), torch.tensor([1.0]), torch.zeros(1, 3))
    assert ops.level_losses(student, teacher).tolist() == pytest.approx([5, 3, 3**0.5])
    assert ops.level_losses(student, teacher, form="mean").tolist() == pytest.approx([12.5, 9, 1])


def test_a_level_counts_where_both_have_it():
    full, teacher = random_levels(20, 4), random_levels(20, 4, seed=1)
    expected = ops.level_losses(full, teacher)
    for level, name in enumerate(LEVELS):
        leaves = [tensor.clone().requires_grad_() for tensor in full]
        losses = ops.level_losses(SampleLevels(*leaves), teacher._replace(**{name: None}))
        assert losses[level] == 0
        others = [i for i in range(3) if i != level]
        assert torch.equal(losses[others].detach(), expected[others])
        gradients = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
        assert [gradient is None for gradient in gradients] == [i == level for i in range(3)]
        without = ops.level_losses(full._replace(**{name: None}), teacher)
        assert torch.equal(without, losses.detach())
    alone = ops.level_losses(SampleLevels(color=full.color), SampleLevels(full.features))
    assert alone.tolist() == [0, 0, 0]


def test_the_teacher_gets_no_gradient():
    student, teacher = random_levels(5, 4), random_levels(5, 4, seed=1)
    leaves = [tensor.clone().requires_grad_() for tensor in (*student, *teacher)]
    for function in (ops.level_losses, reference.level_losses):
        losses = function(SampleLevels(*leaves[:3]), SampleLevels(*leaves[3:]))
        gradients = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
        assert [gradient is None for gradient in gradients] == [False] * 3 + [True] * 3


def test_gradients_for_those_alone_that_need_them():
    student, teacher = random_levels(5, 4), random_levels(5, 4, seed=1)
    full = derivatives(lambda *t: ops.level_losses(SampleLevels(*t), teacher), student)
    color = derivatives(
        lambda c: ops.level_losses(SampleLevels(*student[:2], c), teacher), student[2:]
    )
    assert torch.equal(color[1], full[3])


def test_what_is_not_kept_may_be_nan(any_isa):
    keep = torch.arange(50) % 2 == 0
    student, teacher = random_levels(50, 5), random_levels(50, 5, seed=1)
    expected = ops.level_losses(student, teacher, keep)
    for side in (student, teacher):
        for tensor in side:
            tensor[~keep] = float("nan")
    leaves = [tensor.requires_grad_() for tensor in student]
    losses = ops.level_losses(SampleLevels(*leaves), teacher, keep)
    assert torch.equal(losses.detach(), expected)
    losses.sum().backward()
    for leaf in leaves:
        assert (leaf.grad[~keep] == 0).all()
        assert (leaf.grad.flatten(1) if leaf.dim() > 1 else leaf.grad)[keep].isfinite().all()


def test_nan_is_not_hidden(any_isa):
    student, teacher = random_levels(50, 5), random_levels(50, 5, seed=1)
    for tensor in student:
        tensor.view(-1)[7] = float("nan")
    assert ops.level_losses(student, teacher).isnan().all()
    assert ops.level_losses(teacher, student, form="mean").isnan().all()


def test_a_level_of_one_side_gets_no_gradient():
    student, teacher = random_levels(9, 4), random_levels(9, 4, seed=1)
    color, log_density = (student[i].clone().requires_grad_() for i in (2, 1))
    keep = torch.arange(9) % 2 == 0
    for ours in (SampleLevels(None, student[1], color), SampleLevels(None, log_density, color)):
        losses = ops.level_losses(ours, SampleLevels(None, teacher[1]), keep)
        losses.sum().backward()
        assert color.grad is None
    assert log_density.grad.any()


def test_the_reference_takes_its_place():
    student, teacher = random_levels(9, 4), random_levels(9, 4, seed=1)
    color = student.color.clone().requires_grad_()
    with ops.use_reference():
        losses = ops.level_losses(SampleLevels(color=color), teacher)
        (slope,) = torch.autograd.grad(losses[2], color, create_graph=True)
        slope.pow(3).sum().backward()
    assert color.grad.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"keep": torch.ones(4)}, TypeError, r"keep needs bool, got torch\.float32"),
        ({"keep": torch.ones(3).bool()}, ValueError, r"keep needs shape \[4\], got \[3\]"),
        ({"keep": torch.ones(4).bool().to("meta")}, ValueError, "keep needs to be on cpu, got"),
        ({"clip": (7.0, -2.0)}, ValueError, "clip needs the lower bound first"),
        ({"clip": (float("nan"), 1.0)}, ValueError, "clip needs the lower bound first"),
        ({"form": "sum"}, ValueError, "form needs 'norm' or 'mean', got 'sum'"),
        (
            {"teacher": SampleLevels(torch.zeros(4, 6))},
            ValueError,
            r"teacher\.features needs shape \[4, 5\], got \[4, 6\]",
        ),
        (
            {"teacher": SampleLevels(color=torch.zeros(4, 4))},
            ValueError,
            r"teacher\.color needs shape \[4, 3\], got \[4, 4\]",
        ),
        (
            {"teacher": SampleLevels(log_density=torch.zeros(4).double())},
            TypeError,
            r"teacher\.log_density needs torch\.float32 like the first",
        ),
        (
            {"student": SampleLevels(torch.zeros(4, 65))},
            ValueError,
            r"student\.features needs 1 to 64 features, got 65",
        ),
        (
            {"student": SampleLevels(torch.zeros(4, 0))},
            ValueError,
            r"student\.features needs 1 to 64 features, got 0",
        ),
        (
            {"student": SampleLevels(), "teacher": SampleLevels()},
            ValueError,
            "needs at least one level",
        ),
    ],
)
def test_wrong_losses_are_refused(changes, error, message):
    arguments = {"student": random_levels(4, 5), "teacher": random_levels(4, 5)} | changes
    with pytest.raises(error, match=f"^level_losses: {message}"):
        ops.level_losses(**arguments)


# ---- samples -------------------------------------------------------------------------------------


def rays_of(counts, generator, dtype=torch.float32, n_values=20):
    """Offsets, and weights of few values, so that many are equal."""
    offsets = torch.tensor([0, *counts]).cumsum(0)
    n = int(offsets[-1])
    weights = torch.randint(0, n_values + 1, (n,), generator=generator).double() / n_values
    return offsets, (weights * 0.06).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.77, 1.0])
def test_visible_samples_equal_the_reference(share, dtype, any_isa, device):
    generator = torch.Generator().manual_seed(3)
    for counts in ([], [0], [1], [31, 32, 33], [0, 5, 0, 70, 1, 0], [20] * 300):
        offsets, weights = rays_of(counts, generator, dtype)
        keep = torch.rand(len(weights), generator=generator) < 0.2
        for besides in (None, keep):
            expected = reference.visible_samples(offsets, weights, share=share, keep=besides)
            given = None if besides is None else besides.to(device)
            placed = offsets.to(device), weights.to(device)
            actual = ops.visible_samples(*placed, share=share, keep=given)
            assert torch.equal(actual.cpu(), expected)


def test_of_ten_samples_the_four_largest_count(any_isa):
    weights = torch.tensor([0.01, 0.2, 0.0, 0.15, 0.02, 0.3, 0.04, 0.05, 0.06, 0.03])
    visible = ops.visible_samples(torch.tensor([0, 10]), weights)
    assert visible.nonzero()[:, 0].tolist() == [1, 3, 5, 8]


def test_a_ray_that_is_not_opaque_has_none(any_isa):
    weights = torch.tensor([0.25, 0.24, 0.25, 0.25, float("nan"), 0.9])
    offsets = torch.tensor([0, 2, 4, 6])
    visible = ops.visible_samples(offsets, weights)
    assert visible.tolist() == [False, False, True, False, False, False]
    assert ops.visible_samples(offsets, weights, opacity=0.4)[:2].tolist() == [True, False]


def test_of_equal_weights_the_first_count(any_isa):
    weights = torch.full((10,), 0.1)
    assert ops.visible_samples(torch.tensor([0, 10]), weights).tolist() == [True] * 4 + [False] * 6
    weights = torch.tensor([0.1, 0.2, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
    visible = ops.visible_samples(torch.tensor([0, 10]), weights)
    assert visible.nonzero()[:, 0].tolist() == [0, 1, 2, 4]


def test_zeros_and_less_than_zeros_are_equal(any_isa):
    weights = torch.tensor([-0.5, -0.0, 0.9, 0.0, 1e-45])
    visible = ops.visible_samples(torch.tensor([0, 5]), weights, share=0.4, opacity=0.0)
    assert visible.tolist() == [True, False, True, False, True]


def test_the_mask_is_united_with_another(any_isa):
    offsets, weights = torch.tensor([0, 2, 4]), torch.tensor([0.7, 0.1, 0.1, 0.2])
    keep = torch.tensor([False, False, True, False])
    visible = ops.visible_samples(offsets, weights, keep=keep)
    assert visible.tolist() == [True, False, True, False]
    assert keep.tolist() == [False, False, True, False]


def test_visible_samples_take_tensors_with_gaps_and_a_graph():
    offsets, weights = rays_of([20, 30], torch.Generator().manual_seed(1))
    keep = torch.arange(50) % 7 == 0
    expected = ops.visible_samples(offsets, weights, keep=keep)
    weights = with_gaps(weights).requires_grad_()
    actual = ops.visible_samples(with_gaps(offsets), weights, keep=with_gaps(keep))
    assert torch.equal(actual, expected)
    assert actual.is_contiguous()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"offsets": torch.tensor([0, 4]).int()}, TypeError, "offsets needs int64, got"),
        ({"offsets": torch.tensor([[0, 4]])}, ValueError, r"offsets needs shape \[n_rays \+ 1\]"),
        ({"offsets": torch.tensor([]).long()}, ValueError, r"offsets needs shape \[n_rays \+ 1\]"),
        ({"offsets": torch.tensor([0, 4]).to("meta")}, ValueError, "offsets needs to be on cpu"),
        ({"weights": torch.ones(4).half()}, TypeError, "weights needs float32 or float64, got"),
        ({"weights": torch.ones(4, 1)}, ValueError, r"weights needs shape \[n\], got \[4, 1\]"),
        ({"keep": torch.ones(3).bool()}, ValueError, r"keep needs shape \[4\], got \[3\]"),
        ({"keep": torch.ones(4)}, TypeError, "keep needs bool, got"),
        ({"share": 1.5}, ValueError, r"share needs a number from 0 to 1, got 1\.5"),
        ({"opacity": float("nan")}, ValueError, "opacity needs a number from 0 to 1, got nan"),
    ],
)
def test_wrong_rays_are_refused(changes, error, message):
    arguments = {"offsets": torch.tensor([0, 4]), "weights": torch.ones(4)} | changes
    with pytest.raises(error, match=f"^visible_samples: {message}"):
        ops.visible_samples(**arguments)


@pytest.mark.parametrize("offsets", [[0, 5], [1, 4], [0, 3, 2, 4], [0, 9, 4]])
def test_wrong_offsets_are_refused(offsets):
    with pytest.raises(ValueError, match=r"non-decreasing list from 0 to .* 4"):
        ops.visible_samples(torch.tensor(offsets), torch.ones(4))


def test_samples_of_nobody_are_not_kept(device):
    weights = torch.full((4,), 0.5, device=device)
    keep = torch.ones(4, dtype=torch.bool, device=device)
    offsets = torch.tensor([0, 2]).to(device)
    visible = ops.visible_samples(offsets, weights, keep=keep)
    assert visible.cpu().tolist() == [True, True, False, False]


# ---- the hardest ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_values", [1, 7, 1 << 20])
def test_hardest_equals_the_reference(n_values, any_isa, device):
    generator = torch.Generator().manual_seed(5)
    for n in (0, 1, 31, 32, 33, 1000, 200_000):
        difficulty = torch.randint(0, n_values, (n,), generator=generator) * 1e-3
        for k in {0, min(1, n), n // 3, max(n - 1, 0), n}:
            expected = reference.hardest(difficulty, k)
            assert torch.equal(ops.hardest(difficulty.to(device), k).cpu(), expected)


def test_of_equal_difficulties_the_first_count(any_isa):
    difficulty = torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0])
    assert ops.hardest(difficulty, 3).tolist() == [0, 1, 3]
    assert ops.hardest(torch.zeros(4), 2).tolist() == [0, 1]


def test_nan_is_the_hardest(any_isa):
    nan, inf = float("nan"), float("inf")
    difficulty = torch.tensor([inf, nan, 1.0, -nan, 5.0, nan])
    assert ops.hardest(difficulty, 2).tolist() == [1, 3]
    assert ops.hardest(difficulty, 4).tolist() == [0, 1, 3, 5]
    assert torch.equal(ops.hardest(difficulty, 5), reference.hardest(difficulty, 5))


def test_hardest_takes_tensors_with_gaps_and_a_graph():
    difficulty = torch.rand(100)
    gaps = with_gaps(difficulty).requires_grad_()
    assert torch.equal(ops.hardest(gaps, 10), ops.hardest(difficulty, 10))


def test_selections_do_not_depend_on_threads(restored_core):
    generator = torch.Generator().manual_seed(2)
    offsets, weights = rays_of([50] * 1000, generator, n_values=1000)
    difficulty, runs = torch.rand(300_000, generator=generator), []
    for n_threads in (1, 2, 5):
        restored_core.set_num_threads(n_threads)
        runs.append([ops.visible_samples(offsets, weights), ops.hardest(difficulty, 1000)])
    for run in runs[1:]:
        assert_equal(run, runs[0])


@pytest.mark.parametrize(
    ("difficulty", "k", "error", "message"),
    [
        (torch.ones(3), 4, ValueError, "k needs 0 to 3, got 4"),
        (torch.ones(3), -1, ValueError, "k needs 0 to 3, got -1"),
        (torch.ones(3), 1.0, TypeError, r"k needs an integer, got 1\.0"),
        (torch.ones(3).double(), 1, TypeError, r"difficulty needs float32, got torch\.float64"),
        (torch.ones(3, 1), 1, ValueError, r"difficulty needs shape \[n\], got \[3, 1\]"),
    ],
)
def test_wrong_difficulties_are_refused(difficulty, k, error, message):
    with pytest.raises(error, match=f"^hardest: {message}"):
        ops.hardest(difficulty, k)
