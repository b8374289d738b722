// CRC-32 as zlib, PNG and Ethernet compute it (polynomial 0xEDB88320, reflected).
#pragma once

#include <cstdint>
#include <string_view>

namespace din_infer {

uint32_t Crc32(std::string_view bytes);

}  // namespace din_infer
