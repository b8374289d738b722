#include "reference.hpp"

#include <algorithm>
#include <cmath>

namespace din_infer::testing {

RandomUnit::RandomUnit(const UnitSemantics& semantics, int64_t dim, unsigned seed)
    : semantics_(semantics), dim_(dim), random_(seed) {
  semantics_.eps = 1e-8f;
  int64_t in = semantics.InputWidth(dim);
  std::vector<int64_t> widths = semantics.hidden;
  widths.push_back(1);
  for (int64_t out : widths) {
    weights_.push_back(Normal(in * out, 1 / std::sqrt(static_cast<float>(std::max<int64_t>(in, 1)))));
    biases_.push_back(Normal(out, 0.1f));
    alpha_.push_back(Normal(out, 0.3f));
    mean_.push_back(Normal(out, 0.1f));
    var_.push_back(Normal(out, 0.3f));
    for (float& v : var_.back()) v = 0.5f + std::abs(v);
    in = out;
  }
}

std::vector<float> RandomUnit::Normal(int64_t n, float deviation) {
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = normal(random_);
  return values;
}

LayerParameters RandomUnit::parameters() const {
  LayerParameters parameters;
  for (size_t l = 0; l < weights_.size(); ++l) {
    parameters.weights.push_back(weights_[l].data());
    parameters.biases.push_back(biases_[l].data());
    if (l + 1 == weights_.size()) break;
    parameters.alpha.push_back(alpha_[l].data());
    parameters.mean.push_back(mean_[l].data());
    parameters.var.push_back(var_[l].data());
    parameters.eps.push_back(semantics_.eps);
  }
  return parameters;
}

double RandomUnit::Activate(size_t layer, size_t unit, double s) const {
  const double alpha = alpha_[layer][unit];
  switch (semantics_.activation) {
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-s));
    case Activation::kRelu:
      return std::max(s, 0.0);
    case Activation::kPRelu:
      return s < 0 ? alpha * s : s;
    case Activation::kTanh:
      return std::tanh(s);
    case Activation::kBiSigmoid:
      return 2 / (1 + std::exp(-s)) - 1;
    case Activation::kDice:
      break;
  }
  const double deviation = std::sqrt(static_cast<double>(var_[layer][unit]) + semantics_.eps);
  const double p = 1 / (1 + std::exp(-(s - mean_[layer][unit]) / deviation));
  return p * s + (1 - p) * alpha * s;
}

double RandomUnit::Score(const float* key, const float* query) const {
  std::vector<double> x;
  const auto add = [&](auto value) {
    for (int64_t i = 0; i < dim_; ++i) x.push_back(value(static_cast<double>(key[i]), static_cast<double>(query[i])));
  };
  if (semantics_.interaction == Interaction::kOuter) {
    add([](double k, double) { return k; });
    add([](double, double q) { return q; });
    for (int64_t i = 0; i < dim_; ++i) {
      for (int64_t j = 0; j < dim_; ++j) x.push_back(static_cast<double>(key[i]) * query[j]);
    }
  } else {
    add([](double, double q) { return q; });
    add([](double k, double) { return k; });
    add([](double k, double q) { return q - k; });
    add([](double k, double q) { return q * k; });
  }
  for (size_t l = 0; l < weights_.size(); ++l) {
    std::vector<double> y(biases_[l].size());
    for (size_t h = 0; h < y.size(); ++h) {
      y[h] = biases_[l][h];
      for (size_t i = 0; i < x.size(); ++i) y[h] += static_cast<double>(weights_[l][h * x.size() + i]) * x[i];
      if (l + 1 < weights_.size()) y[h] = Activate(l, h, y[h]);
    }
    x = std::move(y);
  }
  return x[0] * (semantics_.scale.has_value() ? *semantics_.scale : 1.0);
}

std::vector<double> RandomUnit::Weights(const std::vector<float>& keys, const float* query,
                                        const std::vector<float>& counts) const {
  std::vector<double> weights;
  for (size_t t = 0; t * static_cast<size_t>(dim_) < keys.size(); ++t) {
    weights.push_back(Score(keys.data() + t * static_cast<size_t>(dim_), query));
  }
  double max = -INFINITY, sum = 0;
  for (double w : weights) max = std::max(max, w);
  for (size_t t = 0; t < weights.size(); ++t) {
    if (semantics_.softmax) weights[t] = std::exp(weights[t] - max);
    if (!counts.empty()) weights[t] *= counts[t];
    sum += weights[t];
  }
  if (semantics_.softmax) {
    for (double& w : weights) w /= sum;
  }
  return weights;
}

std::vector<double> RandomUnit::Pool(const std::vector<float>& keys, const float* query,
                                     const std::vector<float>& counts) const {
  const std::vector<double> weights = Weights(keys, query, counts);
  const size_t dim = static_cast<size_t>(dim_);
  std::vector<double> interest(dim, 0.0);
  for (size_t t = 0; t < weights.size(); ++t) {
    for (size_t i = 0; i < dim; ++i) interest[i] += weights[t] * keys[t * dim + i];
  }
  return interest;
}

std::vector<double> RandomUnit::Bound(const std::vector<float>& keys, const float* query,
                                      const std::vector<float>& counts) const {
  const std::vector<double> weights = Weights(keys, query, counts);
  const size_t dim = static_cast<size_t>(dim_);
  std::vector<double> bound(dim, 0.0);
  for (size_t t = 0; t < weights.size(); ++t) {
    const double count = counts.empty() ? 1 : counts[t];
    for (size_t i = 0; i < dim; ++i) {
      bound[i] += (std::abs(weights[t]) + count) * std::abs(keys[t * dim + i]) * 16 / (1 << 24);
    }
  }
  return bound;
}

}  // namespace din_infer::testing
