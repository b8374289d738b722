#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "din_infer/din_infer.hpp"
#include "engine/batch.hpp"
#include "engine/model.hpp"
#include "python/bindings.hpp"
#include "python/pool.hpp"

namespace py = pybind11;

namespace din_infer {
namespace {

using Bytes = py::array_t<uint8_t, py::array::c_style>;

// An array that the caller holds. A cast would make a copy of one that is not as expected, to which nothing could
// point.
template <class Array>
Array Held(const py::handle& object) {
  if (!py::isinstance<Array>(object)) throw py::type_error("expected a C-contiguous array of the column's type");
  return py::reinterpret_borrow<Array>(object);
}

// (values, *offsets), where the values of a string column are (characters, offsets).
Column MakeColumn(const py::tuple& parts) {
  Column column;
  if (py::isinstance<py::tuple>(parts[0])) {
    const auto strings = parts[0].cast<py::tuple>();
    const auto offsets = Held<Int64s>(strings[1]);
    column = Column::strings(reinterpret_cast<const char*>(Held<Bytes>(strings[0]).data()), offsets.data(),
                             offsets.size() - 1);
  } else if (py::isinstance<Floats>(parts[0])) {
    const auto values = Held<Floats>(parts[0]);
    column = Column::floats(values.data(), values.size());
  } else {
    const auto values = Held<Int64s>(parts[0]);
    column = Column::int64s(values.data(), values.size());
  }
  for (size_t level = 1; level < parts.size(); ++level) {
    const auto offsets = Held<Int64s>(parts[level]);
    column.lists.push_back({offsets.data(), offsets.size()});
  }
  return column;
}

Batch MakeBatch(const py::dict& columns, int64_t requests, bool shared_candidates = false) {
  Batch batch;
  batch.requests = requests;
  batch.shared_candidates = shared_candidates;
  for (const auto& [name, parts] : columns) {
    batch.columns.emplace(name.cast<std::string>(), MakeColumn(parts.cast<py::tuple>()));
  }
  return batch;
}

// A model and a scorer for each thread that is scoring with it now.
class SharedModel {
 public:
  explicit SharedModel(Model model) : model_(std::move(model)) {}

  const Model& model() const { return model_; }

  Floats Score(const py::dict& columns, int64_t requests, bool catalogue, int threads, bool auto_fold, bool auto_plan) {
    const Batch batch = MakeBatch(columns, requests, catalogue);
    const auto scorer = Take({threads, auto_fold, auto_plan});
    const int64_t candidates = CandidatesIfItFits(batch);
    Floats scores(candidates < 0 ? scorer->candidates(batch) : candidates);
    float* out = scores.mutable_data();
    {
      py::gil_scoped_release release;
      scorer->score(batch, out);
    }
    return scores;
  }

  py::dict ExplainPlan(const py::dict& columns, int64_t requests, bool catalogue, int threads, bool auto_fold) {
    const Batch batch = MakeBatch(columns, requests, catalogue);
    const auto scorer = Take({threads, auto_fold, true});
    PlanReport report;
    {
      py::gil_scoped_release release;
      report = scorer->explain_plan(batch);
    }
    py::dict out;
    out["candidates"] = report.candidates;
    out["distinct_candidates"] = report.distinct_candidates;
    out["pairs"] = report.pairs;
    out["distinct_pairs"] = report.distinct_pairs;
    out["request"] = report.request;
    out["candidate"] = report.candidate;
    out["auto"] = report.chosen;
    return out;
  }

  Floats Explain(const py::dict& columns, int64_t requests, const std::string& history) const {
    const Batch batch = MakeBatch(columns, requests);
    std::vector<float> weights;
    {
      py::gil_scoped_release release;
      weights = explain(model_, batch, history);
    }
    return Floats(static_cast<py::ssize_t>(weights.size()), weights.data());
  }

 private:
  using Options = std::tuple<int, bool, bool>;  // threads, auto_fold, auto_plan

  Pool<Options, Scorer>::Use Take(const Options& options) {
    return scorers_.Take(options, [&] {
      const auto [threads, auto_fold, auto_plan] = options;
      const Plan plan = auto_plan ? Plan::kAuto : Plan::kRequest;
      return std::make_unique<Scorer>(model_, ScorerOptions{threads, plan, auto_fold});
    });
  }

  Model model_;
  Pool<Options, Scorer> scorers_;
};

}  // namespace

void RegisterModel(py::module_& module) {
  py::class_<SharedModel>(module, "Model")
      .def_static(
          "from_file", [](const std::string& path) { return std::make_unique<SharedModel>(Model::load(path)); },
          py::arg("path"), py::call_guard<py::gil_scoped_release>())
      .def_static(
          "from_bytes",
          [](const py::bytes& data, const std::string& folder) {
            return std::make_unique<SharedModel>(Model::load_bytes(data, folder));
          },
          py::arg("data"), py::arg("folder"))
      .def_property_readonly("metadata", [](const SharedModel& shared) { return shared.model().metadata(); })
      .def_property_readonly("memory_bytes", [](const SharedModel& shared) { return shared.model().memory_bytes(); })
      .def_property_readonly("unknown_ids", [](const SharedModel& shared) { return shared.model().unknown_ids(); })
      .def_property_readonly("multiply_adds",
                             [](const SharedModel& shared) {
                               const MultiplyAdds work = shared.model().multiply_adds();
                               return std::map<std::string, int64_t>{{"request", work.request}, {"done", work.done}};
                             })
      .def("score", &SharedModel::Score, py::arg("columns"), py::arg("requests"), py::arg("catalogue"),
           py::arg("threads"), py::arg("auto_fold"), py::arg("auto_plan"))
      .def("explain_plan", &SharedModel::ExplainPlan, py::arg("columns"), py::arg("requests"), py::arg("catalogue"),
           py::arg("threads"), py::arg("auto_fold"))
      .def("explain", &SharedModel::Explain, py::arg("columns"), py::arg("requests"), py::arg("history"));
}

}  // namespace din_infer
