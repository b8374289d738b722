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

// Vectors that go through an activation in step: its instructions wait for each other, those of its neighbours do not.
// Compilers keep the order that they are written in.
template <int kN>
struct Vectors {
  // Written out, as gcc compiles an implicit one for the default target, where that of Arm's vectors cannot be inlined.
  HWY_INLINE Vectors() {}
  HWY_INLINE explicit Vectors(V only) : v{only} {}

  V v[kN];
  HWY_INLINE V operator[](int i) const { return v[i]; }
};

template <int kN, class Of>
HWY_INLINE Vectors<kN> Each(const Of& of) {
  Vectors<kN> result;
#pragma GCC unroll 8
  for (int i = 0; i < kN; ++i) result.v[i] = of(i);
  return result;
}

// The larger and the smaller of a bound and x; NaN where x is NaN. x86's instructions return their second operand where
// one is NaN; Highway's scalar code and the instructions that it takes on Arm return the number.
HWY_INLINE V AtLeast(V bound, V x) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR
  return hn::Max(bound, x);
#else
  return hn::IfThenElse(hn::Lt(x, bound), bound, x);
#endif
}
HWY_INLINE V AtMost(V bound, V x) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR
  return hn::Min(bound, x);
#else
  return hn::IfThenElse(hn::Gt(x, bound), bound, x);
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

// e^x for |x| <= 87, within 1.2 ulp; larger magnitudes give e^(+-87), NaN gives NaN.
HWY_INLINE V Exp(V x) {
  const D d;
  const hn::RebindToSigned<D> di;
  hn::Vec<decltype(di)> shifted_n;
  const V r = ReduceExp(Clamp(x, 87.0f), shifted_n);
  const V p = hn::MulAdd(hn::MulAdd(ExpTail(r), r, hn::Set(d, 1.0f)), r, hn::Set(d, 1.0f));
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), shifted_n));
}

// The powers 2^t that a sigmoid is right for: all, or those below 2^126, where a larger one gives NaN. The bound that
// makes up the difference is one of its 13 instructions with AVX-512; elsewhere 2^t needs it anyway.
enum class Powers { kAll, kInRange };
inline constexpr float kLargestPower = 0x1.f7fffep6f;  // the float below 126

// Powers of two in a sigmoid: 2^t = 2^(n + f), n a multiple of 1 / 2^kStepBits. Where one instruction looks up a table
// of a vector or two, 2^n comes from there and the polynomial of f may be short. kShortPower are its coefficients.
// OneOverOnePlusBounded is 1 / (1 + 2^t) for t < 126.
#if HWY_ARCH_X86 && HWY_MAX_BYTES == 64
inline constexpr Powers kFastPowers = Powers::kInRange;
inline constexpr int kStepBits = 5;
// The table has four times the powers, the polynomial a fourth: 2^126 overflows, as 1 / (1 + 2^t) would be denormal.
inline constexpr float kShortPower[] = {0.242652714f / 4, 0.693123758f / 4, 1.0f / 4};  // f < 1/32: within 6.6e-8
alignas(64) inline constexpr float kPowers[32] = {
    4.0f,       4.087589f,  4.177095f,  4.268562f,  4.362031f,  4.457547f,  4.5551543f, 4.6548996f,
    4.7568283f, 4.8609896f, 4.967431f,  5.076204f,  5.1873584f, 5.3009467f, 5.417022f,  5.53564f,
    5.656854f,  5.780723f,  5.907305f,  6.036658f,  6.1688433f, 6.3039236f, 6.4419613f, 6.583022f,
    6.7271714f, 6.8744774f, 7.0250087f, 7.1788363f, 7.3360324f, 7.4966707f, 7.660826f,  7.8285766f};

// 2^n, and f. n is t rounded down to a multiple of 1/32, and scalef takes from t the whole number below it. Infinite
// and huge t: f is 0, and scalef overflows, in any rounding mode of the caller's, without an exception.
template <int kN>
HWY_INLINE Vectors<kN> SteppedPower(const Vectors<kN>& t, Vectors<kN>& f) {
  const D d;
  constexpr int kDown = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC,
                kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  const V low = hn::Load(d, kPowers), high = hn::Load(d, kPowers + 16);
  const V magic = hn::Set(d, 12582912.0f / (1 << kStepBits));  // t + magic has n in its low bits
  const auto n = Each<kN>([&](int i) { return V{_mm512_add_round_ps(t[i].raw, magic.raw, kDown)}; });
  f = Each<kN>([&](int i) { return V{_mm512_reduce_ps(t[i].raw, kStepBits << 4 | kDown)}; });
  const auto step =
      Each<kN>([&](int i) { return V{_mm512_permutex2var_ps(low.raw, _mm512_castps_si512(n[i].raw), high.raw)}; });
  return Each<kN>([&](int i) { return V{_mm512_scalef_round_ps(step[i].raw, t[i].raw, kNearest)}; });
}

// 1 / x for x from 1 to 2^126, within 0.53 ulp; infinity gives NaN. Intel's divider takes 10 cycles for a vector, this
// 3.
template <int kN>
HWY_INLINE Vectors<kN> Reciprocal(const Vectors<kN>& x) {
  const auto near = Each<kN>([&](int i) { return V{_mm512_rcp14_ps(x[i].raw)}; });
  const auto rest = Each<kN>([&](int i) { return hn::NegMulAdd(x[i], near[i], hn::Set(D(), 1.0f)); });
  return Each<kN>([&](int i) { return hn::MulAdd(near[i], rest[i], near[i]); });
}

template <int kN>
HWY_INLINE Vectors<kN> OneOverOnePlusBounded(const Vectors<kN>& t) {
  const D d;
  Vectors<kN> f;
  const auto power = SteppedPower(t, f);
  auto p = Each<kN>([&](int i) { return hn::MulAdd(hn::Set(d, kShortPower[0]), f[i], hn::Set(d, kShortPower[1])); });
  p = Each<kN>([&](int i) { return hn::MulAdd(p[i], f[i], hn::Set(d, kShortPower[2])); });
  return Reciprocal(Each<kN>([&](int i) { return hn::MulAdd(power[i], p[i], hn::Set(d, 1.0f)); }));
}
#else
inline constexpr Powers kFastPowers = Powers::kAll;
// Here 1 / (1 + 2^t) = s / (s + p) with s = scale / 2^n and p = scale 2^f, and the scale is such that p's first
// coefficient is 1. That is two additions where 2^n p + 1 takes multiply-adds, each of which keeps two pipes of a Zen 3
// busy. InverseBits gives the bits of s less n, moved to where the exponent stands.
#if HWY_ARCH_X86 && HWY_MAX_BYTES == 32
inline constexpr int kStepBits = 3;
inline constexpr float kShortPower[] = {4.32916832f, 12.4893866f, 18.0183754f};  // |f| <= 1/16: within 2.0e-8
// Entry j is the bits of scale / 2^(j / 8) and j << 20, which n's bits take away again.
alignas(32) inline constexpr int32_t kInverses[8] = {0x419025a2, 0x41942ef2, 0x41926ce7, 0x418e4e19,
                                                     0x418bdaca, 0x418aef7f, 0x418b6baf, 0x418d3184};
HWY_INLINE hn::Vec<hn::RebindToSigned<D>> InverseBits(hn::Vec<hn::RebindToSigned<D>> n) {
  return {_mm256_permutevar8x32_epi32(hn::Load(hn::RebindToSigned<D>(), kInverses).raw, n.raw)};
}
#else
inline constexpr int kStepBits = 0;
inline constexpr float kShortPower[] = {7.28773546f, 41.8086472f, 180.937531f, 522.086731f,
                                        753.212219f};  // |f| <= 1/2: within 8.6e-8
HWY_INLINE hn::Vec<hn::RebindToSigned<D>> InverseBits(hn::Vec<hn::RebindToSigned<D>>) {
  return hn::Set(hn::RebindToSigned<D>(), 0x443c4d94);  // of 753.21216
}
#endif

template <int kN>
HWY_INLINE Vectors<kN> OneOverOnePlusBounded(const Vectors<kN>& exponents) {
  const D d;
  const hn::RebindToSigned<D> di;
  const V magic = hn::Set(d, 12582912.0f / (1 << kStepBits));  // t + magic has the nearest n in its low bits
  const auto t = Each<kN>([&](int i) { return AtLeast(hn::Set(d, -100.0f), exponents[i]); });  // s stays finite
  const auto rounded = Each<kN>([&](int i) { return hn::Add(t[i], magic); });
  const auto whole = Each<kN>([&](int i) { return hn::Sub(rounded[i], magic); });
  const auto f = Each<kN>([&](int i) { return hn::Sub(t[i], whole[i]); });
  const auto s = Each<kN>([&](int i) {
    const auto n = hn::BitCast(di, rounded[i]);
    return hn::BitCast(d, hn::Sub(InverseBits(n), hn::ShiftLeft<23 - kStepBits>(n)));
  });
  auto p = Each<kN>([&](int i) { return hn::Add(f[i], hn::Set(d, kShortPower[0])); });
#pragma GCC unroll 8
  for (size_t c = 1; c < sizeof(kShortPower) / sizeof(float); ++c) {
    p = Each<kN>([&](int i) { return hn::MulAdd(p[i], f[i], hn::Set(d, kShortPower[c])); });
  }
  return Each<kN>([&](int i) { return hn::Div(s[i], hn::Add(p[i], s[i])); });
}
#endif

// 1 / (1 + 2^t). Coarser than Exp, and cheaper: t is rounded once, and of the relative error of 2^t the quotient keeps
// at most a quarter. A sigmoid is within 1.05e-7 with AVX-512, 1.03e-7 with AVX2 and 1.12e-7 elsewhere: 2 ulp of
// numbers from 1/2 to 1.
template <Powers kPowers, int kN>
HWY_INLINE Vectors<kN> OneOverOnePlusPower(const Vectors<kN>& t) {
  if constexpr (kPowers == Powers::kInRange) return OneOverOnePlusBounded(t);
  return OneOverOnePlusBounded(Each<kN>([&](int i) { return AtMost(hn::Set(D(), kLargestPower), t[i]); }));
}

// tanh(x) = -m / (2 + m) with m = e^(-2|x|) - 1, which keeps its relative accuracy near 0: within 2.5 ulp.
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

// One functor per activation, applied to vectors of the lanes of `of`.
template <Powers kPowers>
struct ActSigmoid {  // whose layer has kSigmoidPower in its weights and biases
  template <int kN, class Of>
  static HWY_INLINE Vectors<kN> Apply(const Vectors<kN>& x, const Of&) {
    return OneOverOnePlusPower<kPowers>(x);
  }
};
struct ActRelu {
  template <int kN, class Of>
  static HWY_INLINE Vectors<kN> Apply(const Vectors<kN>& x, const Of&) {
    return Each<kN>([&](int i) { return AtLeast(hn::Zero(D()), x[i]); });
  }
};
struct ActPRelu {
  template <int kN, class Of>
  static HWY_INLINE Vectors<kN> Apply(const Vectors<kN>& x, const Of& of) {
    const V alpha = of(of.layer.alpha);
    return Each<kN>([&](int i) { return hn::IfThenElse(hn::Lt(x[i], hn::Zero(D())), hn::Mul(x[i], alpha), x[i]); });
  }
};
struct ActTanh {
  template <int kN, class Of>
  static HWY_INLINE Vectors<kN> Apply(const Vectors<kN>& x, const Of&) {
    return Each<kN>([&](int i) { return Tanh(x[i]); });
  }
};
struct ActBiSigmoid {  // 2 / (1 + e^-x) - 1 = tanh(x / 2)
  template <int kN, class Of>
  static HWY_INLINE Vectors<kN> Apply(const Vectors<kN>& x, const Of&) {
    return Each<kN>([&](int i) { return Tanh(hn::Mul(x[i], hn::Set(D(), 0.5f))); });
  }
};
template <Powers kPowers>
struct ActDice {  // p x + (1 - p) alpha x = x (alpha + (1 - alpha) p), within 2^-22 of |alpha x| + |(1 - alpha) x|
  template <int kN, class Of>
  static HWY_INLINE Vectors<kN> Apply(const Vectors<kN>& x, const Of& of) {
    const V alpha = of(of.layer.alpha), rest = of(of.layer.rest);
    const V mean = of(of.layer.mean), power = of(of.layer.power);
    const auto p = OneOverOnePlusPower<kPowers>(Each<kN>([&](int i) { return hn::Mul(hn::Sub(x[i], mean), power); }));
    return Each<kN>([&](int i) { return hn::Mul(x[i], hn::MulAdd(p[i], rest, alpha)); });
  }
};

// body(Act()) with the functor of `activation`.
template <Powers kPowers, class Body>
HWY_INLINE void WithActivation(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::kSigmoid:
      return body(ActSigmoid<kPowers>());
    case Activation::kRelu:
      return body(ActRelu());
    case Activation::kPRelu:
      return body(ActPRelu());
    case Activation::kTanh:
      return body(ActTanh());
    case Activation::kDice:
      return body(ActDice<kPowers>());
    case Activation::kBiSigmoid:
      return body(ActBiSigmoid());
  }
}

}  // namespace din_infer::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
