// The door: finds libtandem_learn.so beside the library this code is in, opens it once.
#include <cstring>
#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "tandem/base/parallel.h"
#include "tandem/train/learn.h"

namespace tandem::train {

Learner& open_learner() {
  static std::mutex lock;
  static Learner* learner = nullptr;
  const std::lock_guard guard(lock);
  if (learner) return *learner;

  Dl_info self{};
  std::filesystem::path folder = ".";
  if (dladdr(reinterpret_cast<const void*>(&open_learner), &self) && self.dli_fname)
    folder = std::filesystem::path(self.dli_fname).parent_path();
  const auto file = folder / "libtandem_learn.so";
  // OpenMP reads its thread count when libtorch is opened; what the user set stays.
  setenv("OMP_NUM_THREADS", std::to_string(ThreadBudget::jobs()).c_str(), 0);
  // A spinning thread of an idle pool costs the other workers of a small machine dearly.
  setenv("OMP_WAIT_POLICY", "PASSIVE", 0);
  auto missing = [&](const std::string& why) {
    return Error(Exit::tool_missing, "the learning library cannot be opened: " + printable(why))
        .at(file.string())
        .expected("libtandem_learn.so beside libtandem.so, and libtorch")
        .fix("install the Debian package libtorch-dev and build again");
  };
  std::error_code ec;
  if (!std::filesystem::exists(file, ec)) throw missing("the file is not there");
  void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char* e = dlerror();
    // The loader's own words for ENOMEM: a limit, not a missing library.
    for (const char* no_room : {"cannot allocate memory", "Cannot allocate memory", "failed to map segment", "cannot map zero-fill pages"})
      if (e && std::strstr(e, no_room)) throw Error(Exit::limit, "no memory to open the learning library").at(printable(file.string())).fix("a higher limit of memory: 1G or more");
    throw missing(e ? e : "dlopen failed");
  }
  auto* entry = reinterpret_cast<Learner* (*)()>(dlsym(handle, "tandem_learn_v1"));
  if (!entry) throw missing("it does not export tandem_learn_v1");
  learner = entry();
  return *learner;
}

}  // namespace tandem::train
