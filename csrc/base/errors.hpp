// The exceptions of the C++ core are part of its public header.
#pragma once

#include "din_infer/din_infer.hpp"  // IWYU pragma: export
