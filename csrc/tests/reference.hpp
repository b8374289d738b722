// A random activation unit, and what it computes, in float64 and without the fold: x = [k, q, vec(k (x) q)] written
// out.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "engine/activation_unit.hpp"

namespace din_infer::testing {

class RandomUnit {
 public:
  RandomUnit(const UnitSemantics& semantics, int64_t dim, unsigned seed);

  const UnitSemantics& semantics() const { return semantics_; }
  int64_t dim() const { return dim_; }
  LayerParameters parameters() const;
  std::vector<float> Normal(int64_t n, float deviation);

  // keys [T, D], query [D], counts [T] or empty -> user interest [D].
  std::vector<double> Pool(const std::vector<float>& keys, const float* query, const std::vector<float>& counts) const;

  // The bound of the accuracy tests: sum_t (|s_t| + 1) |k_t| 16 / 2^24 per element of the interest; softmax's s is its
  // weight.
  std::vector<double> Bound(const std::vector<float>& keys, const float* query, const std::vector<float>& counts) const;

 private:
  double Score(const float* key, const float* query) const;
  double Activate(size_t layer, size_t unit, double s) const;
  std::vector<double> Weights(const std::vector<float>& keys, const float* query,
                              const std::vector<float>& counts) const;

  UnitSemantics semantics_;
  int64_t dim_;
  std::mt19937 random_;
  std::vector<std::vector<float>> weights_, biases_, alpha_, mean_, var_;
};

}  // namespace din_infer::testing
