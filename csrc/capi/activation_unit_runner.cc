#include <cstddef>

#include "capi/border.hpp"
#include "capi/handles.hpp"

using din_infer::ActivationUnitParams;
using din_infer::ActivationUnitRunner;
using din_infer::ActivationUnitRunnerOptions;
using din_infer::FloatView;
using din_infer::InputError;
using din_infer::Rows;
using din_infer::UnitLayer;
using din_infer::capi::At;
using din_infer::capi::ExecutorOf;
using din_infer::capi::Guard;
using din_infer::capi::Known;
using din_infer::capi::Text;
using din_infer::capi::Threads;

namespace {

constexpr int64_t kMostLayers = 1024;  // so that a count which was not set is no walk through memory

FloatView View(const din_infer_float_view& view) { return {view.data, view.size}; }

UnitLayer Layer(const din_infer_unit_layer& layer) {
  return {layer.outputs,     layer.inputs,     View(layer.weights), View(layer.biases),
          View(layer.alpha), View(layer.mean), View(layer.var),     layer.eps};
}

// Throws InputError for other flags than these too.
ActivationUnitRunnerOptions Options(const din_infer_activation_unit_runner_options* given, unsigned flags) {
  constexpr size_t kFirstVersion =
      offsetof(din_infer_activation_unit_runner_options, executor) + sizeof(din_infer_executor);
  const din_infer_activation_unit_runner_options known = Known(given, kFirstVersion);
  if ((known.flags & ~flags) != 0) {
    throw InputError("flags: expected 0" + std::string(flags == 0 ? "" : " or DIN_INFER_AUTO_FOLD") + ", got " +
                     std::to_string(known.flags));
  }
  return {Threads(known.threads), known.flags != 0, ExecutorOf(known.executor), known.max_scratch_bytes};
}

Rows View(const din_infer_rows& rows) { return {rows.values, rows.rows, {rows.offsets, rows.offsets_size}}; }

}  // namespace

din_infer_status din_infer_activation_unit_runner_create(const char* interaction, const char* activation,
                                                         const char* normalize, const float* scale,
                                                         const din_infer_unit_layer* layers, int64_t layer_count,
                                                         const din_infer_activation_unit_runner_options* options,
                                                         din_infer_activation_unit_runner** runner) {
  return Guard([&] {
    auto& handle = At(runner, "runner");
    ActivationUnitParams params;
    params.interaction = Text(interaction, "interaction");
    params.activation = Text(activation, "activation");
    params.normalize = Text(normalize, "normalize");
    if (scale != nullptr) params.scale = *scale;
    if (layer_count < 1 || layer_count > kMostLayers) {
      throw InputError("layer_count: expected 1 to " + std::to_string(kMostLayers) + ", got " +
                       std::to_string(layer_count));
    }
    for (int64_t l = 0; l < layer_count; ++l) params.layers.push_back(Layer((&At(layers, "layers"))[l]));
    handle = new din_infer_activation_unit_runner{ActivationUnitRunner(params, Options(options, 0))};
  });
}

din_infer_status din_infer_activation_unit_runner_of_model(const din_infer_model* model, const char* history,
                                                           const din_infer_activation_unit_runner_options* options,
                                                           din_infer_activation_unit_runner** runner) {
  return Guard([&] {
    auto& handle = At(runner, "runner");
    handle = new din_infer_activation_unit_runner{ActivationUnitRunner(
        At(model, "model").model, Text(history, "history"), Options(options, DIN_INFER_AUTO_FOLD))};
  });
}

din_infer_status din_infer_activation_unit_runner_share(const din_infer_activation_unit_runner* other,
                                                        const din_infer_activation_unit_runner_options* options,
                                                        din_infer_activation_unit_runner** runner) {
  return Guard([&] {
    auto& handle = At(runner, "runner");
    handle = new din_infer_activation_unit_runner{ActivationUnitRunner(At(other, "other").runner, Options(options, 0))};
  });
}

void din_infer_activation_unit_runner_free(din_infer_activation_unit_runner* runner) { delete runner; }

din_infer_status din_infer_activation_unit_runner_dim(const din_infer_activation_unit_runner* runner, int64_t* dim) {
  return Guard([&] { At(dim, "dim") = At(runner, "runner").runner.dim(); });
}

din_infer_status din_infer_activation_unit_runner_run(din_infer_activation_unit_runner* runner,
                                                      const din_infer_rows* keys, const din_infer_rows* queries,
                                                      const int64_t* counts, float* interests, int64_t size) {
  return Guard([&] {
    ActivationUnitRunner& with = At(runner, "runner").runner;
    const Rows key_rows = View(At(keys, "keys")), query_rows = View(At(queries, "queries"));
    if (query_rows.rows != size / with.dim() || size % with.dim() != 0) {
      throw InputError("interests: expected room for " + std::to_string(query_rows.rows) + " x " +
                       std::to_string(with.dim()) + " floats, got " + std::to_string(size));
    }
    with.run(key_rows, query_rows, interests, counts);
  });
}

din_infer_status din_infer_activation_unit_runner_scratch_bytes(const din_infer_activation_unit_runner* runner,
                                                                size_t* bytes) {
  return Guard([&] { At(bytes, "bytes") = At(runner, "runner").runner.scratch_bytes(); });
}

din_infer_status din_infer_activation_unit_runner_shrink(din_infer_activation_unit_runner* runner) {
  return Guard([&] { At(runner, "runner").runner.shrink(); });
}
