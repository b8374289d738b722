// The activation unit through the C ABI: parameters and rows that a caller got wrong are refused, and all others are
// pooled, with the same bits twice. An input chooses sizes and values that fit, then what to spoil in them.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "din_infer/din_infer.h"
#include "fuzz/input.hpp"

namespace {

using din_infer::fuzz::Input;

// Floats and offsets in allocations of the exact sizes, so that AddressSanitizer sees a read past the end of any.
class Memory {
 public:
  explicit Memory(Input& input) : input_(input) {}

  din_infer_float_view Floats(int64_t size, float base = 0) {
    float* values = floats_.emplace_back(std::make_unique<float[]>(static_cast<size_t>(size))).get();
    for (int64_t i = 0; i < size; ++i) values[i] = base + static_cast<float>(input_.Take<int8_t>()) / 64;
    return {values, size};
  }

  din_infer_rows Rows(int64_t requests, int64_t longest, int64_t dim) {
    int64_t* offsets = integers_.emplace_back(std::make_unique<int64_t[]>(static_cast<size_t>(requests) + 1)).get();
    for (int64_t r = 0; r < requests; ++r) offsets[r + 1] = offsets[r] + input_.Below(longest);
    return {Floats(offsets[requests] * dim).data, offsets[requests], offsets, requests + 1};
  }

 private:
  Input& input_;
  std::vector<std::unique_ptr<float[]>> floats_;
  std::vector<std::unique_ptr<int64_t[]>> integers_;
};

const char* Name(Input& input, std::initializer_list<const char*> names) {
  return names.begin()[input.Below(static_cast<int64_t>(names.size()))];
}

struct Unit {
  Unit(Input& input, Memory& memory)
      : dim(1 + input.Below(9)),
        interaction(Name(input, {"outer", "hadamard"})),
        activation(Name(input, {"sigmoid", "relu", "prelu", "tanh", "dice", "bisigmoid"})),
        normalize(Name(input, {"none", "softmax"})) {
    const bool dice = std::strcmp(activation, "dice") == 0, alpha = dice || std::strcmp(activation, "prelu") == 0;
    int64_t inputs = std::strcmp(interaction, "outer") == 0 ? 2 * dim + dim * dim : 4 * dim;
    for (int64_t hidden = input.Below(3); hidden >= 0; --hidden) {
      const int64_t outputs = hidden == 0 ? 1 : 1 + input.Below(20);
      din_infer_unit_layer layer{outputs, inputs, memory.Floats(outputs * inputs), memory.Floats(outputs), {}, {},
                                 {},      0};
      if (hidden > 0 && alpha) layer.alpha = memory.Floats(input.Below(2) == 0 ? 1 : outputs);
      if (hidden > 0 && dice) layer.mean = memory.Floats(outputs), layer.var = memory.Floats(outputs, 3), layer.eps = 1;
      layers.push_back(layer);
      inputs = outputs;
    }
  }

  // Something that a caller can get wrong without lying about the size of its memory.
  void Spoil(Input& input) {
    din_infer_unit_layer& layer = layers[static_cast<size_t>(input.Below(static_cast<int64_t>(layers.size())))];
    int64_t* const numbers[] = {&layer.outputs, &layer.inputs};
    din_infer_float_view* const views[] = {&layer.weights, &layer.biases, &layer.alpha, &layer.mean, &layer.var};
    switch (input.Below(4)) {
      case 0:
        *numbers[input.Below(2)] = input.Take<int64_t>();
        return;
      case 1:
        views[input.Below(5)]->data = nullptr;
        return;
      case 2:
        if (din_infer_float_view* view = views[input.Below(5)]; view->size > 0) --view->size;
        return;
      default:
        layers.pop_back();
        if (layers.empty()) layers.emplace_back();
    }
  }

  din_infer_status Make(din_infer_activation_unit_runner** runner) const {
    return din_infer_activation_unit_runner_create(interaction, activation, normalize, nullptr, layers.data(),
                                                   static_cast<int64_t>(layers.size()), nullptr, runner);
  }

  int64_t dim;
  const char *interaction, *activation, *normalize;
  std::vector<din_infer_unit_layer> layers;
};

// Nothing that claims more memory than there is: `rows`, at which offsets have to end, only gets smaller.
void SpoilRows(Input& input, din_infer_rows* rows) {
  switch (input.Below(4)) {
    case 0:
      rows->rows -= 1 + input.Below(200);
      return;
    case 1:
      rows->offsets_size -= 1 + input.Below(3);
      return;
    case 2:
      if (rows->offsets_size < 1) return;
      const_cast<int64_t*>(rows->offsets)[input.Below(rows->offsets_size)] = input.Take<int64_t>();
      return;
    default:
      rows->values = nullptr;
  }
}

void Run(din_infer_activation_unit_runner* runner, int64_t dim, Input& input, Memory& memory) {
  const int64_t requests = input.Below(5);
  din_infer_rows keys = memory.Rows(requests, 70, dim), queries = memory.Rows(requests, 8, dim);
  std::vector<float> once(static_cast<size_t>(queries.rows * dim)), again(once.size());
  bool spoilt = false;
  for (; !input.empty(); spoilt = true) SpoilRows(input, input.Below(2) == 0 ? &keys : &queries);
  const auto run = [&](std::vector<float>& out) {
    return din_infer_activation_unit_runner_run(runner, &keys, &queries, nullptr, out.data(),
                                                static_cast<int64_t>(out.size()));
  };
  const din_infer_status status = run(once);
  if (status == DIN_INFER_INPUT_ERROR && spoilt) return;
  if (status != DIN_INFER_OK || run(again) != DIN_INFER_OK) std::abort();
  if (!once.empty() && std::memcmp(once.data(), again.data(), once.size() * sizeof(float)) != 0) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  Memory memory(input);
  Unit unit(input, memory);
  const bool spoilt = input.Below(4) == 0;
  if (spoilt) unit.Spoil(input);
  din_infer_activation_unit_runner* runner = nullptr;
  const din_infer_status status = unit.Make(&runner);
  if (status != DIN_INFER_OK && !(spoilt && status == DIN_INFER_INPUT_ERROR)) std::abort();
  if (runner == nullptr) return 0;
  int64_t dim = 0;
  din_infer_activation_unit_runner_dim(runner, &dim);
  Run(runner, dim, input, memory);
  din_infer_activation_unit_runner_free(runner);
  return 0;
}
