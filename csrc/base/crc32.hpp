// CRC-32 as zlib, PNG and Ethernet compute it (polynomial 0xEDB88320, reflected).
#pragma once

#include <cstdint>
#include <string_view>

namespace din_infer {

// Of `bytes`, behind others whose CRC-32 is `before`.
uint32_t Crc32(std::string_view bytes, uint32_t before = 0);

}  // namespace din_infer
