// Batches for the golden models that a fuzzer chose.
#pragma once

#include <cstdint>
#include <cstring>
#include <deque>
#include <iterator>
#include <memory>
#include <string>

#include "din_infer/din_infer.hpp"
#include "fuzz/input.hpp"
#include "onnx/model_file.hpp"

namespace din_infer::fuzz {

// A valid batch, at first, in allocations of the exact sizes, so that AddressSanitizer sees a read past the end of any.
class FuzzedBatch {
 public:
  FuzzedBatch(const ModelFile& file, Input& input) : file_(file), input_(input) {
    batch.requests = input_.Below(6);
    Group(file_.schema.user, false);
    Group(file_.schema.context, false);
    Group(file_.schema.candidate, true);
    for (const History& history : file_.schema.histories) Group(history, true);
  }

  // Something that a caller can get wrong without lying about the size of its memory.
  void Spoil() {
    if (batch.columns.empty()) return;
    auto found = batch.columns.begin();
    std::advance(found, input_.Below(static_cast<int64_t>(batch.columns.size())));
    Column& column = found->second;
    spoilt = true;
    switch (input_.Take<uint8_t>() % 8) {
      case 0:
        batch.columns.erase(found);
        return;
      case 1:
        batch.requests = input_.Take<int64_t>();
        return;
      case 2:
        if (!column.lists.empty()) column.lists.pop_back();
        return;
      case 3:
        column.lists.push_back({Integers(1), 1});
        return;
      case 4:
        batch.columns["more" + std::to_string(input_.Take<uint8_t>())] = column;
        return;
      case 5:
        if (column.size > 0) --column.size;
        return;
      case 6:
        return SpoilEntry(const_cast<int64_t*>(column.string_offsets), column.size + 1);
      default:
        if (column.lists.empty()) return;
        const Offsets& lists =
            column.lists[static_cast<size_t>(input_.Below(static_cast<int64_t>(column.lists.size())))];
        SpoilEntry(const_cast<int64_t*>(lists.data), lists.size);
    }
  }

  Batch batch;
  bool spoilt = false;

 private:
  int64_t* Integers(size_t size) { return integers_.emplace_back(std::make_unique<int64_t[]>(size)).get(); }

  Offsets Lists(int64_t lists, int64_t longest) {
    int64_t* offsets = Integers(static_cast<size_t>(lists) + 1);
    for (int64_t i = 0; i < lists; ++i) offsets[i + 1] = offsets[i] + input_.Below(longest);
    return {offsets, lists + 1};
  }

  void Group(const din_infer::Group& group, bool listed) {
    if (group.features.empty()) return;
    const Offsets lists = listed ? Lists(batch.requests, 70) : Offsets{};
    for (const Feature& feature : group.features) {
      Column column;
      int64_t size = batch.requests;
      if (listed) column.lists.push_back(lists), size = lists.data[batch.requests];
      if (feature.many != Many::kNo) column.lists.push_back(Lists(size, 4)), size = column.lists.back().data[size];
      column.size = size;
      Values(feature, &column);
      batch.columns[group.name + "." + feature.name] = column;
    }
  }

  void Values(const Feature& feature, Column* column) {
    const auto size = static_cast<size_t>(column->size);
    if (feature.table == kDense) {
      float* values = floats_.emplace_back(std::make_unique<float[]>(size)).get();
      for (size_t i = 0; i < size; ++i) values[i] = static_cast<float>(input_.Take<int16_t>()) / 256;
      column->float_values = values;
      return;
    }
    if (input_.Take<uint8_t>() % 4 == 0) {
      const int64_t width = file_.schema.Width(feature);
      float* rows = floats_.emplace_back(std::make_unique<float[]>(size * static_cast<size_t>(width))).get();
      for (size_t i = 0; i < size; ++i) rows[i * static_cast<size_t>(width)] = input_.Take<float>();
      column->embedding_values = rows, column->embedding_width = width;
      return;
    }
    const Vocabulary& vocabulary = file_.vocabularies[static_cast<size_t>(feature.table)];
    if (file_.schema.Type(feature) == DType::kInt64) {
      int64_t* values = Integers(size);
      for (size_t i = 0; i < size; ++i) values[i] = Id(vocabulary);
      column->int64_values = values;
      return;
    }
    int64_t* offsets = Integers(size + 1);
    std::string text;
    for (size_t i = 0; i < size; ++i) {
      const uint8_t place = input_.Take<uint8_t>();
      if (place < vocabulary.string_keys.size()) {
        text += vocabulary.string_keys[place];
      } else {
        text.append(place % 5, static_cast<char>(place));
      }
      offsets[i + 1] = static_cast<int64_t>(text.size());
    }
    char* characters = characters_.emplace_back(std::make_unique<char[]>(text.size())).get();
    text.copy(characters, text.size());
    column->characters = characters, column->string_offsets = offsets;
  }

  int64_t Id(const Vocabulary& vocabulary) {
    const uint8_t place = input_.Take<uint8_t>();
    if (place < vocabulary.int64_keys.size()) return vocabulary.int64_keys[place];
    return place < 224 ? place - 64 : input_.Take<int64_t>();
  }

  void SpoilEntry(int64_t* offsets, int64_t size) {
    if (offsets == nullptr) return;
    const int64_t last = size - 1;  // what the last string offset says is the size of the caller's memory
    if (const int64_t place = input_.Below(size); place != last) offsets[place] = input_.Take<int64_t>();
  }

  const ModelFile& file_;
  Input& input_;
  std::deque<std::unique_ptr<int64_t[]>> integers_;
  std::deque<std::unique_ptr<float[]>> floats_;
  std::deque<std::unique_ptr<char[]>> characters_;
};

}  // namespace din_infer::fuzz
