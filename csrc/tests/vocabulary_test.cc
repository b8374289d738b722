// Ids against what a standard map says of them.
#include "engine/vocabulary.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <random>
#include <string>

#include "base/errors.hpp"

namespace din_infer {
namespace {

// Ids one after another, as columns have them.
struct Strings {
  explicit Strings(const std::vector<std::string>& ids) {
    for (const std::string& id : ids) characters += id, offsets.push_back(static_cast<int64_t>(characters.size()));
  }
  std::string characters;
  std::vector<int64_t> offsets{0};
};

std::vector<int64_t> Rows(const RowMap& map, const std::vector<int64_t>& ids) {
  std::vector<int64_t> rows(ids.size(), -7);
  map.Rows(ids.data(), static_cast<int64_t>(ids.size()), rows.data());
  return rows;
}

std::vector<int64_t> Rows(const RowMap& map, const std::vector<std::string>& ids) {
  const Strings strings(ids);
  std::vector<int64_t> rows(ids.size(), -7);
  map.Rows(strings.characters.data(), strings.offsets.data(), static_cast<int64_t>(ids.size()), rows.data());
  return rows;
}

// Every id of `known` has a row of its own; `asked` are looked up.
template <typename Id>
void ExpectAsMap(const std::vector<Id>& known, const std::vector<Id>& asked) {
  Vocabulary vocabulary;
  std::map<Id, int64_t> expected;
  for (const Id& id : known) {
    const int64_t row = static_cast<int64_t>(expected.size()) + 1;
    if (!expected.emplace(id, row).second) continue;
    if constexpr (std::is_same_v<Id, std::string>) {
      vocabulary.string_keys.push_back(expected.find(id)->first);
    } else {
      vocabulary.int64_keys.push_back(id);
    }
    vocabulary.rows.push_back(row);
  }
  const std::vector<int64_t> rows = Rows(RowMap(Table{}, vocabulary), asked);
  for (size_t i = 0; i < asked.size(); ++i) {
    const auto found = expected.find(asked[i]);
    EXPECT_EQ(rows[i], found == expected.end() ? 0 : found->second) << asked[i];
  }
}

TEST(RowMap, FindsIntegers) {
  constexpr int64_t kLow = std::numeric_limits<int64_t>::min(), kHigh = std::numeric_limits<int64_t>::max();
  std::mt19937_64 random(0);
  std::vector<int64_t> close, far, multiples;
  for (int64_t i = -500; i < 500; ++i) {
    close.push_back(i);
    far.push_back(static_cast<int64_t>(random()));
    multiples.push_back(i * (int64_t{1} << 52));
  }
  for (const auto& known : {std::vector<int64_t>{}, {0}, {kLow, -1, 0, kHigh}, close, far, multiples}) {
    std::vector<int64_t> asked = known;
    for (const int64_t id : known) asked.push_back(static_cast<int64_t>(static_cast<uint64_t>(id) + 1));
    asked.insert(asked.end(), {kLow, -1, 0, 1, kHigh});
    ExpectAsMap(known, asked);
  }
}

TEST(RowMap, FindsStrings) {
  std::vector<std::string> known = {"", std::string(1, '\0'), std::string(2, '\0'), "a", "caf\xc3\xa9"};
  for (size_t length = 1; length < 40; ++length) {
    known.push_back(std::string(length, 'x'));
    known.push_back(std::string(length, 'x') + '\0');
    for (size_t at = 0; at < length; ++at) (known.emplace_back(length, 'x'))[at] = 'y';
  }
  std::vector<std::string> asked = known;
  for (const std::string& id : known) asked.push_back(id + 'z'), asked.push_back('z' + id);
  ExpectAsMap(known, asked);
  ExpectAsMap({}, asked);
}

TEST(RowMap, AsksForDifferentIds) {
  Table table;
  table.name = "item";
  const auto error = [&](const Vocabulary& vocabulary) -> std::string {
    try {
      RowMap(table, vocabulary);
    } catch (const ModelFileError& found) {
      return found.what();
    }
    return "";
  };
  const std::string expected = "vocabulary of table item: expected different ids, got one twice, at 2";
  EXPECT_EQ(error({{1, 2, 1}, {}, {1, 2, 3}}), expected);
  EXPECT_EQ(error({{}, {"a", "b", "a"}, {1, 2, 3}}), expected);
  EXPECT_EQ(error({{}, {"a", "b", ""}, {1, 2, 2}}), "");
}

TEST(RowMap, CountsWhatItHolds) {
  Vocabulary vocabulary;
  for (int64_t id = 0; id < 1000; ++id) vocabulary.int64_keys.push_back(id), vocabulary.rows.push_back(id);
  EXPECT_NEAR(static_cast<double>(RowMap(Table{}, vocabulary).bytes()), 32'000, 100);
}

TEST(RowMap, HashesAndChecksTheRange) {
  Table table;
  table.size = 10;
  table.ids = Ids::kHash;
  EXPECT_EQ(Rows(RowMap(table, {}), std::vector<int64_t>{-3, -10, 0, 9, 10, 27}),
            (std::vector<int64_t>{7, 0, 0, 9, 0, 7}));
  table.ids = Ids::kIdentity;
  EXPECT_EQ(Rows(RowMap(table, {}), std::vector<int64_t>{-1, 0, 9, 10}), (std::vector<int64_t>{0, 1, 10, 0}));
}

}  // namespace
}  // namespace din_infer
