// Plain Python lists and tuples as columns. A small request is made of a few such lists, which NumPy takes a
// microsecond each to read; what is anything else is left to the callers, who know what to say of it.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "python/bindings.hpp"

namespace py = pybind11;

namespace din_infer {
namespace {

template <typename T>
py::array_t<T> ToArray(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

// The values of one column, one after another. Append returns false for what is none, or would not be read alike by
// NumPy.
class Int64Values {
 public:
  bool Append(PyObject* value) {
    int overflow = 0;
    if (!PyLong_CheckExact(value)) return false;
    values_.push_back(PyLong_AsLongLongAndOverflow(value, &overflow));
    return overflow == 0;
  }
  py::object Array() const { return ToArray(values_); }

 private:
  std::vector<int64_t> values_;
};

class FloatValues {
 public:
  bool Append(PyObject* value) {
    if (PyFloat_CheckExact(value)) return Append(PyFloat_AS_DOUBLE(value));
    constexpr long long kExact = 1LL << 53;  // beside floats, NumPy rounds larger ones twice
    int overflow = 0;
    if (!PyLong_CheckExact(value)) return false;
    const long long integer = PyLong_AsLongLongAndOverflow(value, &overflow);
    return overflow == 0 && -kExact <= integer && integer <= kExact && Append(static_cast<double>(integer));
  }
  py::object Array() const { return ToArray(values_); }

 private:
  bool Append(double value) {
    values_.push_back(static_cast<float>(value));
    return std::isfinite(values_.back());
  }

  std::vector<float> values_;
};

class StringValues {
 public:
  bool Append(PyObject* value) {
    if (!PyUnicode_CheckExact(value)) return false;
    Py_ssize_t size = 0;
    const char* text = PyUnicode_AsUTF8AndSize(value, &size);
    if (text == nullptr) {  // half of a surrogate pair
      PyErr_Clear();
      return false;
    }
    characters_.insert(characters_.end(), text, text + size);
    offsets_.push_back(static_cast<int64_t>(characters_.size()));
    return true;
  }
  py::object Array() const { return py::make_tuple(ToArray(characters_), ToArray(offsets_)); }

 private:
  std::vector<uint8_t> characters_;
  std::vector<int64_t> offsets_{0};
};

// Appends what a list holds `depth` levels down, and for each level its lists' ends; `held` counts each level's
// entries.
template <class Values>
bool Read(PyObject* list, size_t depth, std::vector<int64_t>* ends, int64_t* held, Values& values) {
  if (!PyList_CheckExact(list) && !PyTuple_CheckExact(list)) return false;
  const Py_ssize_t size = PySequence_Fast_GET_SIZE(list);
  *held += size;
  for (Py_ssize_t i = 0; i < size; ++i) {
    PyObject* const entry = PySequence_Fast_GET_ITEM(list, i);  // no Python code runs that could change the list
    if (depth == 0) {
      if (!values.Append(entry)) return false;
      continue;
    }
    if (!Read(entry, depth - 1, ends + 1, held + 1, values)) return false;
    ends->push_back(held[1]);
  }
  return true;
}

template <class Values>
std::optional<py::tuple> Flatten(PyObject* list, size_t depth) {
  Values values;
  std::vector<std::vector<int64_t>> ends(depth + 1, {0});  // one more, so that the innermost lists may point to it
  std::vector<int64_t> held(depth + 1, 0);
  if (!Read(list, depth, ends.data(), held.data(), values)) return std::nullopt;
  py::tuple column(depth + 1);
  column[0] = values.Array();
  for (size_t level = 0; level < depth; ++level) column[level + 1] = ToArray(ends[level]);
  return column;
}

std::optional<py::tuple> FlattenAs(const py::object& lists, size_t depth, const std::string& dtype) {
  if (dtype == "int64") return Flatten<Int64Values>(lists.ptr(), depth);
  if (dtype == "float32") return Flatten<FloatValues>(lists.ptr(), depth);
  if (dtype == "string") return Flatten<StringValues>(lists.ptr(), depth);
  throw py::key_error(dtype);
}

}  // namespace

void RegisterLists(py::module_& module) {
  module.def("flatten", &FlattenAs, py::arg("lists"), py::arg("depth"), py::arg("dtype"));
}

}  // namespace din_infer
