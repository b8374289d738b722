// consumer MODEL BATCH: prints the score of each candidate, in hexadecimal. BATCH is as in consumer_c.
#include <din_infer/din_infer.hpp>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <iostream>

namespace {

// A batch that owns its memory.
class FileBatch {
 public:
  explicit FileBatch(const char* path) : file_(path) {
    batch.requests = Read<int64_t>();
    for (std::string name, type; file_ >> name >> type;) {
      const int64_t levels = Read<int64_t>();
      din_infer::Column& column = batch.columns[name] = Values(type);
      for (int64_t level = 0; level < levels; ++level) {
        const auto& offsets = Array(integers_);
        column.lists.push_back({offsets.data(), static_cast<int64_t>(offsets.size())});
      }
    }
  }

  din_infer::Batch batch;

 private:
  template <class T>
  T Read() {
    std::string text;  // streams do not read all the numbers that they write
    if (!(file_ >> text)) throw std::runtime_error("expected a number");
    if constexpr (std::is_same_v<T, float>) return std::strtof(text.c_str(), nullptr);
    return static_cast<T>(std::strtoll(text.c_str(), nullptr, 10));
  }

  template <class T>
  const std::vector<T>& Array(std::deque<std::vector<T>>& arrays) {
    std::vector<T>& array = arrays.emplace_back(static_cast<size_t>(Read<int64_t>()));
    for (T& value : array) value = Read<T>();
    return array;
  }

  din_infer::Column Values(const std::string& type) {
    if (type == "float32") {
      const auto& values = Array(floats_);
      return din_infer::Column::floats(values.data(), static_cast<int64_t>(values.size()));
    }
    if (type == "int64") {
      const auto& values = Array(integers_);
      return din_infer::Column::int64s(values.data(), static_cast<int64_t>(values.size()));
    }
    const auto& characters = Array(characters_);
    const auto& offsets = Array(integers_);
    return din_infer::Column::strings(characters.data(), offsets.data(), static_cast<int64_t>(offsets.size()) - 1);
  }

  std::ifstream file_;
  std::deque<std::vector<int64_t>> integers_;
  std::deque<std::vector<float>> floats_;
  std::deque<std::vector<char>> characters_;
};

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) throw std::runtime_error("expected MODEL BATCH");
  const din_infer::Model model = din_infer::Model::load(argv[1]);
  din_infer::Scorer scorer(model);
  const FileBatch file(argv[2]);
  std::vector<float> scores(static_cast<size_t>(scorer.candidates(file.batch)));
  scorer.score(file.batch, scores.data());
  for (const float score : scores) std::printf("%a\n", static_cast<double>(score));
} catch (const din_infer::Error& error) {  // whose type the library and this program share
  std::cerr << "din_infer::Error: " << error.what() << '\n';
  return 1;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 2;
}
