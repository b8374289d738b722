// Parameters in a file beside the model: mapped where all is well, refused where a path, a size or a number is not.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <utility>

#include "base/errors.hpp"
#include "onnx/model_file.hpp"
#include "onnx_writer.hpp"

namespace din_infer {
namespace {

namespace fs = std::filesystem;
using Entries = std::vector<std::pair<std::string, std::string>>;

constexpr int64_t kBytes = 4 * 3 * 4;  // of table.item

class OnnxExternalData : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "din_infer_XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = fs::path(name) / "model";
    fs::create_directory(folder_);
    WriteFile(folder_ / "tables.data", 16 + kBytes);
    WriteFile(folder_.parent_path() / "outside.data", 16 + kBytes);
  }
  void TearDown() override { fs::remove_all(folder_.parent_path()); }

  static void WriteFile(const fs::path& path, int64_t bytes) {
    std::ofstream file(path, std::ios::binary);
    for (int64_t i = 0; i < bytes / 4; ++i) {
      const auto value = static_cast<float>(i);
      file.write(reinterpret_cast<const char*>(&value), 4);
    }
  }

  ModelFile Read(const Entries& entries, DType table_dtype = DType::kFloat32) const {
    testing::FileContents contents = testing::ValidContents(table_dtype);
    contents.external["table.item"] = entries;
    return ReadModelFile(testing::Write(contents), folder_);
  }

  void ExpectError(const Entries& entries, const std::string& part) const {
    try {
      Read(entries);
      ADD_FAILURE() << "expected an error with: " << part;
    } catch (const ModelFileError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }

  fs::path folder_;
};

TEST_F(OnnxExternalData, IsReadFromItsOffset) {
  const ModelFile file =
      Read({{"location", "tables.data"}, {"offset", "16"}, {"length", std::to_string(kBytes)}, {"checksum", "x"}});
  EXPECT_EQ(file.parameters.at("table.item").Floats()[0], 4.0F);
  const ModelFile whole = Read({{"location", "tables.data"}});
  EXPECT_EQ(whole.parameters.at("table.item").Floats()[1], 1.0F);
}

TEST_F(OnnxExternalData, IsAlignedEvenAtOddOffsets) {
  const ModelFile file = Read({{"location", "tables.data"}, {"offset", "3"}});
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.parameters.at("table.item").data) % alignof(float), 0U);
}

TEST_F(OnnxExternalData, MayBeOfEachType) {
  const auto table = [&](const Entries& entries, DType dtype) {
    return Read(entries, dtype).parameters.at("table.item");
  };
  EXPECT_EQ(table({{"location", "tables.data"}, {"offset", "40"}, {"length", "24"}}, DType::kFloat16).bytes, 24U);
  EXPECT_EQ(table({{"location", "tables.data"}, {"offset", "52"}, {"length", "12"}}, DType::kInt8).bytes, 12U);
  const Parameter odd = table({{"location", "tables.data"}, {"offset", "3"}}, DType::kFloat16);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(odd.data) % 2, 0U);
  EXPECT_NE(reinterpret_cast<uintptr_t>(table({{"location", "tables.data"}, {"offset", "3"}}, DType::kInt8).data) % 4,
            0U);  // bytes are mapped wherever they lie
  EXPECT_THROW(table({{"location", "tables.data"}, {"length", "48"}}, DType::kFloat16), ModelFileError);
  EXPECT_THROW(table({{"location", "tables.data"}, {"offset", "53"}}, DType::kInt8), ModelFileError);
}

TEST_F(OnnxExternalData, OutlivesItsName) {
  const ModelFile file = Read({{"location", "tables.data"}, {"offset", "16"}});
  fs::remove(folder_ / "tables.data");
  EXPECT_EQ(file.parameters.at("table.item").Floats()[11], 15.0F);
}

TEST_F(OnnxExternalData, StaysInsideTheFolder) {
  fs::create_symlink(folder_.parent_path() / "outside.data", folder_ / "link.data");
  fs::create_directory_symlink(folder_.parent_path(), folder_ / "up");
  fs::create_symlink("tables.data", folder_ / "inner.data");
  ExpectError({{"location", "../outside.data"}}, "inside the model's folder, got '../outside.data'");
  ExpectError({{"location", "sub/../../outside.data"}}, "inside the model's folder");
  ExpectError({{"location", (folder_ / "tables.data").string()}}, "inside the model's folder");
  ExpectError({{"location", "link.data"}}, "which links out of it");
  ExpectError({{"location", "up/outside.data"}}, "which links out of it");
  ExpectError({{"location", std::string("tables.data\0x", 13)}}, "inside the model's folder");
  ExpectError({}, "inside the model's folder, got ''");
  EXPECT_NO_THROW(Read({{"location", "inner.data"}}));
}

TEST_F(OnnxExternalData, IsCheckedBeforeItIsMapped) {
  const std::string length = std::to_string(kBytes);
  ExpectError({{"location", "tables.data"}, {"offset", "20"}}, "expected at least 68 bytes, got 64");
  ExpectError({{"location", "tables.data"}, {"length", "4"}},
              "expected 48 bytes of external data for shape [4, 3], got 4");
  ExpectError({{"location", "tables.data"}, {"offset", "-4"}}, "expected a number of bytes, got '-4'");
  ExpectError({{"location", "tables.data"}, {"offset", "0x10"}}, "expected a number of bytes");
  ExpectError({{"location", "tables.data"}, {"offset", "9223372036854775807"}}, "expected at least");
  ExpectError({{"location", "tables.data"}, {"offset", "99999999999999999999"}}, "expected a number of bytes");
  ExpectError({{"location", "tables.data"}, {"basepath", "/"}}, "unknown entry 'basepath'");
  ExpectError({{"location", "missing.data"}}, "missing.data");
  ExpectError({{"location", "."}}, "expected a regular file");
  fs::create_directory(folder_ / "empty");
  std::ofstream(folder_ / "empty.data").close();
  ExpectError({{"location", "empty.data"}}, "expected at least 48 bytes, got 0");
}

}  // namespace
}  // namespace din_infer
