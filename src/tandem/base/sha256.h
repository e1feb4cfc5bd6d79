// SHA-256 (FIPS 180-4), for hashes that others check: the content security policy of a report, sums of files.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace tandem {

std::array<std::uint8_t, 32> sha256(std::string_view bytes);
std::string sha256_hex(std::string_view bytes);

// Base64 of RFC 4648 with padding.
std::string base64(std::string_view bytes);

}  // namespace tandem
