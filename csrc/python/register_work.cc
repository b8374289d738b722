// How work is cut into programs of the Triton kernels: kernels/activation/triton_work.py says what they read.

#include <algorithm>

#include "engine/batch.hpp"
#include "python/bindings.hpp"

namespace py = pybind11;

namespace din_infer {
namespace {

// Requests of a call: their keys and queries.
class Requests {
 public:
  // Throws InputError for offsets that go down, are not as many, or none.
  Requests(const Int64s& key_offsets, const Int64s& query_offsets)
      : keys_(key_offsets.data()), queries_(query_offsets.data()), count_(key_offsets.size() - 1) {
    CheckOffsets("key_offsets", "", {keys_, key_offsets.size()}, count_, Last(key_offsets));
    CheckOffsets("query_offsets", "", {queries_, query_offsets.size()}, count_, Last(query_offsets));
  }

  struct Request {
    int64_t first_key, last_key, first_query, last_query;

    int64_t Queries() const { return last_query - first_query; }
    int64_t Parts(int64_t size) const { return (last_key - first_key + size - 1) / size; }
  };

  int64_t Queries() const { return queries_[count_]; }

  template <class Do>
  void Each(const Do& action) const {
    for (py::ssize_t r = 0; r < count_; ++r) action(Request{keys_[r], keys_[r + 1], queries_[r], queries_[r + 1]});
  }

 private:
  static int64_t Last(const Int64s& offsets) { return offsets.size() == 0 ? 0 : offsets.data()[offsets.size() - 1]; }

  const int64_t *keys_, *queries_;
  py::ssize_t count_;
};

py::tuple ForwardWork(const Int64s& key_offsets, const Int64s& query_offsets, int64_t chunk) {
  const Requests requests(key_offsets, query_offsets);
  const auto parts = [&](const Requests::Request& request) { return std::max<int64_t>(request.Parts(chunk), 1); };
  int64_t items = 0;
  requests.Each([&](const auto& request) { items += parts(request) * request.Queries(); });
  Int64s numbers(3 * items + requests.Queries() + 1);
  int64_t *item = numbers.mutable_data(), *first_item = item + 3 * items, done = 0;
  *first_item++ = 0;
  requests.Each([&](const auto& request) {
    for (int64_t query = request.first_query; query < request.last_query; ++query) {
      for (int64_t part = 0; part < parts(request); ++part, item += 3) {
        item[0] = query, item[1] = request.first_key + part * chunk;
        item[2] = std::min(item[1] + chunk, request.last_key);
      }
      *first_item++ = done += parts(request);
    }
  });
  return py::make_tuple(numbers, items);
}

py::tuple BackwardWork(const Int64s& key_offsets, const Int64s& query_offsets, int64_t block) {
  const Requests requests(key_offsets, query_offsets);
  const int64_t queries = requests.Queries();
  int64_t tiles = 0;
  requests.Each([&](const auto& request) { tiles += request.Parts(block); });
  Int64s numbers(2 * queries + 4 * tiles);
  int64_t *span = numbers.mutable_data(), *tile = span + 2 * queries;
  requests.Each([&](const auto& request) {
    for (int64_t query = 0; query < request.Queries(); ++query, ++span) {
      span[0] = request.first_key, span[queries] = request.last_key;
    }
    for (int64_t key = request.first_key; key < request.last_key; key += block, ++tile) {
      tile[0] = key, tile[tiles] = std::min(key + block, request.last_key);
      tile[2 * tiles] = request.first_query, tile[3 * tiles] = request.last_query;
    }
  });
  return py::make_tuple(numbers, queries, tiles);
}

}  // namespace

void RegisterWork(py::module_& module) {
  module.def("forward_work", &ForwardWork, py::arg("key_offsets"), py::arg("query_offsets"), py::arg("chunk"));
  module.def("backward_work", &BackwardWork, py::arg("key_offsets"), py::arg("query_offsets"), py::arg("block"));
}

}  // namespace din_infer
