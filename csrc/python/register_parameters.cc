// A model file's parameters as arrays and its ids looked up, for what computes in Python: on a GPU.
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/model.hpp"
#include "engine/vocabulary.hpp"
#include "onnx/model_file.hpp"
#include "onnx/tensor.hpp"
#include "python/bindings.hpp"

namespace py = pybind11;

namespace din_infer {
namespace {

class OpenModelFile {
 public:
  explicit OpenModelFile(ModelFile file) : file_(std::move(file)) {
    CheckParameters(file_);
    for (size_t t = 0; t < file_.schema.tables.size(); ++t) {
      rows_.emplace_back(file_.schema.tables[t], file_.vocabularies[t]);
    }
    file_.vocabularies.clear();
  }

  const ModelFile& file() const { return file_; }

  // Rows of the ids of an encoded column: int64 [n], or the (characters, offsets) of strings.
  Int64s Rows(const std::string& table, const py::object& ids) const {
    const RowMap& map = MapOf(table);
    if (!py::isinstance<py::tuple>(ids)) {
      const auto values = ids.cast<Int64s>();
      return Found(values.size(), [&, data = values.data()](int64_t* rows) { map.Rows(data, values.size(), rows); });
    }
    const auto strings = ids.cast<py::tuple>();
    const auto characters = strings[0].cast<py::array_t<uint8_t>>();
    const auto offsets = strings[1].cast<Int64s>();
    const auto* text = reinterpret_cast<const char*>(characters.data());
    const py::ssize_t count = offsets.size() - 1;
    return Found(count, [&, ends = offsets.data()](int64_t* rows) { map.Rows(text, ends, count, rows); });
  }

  // The int64 ids of a vocabulary and the row of each, in no order.
  std::pair<Int64s, Int64s> Vocabulary(const std::string& table) const {
    std::vector<int64_t> ids, rows;
    MapOf(table).int64s().ForEach([&](const Int64Slot& slot) {
      ids.push_back(slot.id);
      rows.push_back(slot.row);
    });
    const auto array = [](const std::vector<int64_t>& v) {
      return Int64s(static_cast<py::ssize_t>(v.size()), v.data());
    };
    return {array(ids), array(rows)};
  }

  size_t VocabularyBytes() const {
    size_t bytes = 0;
    for (const RowMap& map : rows_) bytes += map.bytes();
    return bytes;
  }

 private:
  const RowMap& MapOf(const std::string& table) const {
    const auto& tables = file_.schema.tables;
    const auto found = std::find_if(tables.begin(), tables.end(), [&](const Table& t) { return t.name == table; });
    if (found == tables.end()) throw py::key_error(table);
    return rows_[static_cast<size_t>(found - tables.begin())];
  }

  template <typename Find>
  static Int64s Found(py::ssize_t count, const Find& find) {
    Int64s rows(count);
    int64_t* out = rows.mutable_data();
    const py::gil_scoped_release release;
    find(out);
    return rows;
  }

  ModelFile file_;
  std::vector<RowMap> rows_;
};

// Views into the file, which they keep open.
py::dict Parameters(const py::object& self) {
  py::dict result;
  for (const auto& [name, parameter] : self.cast<const OpenModelFile&>().file().parameters) {
    py::array view(py::dtype(onnx::TypeName(parameter.dtype)), parameter.shape, parameter.data, self);
    view.attr("setflags")(py::arg("write") = false);
    result[py::str(name)] = view;
  }
  return result;
}

}  // namespace

void RegisterParameters(py::module_& module) {
  py::class_<OpenModelFile>(module, "ModelFile")
      .def_static(
          "from_file",
          [](const std::string& path) {
            return std::make_unique<OpenModelFile>(ReadModelFile(std::filesystem::path(path)));
          },
          py::arg("path"), py::call_guard<py::gil_scoped_release>())
      .def_static(
          "from_bytes",
          [](const py::bytes& data, const std::string& folder) {
            return std::make_unique<OpenModelFile>(ReadModelFile(data, folder));
          },
          py::arg("data"), py::arg("folder"))
      .def_property_readonly("metadata", [](const OpenModelFile& open) { return open.file().metadata; })
      .def_property_readonly("vocabulary_bytes", &OpenModelFile::VocabularyBytes)
      .def("parameters", [](const py::object& self) { return Parameters(self); })
      .def("rows", &OpenModelFile::Rows, py::arg("table"), py::arg("ids"))
      .def("vocabulary", &OpenModelFile::Vocabulary, py::arg("table"));
}

}  // namespace din_infer
