#include "din_infer/din_infer.hpp"
#include "python/bindings.hpp"

namespace py = pybind11;

namespace din_infer {

// C++ exceptions arrive as the classes of din_infer.errors.
void RegisterErrors(py::module_&) {
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    const auto raise = [](const char* name, const std::exception& error) {
      py::set_error(py::module_::import("din_infer.errors").attr(name), error.what());
    };
    try {
      std::rethrow_exception(pointer);
    } catch (const InputError& error) {
      raise("InputError", error);
    } catch (const ModelFileError& error) {
      raise("ModelFileError", error);
    } catch (const Error& error) {
      raise("DINError", error);
    }
  });
}

}  // namespace din_infer
