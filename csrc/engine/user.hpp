// What a user keeps between calls.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "din_infer/din_infer.hpp"
#include "engine/batch.hpp"
#include "engine/model.hpp"

namespace din_infer {

struct User::State {
  struct Keys {
    FloatBuffer tiles;
    int64_t count = 0;

    UnitKeys Packed() const { return {tiles.data(), count, nullptr}; }
  };

  explicit State(Model shared_model) : model(std::move(shared_model)), parts(model.parts()) {}

  void Prepare(const CheckedBatch& batch);
  void Append(const CheckedBatch& batch);
  size_t MemoryBytes() const;

  Model model;
  const Model::Parts& parts;
  FloatBuffer features;         // of the user, embedded: [parts.user.width()]
  std::vector<Keys> histories;  // what the model reads of each

 private:
  // A history with the batch's behaviours: a longer one, or another end of it.
  Keys Longer(const CheckedBatch& batch, size_t history, int64_t* unknown) const;
};

}  // namespace din_infer
