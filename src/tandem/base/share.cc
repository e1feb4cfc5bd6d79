#include "tandem/base/share.h"

#include <dlfcn.h>

#include <cstdlib>
#include <vector>

#include "tandem/base/error.h"

namespace tandem {

std::filesystem::path share_file(std::string_view relative) {
  namespace fs = std::filesystem;
  std::vector<fs::path> places;
  if (const char* env = std::getenv("TANDEM_SHARE"); env && *env) {
    places.emplace_back(env);
  } else {
    std::error_code ec;
    std::vector<fs::path> folders;
    Dl_info self;
    if (dladdr(reinterpret_cast<const void*>(&share_file), &self) && self.dli_fname)
      folders.push_back(fs::weakly_canonical(self.dli_fname, ec).parent_path());
    folders.push_back(fs::weakly_canonical("/proc/self/exe", ec).parent_path());
    for (const fs::path& f : folders)  // bin/ or lib/, lib/<architecture>/; a build folder in the source tree
      for (const char* up : {"../share/tandem", "../../share/tandem", "../share", "../../share"})
        places.push_back((f / up).lexically_normal());
  }
  std::string looked;
  for (const fs::path& p : places) {
    std::error_code ec;
    if (fs::exists(p / relative, ec)) return p / relative;
    looked += (looked.empty() ? "" : ", ") + p.string();
  }
  throw bad_input("the shipped file '{}' is not found", printable(relative))
      .at(looked)
      .fix("set TANDEM_SHARE to the share folder of the installation");
}

}  // namespace tandem
