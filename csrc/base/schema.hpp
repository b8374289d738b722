// What a model reads; the C++ form of din_infer/schema.py, which defines the meaning of each field.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace din_infer {

enum class DType { kInt64, kString, kFloat32, kFloat16, kInt8 };
enum class Ids { kVocabulary, kHash, kIdentity };
enum class Many { kNo, kMean, kSum };

struct Table {
  std::string name;
  int64_t dim = 0;
  Ids ids = Ids::kVocabulary;
  int64_t size = 0;  // of kHash and kIdentity
  DType dtype = DType::kInt64;
};

inline constexpr int kDense = -1;
inline constexpr int64_t kMaxKeyWidth = int64_t{1} << 16;  // its square, and sums over features, stay far from overflow

struct Feature {
  std::string name;
  int table = kDense;  // index into Schema::tables, or kDense for a standardised number
  Many many = Many::kNo;
};

// One of user, context, candidate, or a history.
struct Group {
  std::string name;
  std::vector<Feature> features;
};

struct History : Group {
  bool oldest_first = true;
  int64_t max_length = 0;  // 0: no limit
  bool keep_latest = true;

  // Of more than max_length behaviours, whether the model reads the last ones of the list.
  bool keeps_tail() const { return oldest_first == keep_latest; }
};

struct Schema {
  std::vector<Table> tables;
  Group user, context, candidate;
  std::vector<History> histories;

  int64_t Width(const Feature& feature) const {
    return feature.table == kDense ? 1 : tables[static_cast<size_t>(feature.table)].dim;
  }
  DType Type(const Feature& feature) const {
    return feature.table == kDense ? DType::kFloat32 : tables[static_cast<size_t>(feature.table)].dtype;
  }
  int64_t Width(const Group& group) const {  // D where the group is a history
    int64_t width = 0;
    for (const Feature& feature : group.features) width += Width(feature);
    return width;
  }
  // User, context, candidate, then the histories.
  std::vector<const Group*> Groups() const {
    std::vector<const Group*> groups = {&user, &context, &candidate};
    for (const History& history : histories) groups.push_back(&history);
    return groups;
  }
  size_t FeatureCount() const {
    size_t count = 0;
    for (const Group* group : Groups()) count += group->features.size();
    return count;
  }
  // Tower input: user, pooled histories, candidate, context.
  int64_t TowerWidth() const {
    int64_t width = Width(user) + Width(candidate) + Width(context);
    for (const History& history : histories) width += Width(history);
    return width;
  }
};

// How embedding tables are stored: float32, float16 or int8. Throws ModelFileError.
DType ParseTableDType(std::string_view name);

// Reads the JSON that Schema.to_dict writes. Throws ModelFileError.
Schema ParseSchema(std::string_view json);

}  // namespace din_infer
