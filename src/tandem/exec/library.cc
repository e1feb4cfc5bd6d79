#include "tandem/exec/library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "tandem/base/parallel.h"

namespace tandem::exec {

Library* open_library() {
  static std::once_flag once;
  static Library* library = nullptr;
  std::call_once(once, [] {
    Dl_info self{};
    std::filesystem::path folder = ".";
    if (dladdr(reinterpret_cast<const void*>(&open_library), &self) && self.dli_fname) folder = std::filesystem::path(self.dli_fname).parent_path();
    // Read by OpenMP when it is loaded: no more threads than lent, none that spins while other work could run.
    setenv("OMP_NUM_THREADS", std::to_string(ThreadBudget::jobs()).c_str(), 0);
    setenv("OMP_WAIT_POLICY", "PASSIVE", 0);
    void* handle = dlopen((folder / "libtandem_onednn.so").c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) return;
    if (auto* entry = reinterpret_cast<Library* (*)()>(dlsym(handle, "tandem_onednn_v1"))) library = entry();
  });
  return library;
}

}  // namespace tandem::exec
