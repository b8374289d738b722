// The activation unit of parameters that a caller has, after all checks.
#pragma once

#include "din_infer/din_infer.hpp"
#include "engine/activation_unit.hpp"

namespace din_infer {

// Throws InputError that names the parameter, what was expected and what came.
ActivationUnit PackUnit(const ActivationUnitParams& params);

}  // namespace din_infer
