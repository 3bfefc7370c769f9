// Rendering: a tile of rays advances in rounds. Each round takes the next few samples of every ray
// that is still transparent, evaluates their density together, and colours only those that carry
// weight.
#include "common/loops.h"
#include "fused/coarse.h"
#include "fused/encode.h"
#include "fused/radiance.h"
#include "fused/tile_network.h"
#include "ops/spherical_harmonics/spherical_harmonics.h"

NF_BEGIN
namespace {

constexpr int kTileRays = 128;
constexpr int kRoundSamples = 768;

struct Ray {
  RayMarcher marcher;
  float transmittance, rgb[3], depth;
  float harmonics[16];
};

struct Sample {
  int ray;
  float t0, t1;
};

// Encodings as the network reads them: as they are, or rounded.
template <class E>
const E* network_input(Buffer<float>& encoded, Buffer<E>& rounded, int width, std::int64_t row, std::int64_t n) {
  if constexpr (std::is_same<E, float>::value) {
    return encoded.data();
  } else {
    copy_rows(encoded.data(), width, width, rounded.data(), row, row, n);
    return rounded.data();
  }
}

template <class E>
class TileRenderer {
 public:
  TileRenderer(const RadianceRenderArgs& args, const MarchScene& scene, const PackedMlp<E>& density, const PackedMlp<E>& color)
      : args_(args),
        scene_(scene),
        lattice_(scene),
        encoding_(args.field.grid.n_levels * args.field.grid.n_features),
        features_(args.field.density.widths[args.field.density.n_layers]),
        density_(density, args.field.density, kRoundSamples),
        color_(color, args.field.color, kRoundSamples),
        encoded_(static_cast<std::size_t>(encoding_) * kRoundSamples),
        rounded_(static_cast<std::size_t>(density_.input_row()) * kRoundSamples),
        color_input_(static_cast<std::size_t>(color_.input_row()) * kRoundSamples) {}

  std::int64_t render(std::int64_t begin, std::int64_t end) {
    const int n_rays = static_cast<int>(end - begin);
    int alive = n_rays;
    for (int r = 0; r < n_rays; ++r) {
      const float *o = args_.origins + (begin + r) * 3, *d = args_.directions + (begin + r) * 3;
      rays_[r].marcher = RayMarcher(scene_, lattice_, o, d, 0.5f);
      rays_[r].transmittance = 1;
      rays_[r].rgb[0] = rays_[r].rgb[1] = rays_[r].rgb[2] = rays_[r].depth = 0;
      spherical_harmonics<4, float>(d[0], d[1], d[2], rays_[r].harmonics);
      alive_[r] = r;
    }
    std::int64_t n_samples = 0;
    while (alive > 0) {
      const int n = gather(alive);
      n_samples += n;
      shade(n);
      alive = compact(alive);
    }
    for (int r = 0; r < n_rays; ++r) {
      for (int c = 0; c < 3; ++c) args_.color[(begin + r) * 3 + c] = rays_[r].rgb[c];
      args_.opacity[begin + r] = 1 - rays_[r].transmittance;
      args_.depth[begin + r] = rays_[r].depth;
    }
    return n_samples;
  }

 private:
  // The next samples of every live ray, an equal share of the round each.
  int gather(int alive) {
    const int share = kRoundSamples / alive < 32 ? kRoundSamples / alive : 32;
    int n = 0;
    for (int a = 0; a < alive; ++a) {
      Ray& ray = rays_[alive_[a]];
      for (int k = 0; k < share; ++k) {
        Sample sample{alive_[a], 0, 0};
        if (!ray.marcher.next(scene_, lattice_, &sample.t0, &sample.t1)) {
          finished_[alive_[a]] = true;
          break;
        }
        finished_[alive_[a]] = false;
        float p[3];
        ray.marcher.position(0.5f * (sample.t0 + sample.t1), p);
        for (int d = 0; d < 3; ++d) positions_[n * 3 + d] = 0.5f * p[d] + 0.5f;
        samples_[n++] = sample;
      }
    }
    return n;
  }

  void shade(int n) {
    encode_tile(args_.field.grid, args_.field.table, positions_, n, encoded_.data());
    density_.forward(network_input(encoded_, rounded_, encoding_, density_.input_row(), n), n);
    const std::int64_t color_row = color_.input_row();
    int n_colored = 0;
    for (int i = 0; i < n; ++i) {
      Ray& ray = rays_[samples_[i].ray];
      if (ray.transmittance < args_.stop) continue;
      const float* row = density_.output() + i * features_;
      const float dt = (samples_[i].t1 - samples_[i].t0) / args_.scene.unit;
      const float passed = lane_exp<float>(-lane_exp<float>(row[0]) * dt);
      const float weight = ray.transmittance * (1 - passed);
      ray.transmittance *= passed;
      ray.depth += weight * 0.5f * (samples_[i].t0 + samples_[i].t1);
      if (weight < args_.cull) continue;
      E* input = color_input_.data() + n_colored * color_row;
      copy_rows(row, 0, features_, input, 0, features_, 1);
      copy_rows(ray.harmonics, 0, 16, input + features_, 0, color_row - features_, 1);
      weights_[n_colored] = weight;
      colored_[n_colored++] = samples_[i].ray;
    }
    color_.forward(color_input_.data(), n_colored);
    for (int i = 0; i < n_colored; ++i)
      for (int c = 0; c < 3; ++c) rays_[colored_[i]].rgb[c] += weights_[i] * color_.output()[i * color_.output_row() + c];
  }

  int compact(int alive) {
    int n = 0;
    for (int a = 0; a < alive; ++a) {
      const int r = alive_[a];
      if (!finished_[r] && rays_[r].transmittance >= args_.stop) alive_[n++] = r;
    }
    return n;
  }

  const RadianceRenderArgs& args_;
  const MarchScene& scene_;
  const StepLattice lattice_;
  const int encoding_, features_;
  TileNetwork<E> density_, color_;
  Buffer<float> encoded_;
  Buffer<E> rounded_, color_input_;
  Ray rays_[kTileRays];
  int alive_[kTileRays];
  bool finished_[kTileRays];
  Sample samples_[kRoundSamples];
  float positions_[kRoundSamples * 3], weights_[kRoundSamples];
  int colored_[kRoundSamples];
};

template <class E>
void render(const RadianceRenderArgs& args) {
  const PackedMlp<E> density(args.field.density, args.field.density_params);
  const PackedMlp<E> color(args.field.color, args.field.color_params);
  const CoarseScene coarse(args.scene);
  std::int64_t total = 0;
  parallel_chunks(args.n_rays, kTileRays * 8, [&](std::int64_t begin, std::int64_t end) {
    TileRenderer<E> renderer(args, coarse.scene, density, color);
    std::int64_t n_samples = 0;
    for (std::int64_t first = begin; first < end; first += kTileRays) {
      if (args.cancel != nullptr && *args.cancel != 0) break;
      n_samples += renderer.render(first, end - first < kTileRays ? end : first + kTileRays);
    }
    __atomic_fetch_add(&total, n_samples, __ATOMIC_RELAXED);
  });
  *args.n_samples = total;
}

template <class E>
void densities(const RadianceDensityArgs& args) {
  const PackedMlp<E> weights(args.field.density, args.field.density_params);
  const int encoding = args.field.grid.n_levels * args.field.grid.n_features;
  const int features = args.field.density.widths[args.field.density.n_layers];
  parallel_chunks(args.n, 8192, [&](std::int64_t begin, std::int64_t end) {
    constexpr std::int64_t kRows = 1024;
    TileNetwork<E> network(weights, args.field.density, kRows);
    Buffer<float> encoded(static_cast<std::size_t>(encoding) * kRows);
    Buffer<E> rounded(static_cast<std::size_t>(network.input_row()) * kRows);
    for (std::int64_t first = begin; first < end; first += kRows) {
      const std::int64_t n = end - first < kRows ? end - first : kRows;
      encode_tile(args.field.grid, args.field.table, args.positions + first * 3, n, encoded.data());
      network.forward(network_input(encoded, rounded, encoding, network.input_row(), n), n);
      for (std::int64_t i = 0; i < n; ++i) args.log_density[first + i] = network.output()[i * features];
    }
  });
}

}  // namespace

void radiance_render(const RadianceRenderArgs& args) {
  if (args.field.density.precision == Precision::bf16)
    render<Bf16>(args);
  else
    render<float>(args);
}

void radiance_density(const RadianceDensityArgs& args) {
  if (args.field.density.precision == Precision::bf16)
    densities<Bf16>(args);
  else
    densities<float>(args);
}

NF_END
