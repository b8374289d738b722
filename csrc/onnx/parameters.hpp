// The weights of a model file: initializers inside it or in external data.
#pragma once

#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/page_allocator.hpp"
#include "onnx/graph.hpp"
#include "onnx/mapping.hpp"
#include "onnx/model_file.hpp"
#include "onnx/tensor.hpp"

namespace din_infer::onnx {

// What the views of a ModelFile point into.
struct Storage {
  std::unique_ptr<Mapping> file;
  std::string bytes;
  std::map<std::filesystem::path, std::unique_ptr<Mapping>> external;
  std::deque<std::vector<char, PageAllocator<char>>> copies;  // of data that is not aligned, or not in raw form
  std::function<void()> pause;                                // called now and then by who reads a lot; may be empty

  // use(piece), piece after piece. Where `forget`, what has been used does not stay in this process's memory, so the
  // whole is never in it together with what is made of it.
  template <class Use>
  void Read(std::string_view from, bool forget, const Use& use) const {
    constexpr size_t kPiece = size_t{256} << 10;  // 0.1 ms
    for (size_t at = 0; at < from.size(); at += kPiece) {
      use(from.substr(at, kPiece));
      if (forget) Forget(from.substr(at, kPiece));
      if (pause) pause();
    }
    if (forget) Forget(from);  // pages that two pieces share
  }
};

// Takes a GraphProto's initializers one by one and checks each against the parameters that are expected.
class ParameterReader {
 public:
  ParameterReader(const std::vector<ParameterShape>& expected, std::filesystem::path folder, Storage* storage);

  void Add(std::string_view initializer);
  // Throws where a parameter is missing.
  std::map<std::string, Parameter> Finish();

 private:
  const void* Data(Tensor* tensor, DType dtype, uint64_t bytes, const std::string& where);
  std::string_view ExternalData(const Tensor& tensor, uint64_t bytes, const std::string& where);
  const void* Aligned(std::string_view data, uint64_t item);
  const void* Copy(std::string_view data);  // which is not read again

  std::map<std::string, const ParameterShape*, std::less<>> expected_;
  std::filesystem::path folder_;
  Storage* storage_;
  std::map<std::string, Parameter> parameters_;
};

}  // namespace din_infer::onnx
