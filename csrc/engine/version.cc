#include "din_infer/din_infer.hpp"
#include "kernels/kernels.hpp"

namespace din_infer {

const char* version() { return DIN_INFER_VERSION; }

const char* target() { return kernels::Kernels().target; }

}  // namespace din_infer
