#include <fmt/core.h>
#include <gmp.h>
#include <google/protobuf/stubs/common.h>
#include <mpfr.h>
#include <png.h>
#include <zip.h>
#include <zlib.h>

#include "tandem/cli/command.h"

namespace tandem::cli {

std::string version_text(bool json) {
  if (!json) return "tandem " TANDEM_VERSION "\n";
  const int f = FMT_VERSION, p = GOOGLE_PROTOBUF_VERSION;
  JsonWriter j;
  j.object().field("tandem", TANDEM_VERSION).field("compiler", "g++ " __VERSION__).key("libraries").object();
  j.field("fmt", fmt::format("{}.{}.{}", f / 10000, f / 100 % 100, f % 100));
  j.field("gmp", gmp_version);
  j.field("mpfr", mpfr_get_version());
  j.field("protobuf", fmt::format("{}.{}.{}", p / 1000000, p / 1000 % 1000, p % 1000));
  j.field("libzip", zip_libzip_version());
  j.field("zlib", zlibVersion());
  j.field("libpng", png_get_libpng_ver(nullptr));
  j.end().end();
  return j.text();
}

}  // namespace tandem::cli
