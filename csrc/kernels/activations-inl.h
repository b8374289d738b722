// Activation functions on vectors of float. Included once per target.
#if defined(DIN_INFER_KERNELS_ACTIVATIONS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DIN_INFER_KERNELS_ACTIVATIONS_INL_H_
#undef DIN_INFER_KERNELS_ACTIVATIONS_INL_H_
#else
#define DIN_INFER_KERNELS_ACTIVATIONS_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/kernels.hpp"

HWY_BEFORE_NAMESPACE();
namespace din_infer::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// The larger and the smaller of a bound and x; NaN where x is NaN. x86's instructions return their second operand where
// one is NaN, and Arm's return NaN; Highway's scalar code drops it.
HWY_INLINE V AtLeast(V bound, V x) {
#if HWY_TARGET == HWY_SCALAR
  return hn::IfThenElse(hn::Lt(x, bound), bound, x);
#else
  return hn::Max(bound, x);
#endif
}
HWY_INLINE V AtMost(V bound, V x) {
#if HWY_TARGET == HWY_SCALAR
  return hn::IfThenElse(hn::Gt(x, bound), bound, x);
#else
  return hn::Min(bound, x);
#endif
}
HWY_INLINE V Clamp(V x, float limit) { return AtLeast(hn::Set(D(), -limit), AtMost(hn::Set(D(), limit), x)); }

// x = n ln2 + r with |r| <= ln2 / 2; returns r, and in `shifted_n` n where a float's exponent stands.
// n is read off the low bits of x log2(e) + 1.5 * 2^23, so |x| must stay below 2^21.
HWY_INLINE V ReduceExp(V x, hn::Vec<hn::RebindToSigned<D>>& shifted_n) {
  const D d;
  const hn::RebindToSigned<D> di;
  const V magic = hn::Set(d, 12582912.0f);
  const V rounded = hn::MulAdd(x, hn::Set(d, 1.44269504f), magic);
  shifted_n = hn::ShiftLeft<23>(hn::BitCast(di, rounded));
  const V n = hn::Sub(rounded, magic);
  const V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);  // ln2 in two parts, the first exact in n * part
  return hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
}

// (e^r - 1 - r) / r^2 for |r| <= ln2 / 2, so that e^r has a relative error below 4e-9: minimax, fitted by Lawson's
// iteration.
HWY_INLINE V ExpTail(V r) {
  const D d;
  V p = hn::Set(d, 1.38145988e-3f);
  p = hn::MulAdd(p, r, hn::Set(d, 8.36871658e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1668389e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.66665211e-1f));
  return hn::MulAdd(p, r, hn::Set(d, 0.49999994f));
}

// e^x for |x| <= 87; larger magnitudes give e^(+-87), NaN gives NaN.
HWY_INLINE V Exp(V x) {
  const D d;
  const hn::RebindToSigned<D> di;
  hn::Vec<decltype(di)> shifted_n;
  const V r = ReduceExp(Clamp(x, 87.0f), shifted_n);
  const V p = hn::MulAdd(hn::MulAdd(ExpTail(r), r, hn::Set(d, 1.0f)), r, hn::Set(d, 1.0f));
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), shifted_n));
}

// 1 / (1 + 2^t) with t = -x log2(e). Coarser than Exp, and cheaper: t is rounded once, and 2^f on |f| <= 1/2 is a
// minimax polynomial of degree 5 with a relative error of 1.6e-7, of which the quotient keeps at most a quarter.
HWY_INLINE V Sigmoid(V x) {
  const D d;
  const hn::RebindToSigned<D> di;
  const V one = hn::Set(d, 1.0f);
  const V magic = hn::Set(d, 12582912.0f);
  const V t = Clamp(hn::Mul(x, hn::Set(d, -1.44269504f)), 126.0f);
  const V rounded = hn::Add(t, magic);
  const V f = hn::Sub(t, hn::Sub(rounded, magic));
  V p = hn::Set(d, 1.32764608e-3f);
  p = hn::MulAdd(p, f, hn::Set(d, 9.67555307e-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 5.55071346e-2f));
  p = hn::MulAdd(p, f, hn::Set(d, 2.40221202e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 6.93146944e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.00000012f));
  const V power = hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, rounded))));
  return hn::Div(one, hn::Add(one, power));
}

// tanh(x) = -m / (2 + m) with m = e^(-2|x|) - 1, which keeps its relative accuracy near 0.
HWY_INLINE V Tanh(V x) {
  const D d;
  const hn::RebindToSigned<D> di;
  const V one = hn::Set(d, 1.0f);
  hn::Vec<decltype(di)> shifted_n;
  const V r = ReduceExp(hn::Mul(hn::Abs(Clamp(x, 20.0f)), hn::Set(d, -2.0f)), shifted_n);
  const V power = hn::BitCast(d, hn::Add(hn::BitCast(di, one), shifted_n));  // 2^n
  const V expm1 = hn::MulAdd(hn::Mul(ExpTail(r), r), r, r);
  const V m = hn::MulAdd(power, expm1, hn::Sub(power, one));
  return hn::CopySign(hn::Div(m, hn::Add(hn::Set(d, 2.0f), m)), x);
}

// Parameters of a layer's activation where lanes are columns, so that all are of one unit, and where lanes are units.
struct ColumnLanes {
  const Layer& layer;
  int64_t unit;
  HWY_INLINE V operator()(const float* parameter) const { return hn::Set(D(), parameter[unit]); }
};
struct UnitLanes {
  const Layer& layer;
  int64_t unit;
  HWY_INLINE V operator()(const float* parameter) const { return hn::LoadU(D(), parameter + unit); }
};

// One functor per activation, applied to the lanes of `of`.
struct ActSigmoid {
  template <class Of>
  static HWY_INLINE V Apply(V x, const Of&) {
    return Sigmoid(x);
  }
};
struct ActRelu {
  template <class Of>
  static HWY_INLINE V Apply(V x, const Of&) {
    return AtLeast(hn::Zero(D()), x);
  }
};
struct ActPRelu {
  template <class Of>
  static HWY_INLINE V Apply(V x, const Of& of) {
    return hn::IfThenElse(hn::Lt(x, hn::Zero(D())), hn::Mul(x, of(of.layer.alpha)), x);
  }
};
struct ActTanh {
  template <class Of>
  static HWY_INLINE V Apply(V x, const Of&) {
    return Tanh(x);
  }
};
struct ActBiSigmoid {  // 2 / (1 + e^-x) - 1 = tanh(x / 2)
  template <class Of>
  static HWY_INLINE V Apply(V x, const Of&) {
    return Tanh(hn::Mul(x, hn::Set(D(), 0.5f)));
  }
};
struct ActDice {  // p x + (1 - p) alpha x = x (alpha + (1 - alpha) p)
  template <class Of>
  static HWY_INLINE V Apply(V x, const Of& of) {
    const V alpha = of(of.layer.alpha);
    const V p = Sigmoid(hn::Mul(hn::Sub(x, of(of.layer.mean)), of(of.layer.inv_std)));
    return hn::Mul(x, hn::MulAdd(p, hn::Sub(hn::Set(D(), 1.0f), alpha), alpha));
  }
};

// body(Act()) with the functor of `activation`.
template <class Body>
HWY_INLINE void WithActivation(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::kSigmoid:
      return body(ActSigmoid());
    case Activation::kRelu:
      return body(ActRelu());
    case Activation::kPRelu:
      return body(ActPRelu());
    case Activation::kTanh:
      return body(ActTanh());
    case Activation::kDice:
      return body(ActDice());
    case Activation::kBiSigmoid:
      return body(ActBiSigmoid());
  }
}

}  // namespace din_infer::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
