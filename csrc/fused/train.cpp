// One training step up to the gradients. Rays are cut into tasks of a few hundred samples, so that
// all activations of a task stay in the L2 cache between its forward and backward pass. Samples
// behind an opaque surface are dropped before the colour network. The table's gradient is
// scattered afterwards, level by level, by the hash grid's own loop.
#include "common/loops.h"
#include "fused/encode.h"
#include "fused/radiance.h"
#include "fused/tile_network.h"
#include "ops/composite/composite.h"
#include "ops/spherical_harmonics/spherical_harmonics.h"

NF_BEGIN
namespace {

constexpr std::int64_t kTaskSamples = 256;  // at least, except at the end
constexpr std::int64_t kSlots = 32;         // sums of weight gradients

struct Task {
  std::int64_t ray_begin, ray_end;
};

// Whole rays, cut where at least kTaskSamples samples have come together.
std::int64_t cut_tasks(const RaySamples& samples, Task* tasks, std::int64_t* max_samples) {
  std::int64_t n = 0, begin = 0;
  *max_samples = 0;
  for (std::int64_t ray = 0; ray < samples.n_rays; ++ray) {
    const std::int64_t count = samples.offsets[ray + 1] - samples.offsets[begin];
    if (count < kTaskSamples && ray + 1 < samples.n_rays) continue;
    *max_samples = count > *max_samples ? count : *max_samples;
    tasks[n++] = {begin, ray + 1};
    begin = ray + 1;
  }
  return n;
}

// What one slot needs for any of its tasks.
struct Workspace {
  Workspace(const RadianceField& field, const PackedMlp<float>& density_weights, const PackedMlp<float>& color_weights,
            std::int64_t max_samples)
      : density(density_weights, field.density, max_samples),
        color(color_weights, field.color, max_samples),
        color_input(static_cast<std::size_t>(field.color.widths[0]) * max_samples),
        weight(max_samples),
        behind(max_samples),
        thickness_slope(max_samples) {}
  TileNetwork density, color;
  Buffer<float> color_input;
  Buffer<float> weight, behind, thickness_slope;  // per kept sample
};

struct Step {
  const RadianceTrainArgs& args;
  Workspace& work;
  std::int64_t first;      // sample of the batch that is row 0
  int encoding, features;  // widths

  float* encoded(std::int64_t row) { return args.features + (first + row) * encoding; }

  // Keeps the samples that light reaches: weights, and rows moved together. kept[] gets the end
  // row of each ray. Returns the number of kept rows.
  std::int64_t keep_visible(const Task& task, std::int64_t* kept) {
    std::int64_t to = 0;
    for (std::int64_t ray = task.ray_begin; ray < task.ray_end; ++ray) {
      const std::int64_t begin = args.samples.offsets[ray] - first, end = args.samples.offsets[ray + 1] - first;
      float transmittance = 1;
      for (std::int64_t row = begin; row < end && transmittance >= args.stop; ++row, ++to) {
        const float raw = work.density.output()[row * features];
        const float dt = (args.samples.t_ends[first + row] - args.samples.t_starts[first + row]) / args.unit;
        const float passed = lane_exp<float>(-lane_exp<float>(raw) * dt);
        const float bounded = raw < -15.0f ? -15.0f : (raw > 15.0f ? 15.0f : raw);
        work.weight[to] = transmittance * (1 - passed);
        transmittance *= passed;
        work.behind[to] = transmittance;
        work.thickness_slope[to] = lane_exp<float>(bounded) * dt;
        if (to == row) continue;
        work.density.move_row(row, to);
        std::memcpy(encoded(to), encoded(row), sizeof(float) * static_cast<std::size_t>(encoding));
        std::memcpy(args.samples.positions + (first + to) * 3, args.samples.positions + (first + row) * 3, sizeof(float) * 3);
      }
      kept[ray - task.ray_begin] = to;
    }
    return to;
  }

  void fill_color_input(const Task& task, const std::int64_t* kept) {
    const int width = features + 16;
    std::int64_t row = 0;
    for (std::int64_t ray = task.ray_begin; ray < task.ray_end; ++ray) {
      const float* d = args.samples.directions + ray * 3;
      float harmonics[16];
      spherical_harmonics<4, float>(d[0], d[1], d[2], harmonics);
      for (; row < kept[ray - task.ray_begin]; ++row) {
        float* input = work.color_input.data() + row * width;
        std::memcpy(input, work.density.output() + row * features, sizeof(float) * static_cast<std::size_t>(features));
        std::memcpy(input + features, harmonics, sizeof(harmonics));
      }
    }
  }

  // Composites a ray, writes its loss, and leaves dL/d(colour) per sample and dL/d(raw density).
  void ray_gradient(std::int64_t ray, std::int64_t begin, std::int64_t end, float* grad_raw) {
    const float *color = work.color.output(), *bg = args.background + ray * 3, *target = args.target + ray * 3;
    const int row = work.color.output_row();
    float rgb[3] = {0, 0, 0}, opacity = 0, gradient[3], loss = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      for (int c = 0; c < 3; ++c) rgb[c] += work.weight[i] * color[i * row + c];
      opacity += work.weight[i];
    }
    for (int c = 0; c < 3; ++c) {
      const float value = rgb[c] + (1 - opacity) * bg[c], error = value - target[c];
      const float size = error < 0 ? -error : error;
      const bool small = size <= args.huber;
      loss += small ? 0.5f * error * error / args.huber : size - 0.5f * args.huber;
      gradient[c] = (small ? error / args.huber : (error < 0 ? -1.0f : 1.0f)) / (5.0f * 3.0f * static_cast<float>(args.n_loss_rays));
      args.ray_color[ray * 3 + c] = value;
    }
    args.ray_loss[ray] = loss / (5.0f * 3.0f);
    float sum = 0;  // of w_j g_j for j <= i
    float* grad_color = work.color.output_gradient();
    for (std::int64_t i = begin; i < end; ++i) {
      float g = 0;
      for (int c = 0; c < row; ++c) grad_color[i * row + c] = 0;
      for (int c = 0; c < 3; ++c) {
        g += gradient[c] * (color[i * row + c] - bg[c]);
        grad_color[i * row + c] = work.weight[i] * gradient[c];
      }
      sum += work.weight[i] * g;
      grad_raw[i] = work.behind[i] * g + sum;
    }
    for (std::int64_t i = begin; i < end; ++i) grad_raw[i] = work.thickness_slope[i] * (grad_raw[i] - sum);
  }

  std::int64_t run(const Task& task, MlpGradient<float>& density_gradient, MlpGradient<float>& color_gradient) {
    const std::int64_t n_rays = task.ray_end - task.ray_begin;
    const std::int64_t n_rows = args.samples.offsets[task.ray_end] - first;
    work.density.forward(encoded(0), n_rows);
    Buffer<std::int64_t> kept(static_cast<std::size_t>(n_rays));
    const std::int64_t n_kept = keep_visible(task, kept.data());
    fill_color_input(task, kept.data());
    work.color.forward(work.color_input.data(), n_kept);
    Buffer<float> grad_raw(static_cast<std::size_t>(n_kept) + 1);
    for (std::int64_t ray = 0; ray < n_rays; ++ray)
      ray_gradient(task.ray_begin + ray, ray == 0 ? 0 : kept[ray - 1], kept[ray], grad_raw.data());
    work.color.backward(work.color_input.data(), n_kept, color_gradient, work.color_input.data());
    const int width = features + 16;
    for (std::int64_t row = 0; row < n_kept; ++row) {
      float* gradient = work.density.output_gradient() + row * features;
      std::memcpy(gradient, work.color_input.data() + row * width, sizeof(float) * static_cast<std::size_t>(features));
      gradient[0] += grad_raw[row];
    }
    work.density.backward(encoded(0), n_kept, density_gradient, encoded(0));
    return n_kept;
  }
};

struct Segment {  // kept samples of one task, in batch order
  std::int64_t begin, end;
};

void scatter(const RadianceTrainArgs& args, const Segment* segments, std::int64_t n_segments) {
  with_features(args.field.grid.n_features, [&](auto features) {
    constexpr int F = features.value;
    hash_grid_for_slabs(args.field.grid, [&](int l, std::uint32_t begin, std::uint32_t end, bool whole) {
      const auto level = whole ? hash_grid_scatter_level<float, 3, F, true> : hash_grid_scatter_level<float, 3, F, false>;
      for (std::int64_t s = 0; s < n_segments; ++s)
        level(args.field.grid, l, args.samples.positions, segments[s].begin, segments[s].end, args.features,
              args.grad_table, args.touched, begin, end);
    });
  });
}

}  // namespace

void radiance_train(const RadianceTrainArgs& args) {
  const RaySamples& samples = args.samples;
  HashGridArgs<float> encode{};
  encode.shape = args.field.grid;
  encode.n = samples.offsets[samples.n_rays];
  encode.positions = samples.positions;
  encode.table = args.field.table;
  encode.output = args.features;
  NF_ISA::hash_grid_forward_f32(encode);  // this path's own, not the dispatching one

  Buffer<Task> tasks(static_cast<std::size_t>(samples.n_rays) + 1);
  Buffer<Segment> segments(static_cast<std::size_t>(samples.n_rays) + 1);
  std::int64_t max_samples;
  const std::int64_t n_tasks = cut_tasks(samples, tasks.data(), &max_samples);
  const PackedMlp<float> density(args.field.density, args.field.density_params);
  const PackedMlp<float> color(args.field.color, args.field.color_params);
  const std::int64_t density_size = MlpGradient<float>::size(args.field.density);
  const std::int64_t color_size = MlpGradient<float>::size(args.field.color);
  Buffer<float> density_sums(static_cast<std::size_t>(density_size * kSlots));
  Buffer<float> color_sums(static_cast<std::size_t>(color_size * kSlots));
  std::memset(density_sums.data(), 0, sizeof(float) * static_cast<std::size_t>(density_size * kSlots));
  std::memset(color_sums.data(), 0, sizeof(float) * static_cast<std::size_t>(color_size * kSlots));

  parallel_for(kSlots, [&](std::int64_t slot) {
    const std::int64_t begin = n_tasks * slot / kSlots, end = n_tasks * (slot + 1) / kSlots;
    if (begin == end) return;
    Workspace work(args.field, density, color, max_samples);
    MlpGradient<float> density_gradient(args.field.density, density_sums.data() + slot * density_size);
    MlpGradient<float> color_gradient(args.field.color, color_sums.data() + slot * color_size);
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t first = samples.offsets[tasks[t].ray_begin];
      Step step{args, work, first, args.field.grid.n_levels * args.field.grid.n_features,
                args.field.density.widths[args.field.density.n_layers]};
      segments[t] = {first, first + step.run(tasks[t], density_gradient, color_gradient)};
    }
  });
  std::memset(args.grad_density, 0, sizeof(float) * static_cast<std::size_t>(args.field.density.n_params()));
  std::memset(args.grad_color, 0, sizeof(float) * static_cast<std::size_t>(args.field.color.n_params()));
  MlpGradient<float>::reduce(args.field.density, density_sums.data(), kSlots, args.grad_density);
  MlpGradient<float>::reduce(args.field.color, color_sums.data(), kSlots, args.grad_color);
  *args.n_kept = 0;
  for (std::int64_t t = 0; t < n_tasks; ++t) *args.n_kept += segments[t].end - segments[t].begin;
  scatter(args, segments.data(), n_tasks);
}

NF_END
