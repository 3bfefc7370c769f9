// One training step up to the gradients. Rays are cut into tasks of some hundred samples, so that
// all activations of a task stay in the L2 cache between its forward and backward pass. A task
// advances in rounds of a few samples per ray, and what lies behind an opaque surface is never
// evaluated. The table's gradient is scattered afterwards, level by level, by the hash grid's own
// loop.
#include "common/loops.h"
#include "fused/encode.h"
#include "fused/radiance.h"
#include "fused/tile_network.h"
#include "ops/spherical_harmonics/spherical_harmonics.h"

NF_BEGIN
namespace {

constexpr std::int64_t kTaskSamples = 768;   // at least, except at the end
constexpr std::int64_t kRoundSamples = 384;  // about, per round
constexpr std::int64_t kSlots = 32;          // sums of weight gradients

struct Task {
  std::int64_t ray_begin, ray_end;
};

struct Size {
  std::int64_t samples, rays;
};

// Whole rays, cut where at least kTaskSamples samples have come together.
std::int64_t cut_tasks(const RaySamples& samples, Task* tasks, Size* largest) {
  std::int64_t n = 0, begin = 0;
  *largest = {0, 0};
  for (std::int64_t ray = 0; ray < samples.n_rays; ++ray) {
    const std::int64_t count = samples.offsets[ray + 1] - samples.offsets[begin], n_rays = ray + 1 - begin;
    if (count < kTaskSamples && n_rays < kTaskSamples && ray + 1 < samples.n_rays) continue;
    largest->samples = count > largest->samples ? count : largest->samples;
    largest->rays = n_rays > largest->rays ? n_rays : largest->rays;
    tasks[n++] = {begin, ray + 1};
    begin = ray + 1;
  }
  return n;
}

struct Row {  // a visible sample
  std::int64_t ray;  // of the task
  float weight, behind, thickness_slope, grad_raw;
};

struct Ray {
  std::int64_t next;  // sample of the task
  std::int64_t end;
  float transmittance, rgb[3], opacity, gradient[3], suffix;
};

// What one slot needs for any of its tasks. Rows that are multiplied as floats double as room for
// their gradients.
template <class E>
struct Workspace {
  static constexpr bool rounded = !std::is_same<E, float>::value;

  Workspace(const RadianceField& field, const PackedMlp<E>& density_weights, const PackedMlp<E>& color_weights,
            Size largest)
      : density(density_weights, field.density, largest.samples),
        color(color_weights, field.color, largest.samples),
        encoded(static_cast<std::size_t>(rounded ? density.input_row() * largest.samples : 1)),
        color_input(static_cast<std::size_t>(color.input_row() * largest.samples)),
        color_gradient(static_cast<std::size_t>(rounded ? field.color.widths[0] * largest.samples : 1)),
        positions(static_cast<std::size_t>(largest.samples) * 3),
        round_positions(static_cast<std::size_t>(largest.samples) * 3),
        round(static_cast<std::size_t>(largest.samples)),
        rows(static_cast<std::size_t>(largest.samples)),
        rays(static_cast<std::size_t>(largest.rays)) {}
  TileNetwork<E> density, color;
  Buffer<E> encoded, color_input;
  Buffer<float> color_gradient, positions, round_positions;
  Buffer<std::int64_t> round;  // samples of the task
  Buffer<Row> rows;
  Buffer<Ray> rays;
};

template <class E>
class Step {
 public:
  Step(const RadianceTrainArgs& args, Workspace<E>& work, const Task& task)
      : args_(args),
        work_(work),
        task_(task),
        first_(args.samples.offsets[task.ray_begin]),
        n_rays_(task.ray_end - task.ray_begin),
        encoding_(args.field.grid.n_levels * args.field.grid.n_features),
        features_(args.field.density.widths[args.field.density.n_layers]) {}

  // Returns the number of visible samples; their encoding gradients and positions are left in the
  // first rows of the task's part of the batch.
  std::int64_t run(MlpGradient<E>& density_gradient, MlpGradient<E>& color_gradient) {
    start();
    while (const std::int64_t n = gather()) evaluate(n);
    fill_color_input();
    work_.color.forward(work_.color_input.data(), n_rows_);
    composite();
    color_backward();
    const int width = features_ + 16;
    work_.color.backward(work_.color_input.data(), n_rows_, color_gradient, grad_color_input(), width);
    for (std::int64_t row = 0; row < n_rows_; ++row) {
      float* gradient = work_.density.output_gradient() + row * features_;
      std::memcpy(gradient, grad_color_input() + row * width, sizeof(float) * static_cast<std::size_t>(features_));
      gradient[0] += work_.rows[row].grad_raw;
    }
    work_.density.backward(network_input(), n_rows_, density_gradient, encoded(0), encoding_);
    return n_rows_;
  }

 private:
  // Encoding of a row, later its gradient, where the scatter expects it.
  float* encoded(std::int64_t row) { return args_.features + (first_ + row) * encoding_; }
  E* network_input() {
    if constexpr (Workspace<E>::rounded) return work_.encoded.data();
    else return encoded(0);
  }
  float* grad_color_input() {
    if constexpr (Workspace<E>::rounded) return work_.color_gradient.data();
    else return work_.color_input.data();
  }

  void start() {
    const std::int64_t* offsets = args_.samples.offsets + task_.ray_begin;
    for (std::int64_t r = 0; r < n_rays_; ++r)
      work_.rays[r] = {offsets[r] - first_, offsets[r + 1] - first_, 1, {0, 0, 0}, 0, {0, 0, 0}, 0};
    // Visible rows overwrite the batch's positions while later samples are still to be read.
    std::memcpy(work_.positions.data(), args_.samples.positions + first_ * 3,
                sizeof(float) * static_cast<std::size_t>((offsets[n_rays_] - first_) * 3));
  }

  bool is_live(const Ray& ray) const { return ray.next < ray.end && ray.transmittance >= args_.stop; }

  // The next samples of every live ray, an equal share each.
  std::int64_t gather() {
    std::int64_t live = 0, n = 0;
    for (std::int64_t r = 0; r < n_rays_; ++r) live += is_live(work_.rays[r]);
    if (live == 0) return 0;
    const std::int64_t share = kRoundSamples / live < 4 ? 4 : kRoundSamples / live;
    for (std::int64_t r = 0; r < n_rays_; ++r) {
      Ray& ray = work_.rays[r];
      if (!is_live(ray)) continue;
      for (std::int64_t k = 0; k < share && ray.next < ray.end; ++k, ++ray.next, ++n) {
        work_.round[n] = ray.next;
        work_.rows[n_rows_ + n].ray = r;
        std::memcpy(work_.round_positions.data() + n * 3, work_.positions.data() + ray.next * 3, sizeof(float) * 3);
      }
    }
    return n;
  }

  // Density of a round; the rows of visible samples are moved together.
  void evaluate(std::int64_t n) {
    const std::int64_t begin = n_rows_;
    encode_tile(args_.field.grid, args_.field.table, work_.round_positions.data(), n, encoded(begin));
    const std::int64_t row = work_.density.input_row();
    if constexpr (Workspace<E>::rounded)
      copy_rows(encoded(begin), encoding_, encoding_, network_input() + begin * row, row, row, n);
    work_.density.forward(network_input(), begin, n);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t from = begin + i, sample = first_ + work_.round[i];
      Ray& ray = work_.rays[work_.rows[from].ray];
      if (ray.transmittance < args_.stop) continue;
      const float raw = work_.density.output()[from * features_];
      const float dt = (args_.samples.t_ends[sample] - args_.samples.t_starts[sample]) / args_.unit;
      const float passed = lane_exp<float>(-lane_exp<float>(raw) * dt);
      const float bounded = raw < -15.0f ? -15.0f : (raw > 15.0f ? 15.0f : raw);
      const float weight = ray.transmittance * (1 - passed);
      ray.transmittance *= passed;
      const std::int64_t to = n_rows_++;
      work_.rows[to] = {work_.rows[from].ray, weight, ray.transmittance, lane_exp<float>(bounded) * dt, 0};
      std::memcpy(args_.samples.positions + (first_ + to) * 3, work_.round_positions.data() + i * 3, sizeof(float) * 3);
      if (to == from) continue;
      work_.density.move_row(from, to);
      std::memcpy(static_cast<void*>(network_input() + to * row), network_input() + from * row, sizeof(E) * static_cast<std::size_t>(row));
    }
  }

  void fill_color_input() {
    const std::int64_t width = work_.color.input_row();
    Buffer<float> harmonics(static_cast<std::size_t>(n_rays_) * 16);
    for (std::int64_t r = 0; r < n_rays_; ++r) {
      const float* d = args_.samples.directions + (task_.ray_begin + r) * 3;
      spherical_harmonics<4, float>(d[0], d[1], d[2], harmonics.data() + r * 16);
    }
    for (std::int64_t row = 0; row < n_rows_; ++row) {
      E* input = work_.color_input.data() + row * width;
      copy_rows(work_.density.output() + row * features_, 0, features_, input, 0, features_, 1);
      copy_rows(harmonics.data() + work_.rows[row].ray * 16, 0, 16, input + features_, 0, width - features_, 1);
    }
  }

  // Colours, losses and the loss's gradient of all rays.
  void composite() {
    const float* color = work_.color.output();
    const std::int64_t color_row = work_.color.output_row();
    for (std::int64_t row = 0; row < n_rows_; ++row) {
      Ray& ray = work_.rays[work_.rows[row].ray];
      for (int c = 0; c < 3; ++c) ray.rgb[c] += work_.rows[row].weight * color[row * color_row + c];
      ray.opacity += work_.rows[row].weight;
    }
    for (std::int64_t r = 0; r < n_rays_; ++r) ray_loss(work_.rays[r], task_.ray_begin + r);
  }

  // Huber loss with knee `huber`, divided by 5 as in instant-ngp, mean over channels and rays.
  void ray_loss(Ray& ray, std::int64_t index) {
    float loss = 0;
    for (int c = 0; c < 3; ++c) {
      const float value = ray.rgb[c] + (1 - ray.opacity) * args_.background[index * 3 + c];
      const float error = value - args_.target[index * 3 + c], size = error < 0 ? -error : error;
      const bool small = size <= args_.huber;
      loss += small ? 0.5f * error * error / args_.huber : size - 0.5f * args_.huber;
      ray.gradient[c] = (small ? error / args_.huber : (error < 0 ? -1.0f : 1.0f)) /
                        (5.0f * 3.0f * static_cast<float>(args_.n_loss_rays));
      args_.ray_color[index * 3 + c] = value;
    }
    args_.ray_loss[index] = loss / (5.0f * 3.0f);
  }

  // dL/d(colour) per row and dL/d(raw density), back to front: the suffix of a ray is the sum of
  // w_j g_j behind a sample, exactly 0 at its end.
  void color_backward() {
    const float* color = work_.color.output();
    const std::int64_t color_row = work_.color.output_row();
    float* grad_color = work_.color.output_gradient();
    for (std::int64_t i = n_rows_ - 1; i >= 0; --i) {
      Row& row = work_.rows[i];
      Ray& ray = work_.rays[row.ray];
      const float* background = args_.background + (task_.ray_begin + row.ray) * 3;
      float g = 0;
      for (int c = 0; c < color_row; ++c) grad_color[i * color_row + c] = 0;
      for (int c = 0; c < 3; ++c) {
        g += ray.gradient[c] * (color[i * color_row + c] - background[c]);
        grad_color[i * color_row + c] = row.weight * ray.gradient[c];
      }
      row.grad_raw = row.thickness_slope * (row.behind * g - ray.suffix);
      ray.suffix += row.weight * g;
    }
  }

  const RadianceTrainArgs& args_;
  Workspace<E>& work_;
  const Task task_;
  const std::int64_t first_, n_rays_;  // first sample of the batch that belongs to the task
  const int encoding_, features_;      // widths
  std::int64_t n_rows_ = 0;            // visible samples so far
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

template <class E>
void train(const RadianceTrainArgs& args) {
  const RaySamples& samples = args.samples;
  Buffer<Task> tasks(static_cast<std::size_t>(samples.n_rays) + 1);
  Buffer<Segment> segments(static_cast<std::size_t>(samples.n_rays) + 1);
  Size largest;
  const std::int64_t n_tasks = cut_tasks(samples, tasks.data(), &largest);
  const PackedMlp<E> density(args.field.density, args.field.density_params);
  const PackedMlp<E> color(args.field.color, args.field.color_params);
  const std::int64_t density_size = MlpGradient<E>::size(args.field.density);
  const std::int64_t color_size = MlpGradient<E>::size(args.field.color);
  Buffer<float> density_sums(static_cast<std::size_t>(density_size * kSlots));
  Buffer<float> color_sums(static_cast<std::size_t>(color_size * kSlots));
  std::memset(density_sums.data(), 0, sizeof(float) * static_cast<std::size_t>(density_size * kSlots));
  std::memset(color_sums.data(), 0, sizeof(float) * static_cast<std::size_t>(color_size * kSlots));

  parallel_for(kSlots, [&](std::int64_t slot) {
    const std::int64_t begin = n_tasks * slot / kSlots, end = n_tasks * (slot + 1) / kSlots;
    if (begin == end) return;
    Workspace<E> work(args.field, density, color, largest);
    MlpGradient<E> density_gradient(args.field.density, density_sums.data() + slot * density_size);
    MlpGradient<E> color_gradient(args.field.color, color_sums.data() + slot * color_size);
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t first = samples.offsets[tasks[t].ray_begin];
      segments[t] = {first, first + Step<E>(args, work, tasks[t]).run(density_gradient, color_gradient)};
    }
  });
  std::memset(args.grad_density, 0, sizeof(float) * static_cast<std::size_t>(args.field.density.n_params()));
  std::memset(args.grad_color, 0, sizeof(float) * static_cast<std::size_t>(args.field.color.n_params()));
  MlpGradient<E>::reduce(args.field.density, density_sums.data(), kSlots, args.grad_density);
  MlpGradient<E>::reduce(args.field.color, color_sums.data(), kSlots, args.grad_color);
  *args.n_kept = 0;
  for (std::int64_t t = 0; t < n_tasks; ++t) *args.n_kept += segments[t].end - segments[t].begin;
  scatter(args, segments.data(), n_tasks);
}

}  // namespace

void radiance_train(const RadianceTrainArgs& args) {
  if (args.field.density.precision == Precision::bf16)
    train<Bf16>(args);
  else
    train<float>(args);
}

NF_END
