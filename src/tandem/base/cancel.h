// Cancellation: one token travels with every long call, which looks at it at its safe points.
#pragma once
#include <atomic>

namespace tandem {

class Cancel {
 public:
  void request() noexcept { flag_.store(true, std::memory_order_relaxed); }
  bool requested() const noexcept { return flag_.load(std::memory_order_relaxed); }
  // Throws Error(interrupted), or Error(terminated) after SIGTERM.
  void check() const;
  // The token that never fires: the default argument of long calls.
  static const Cancel& never();

 private:
  std::atomic<bool> flag_{false};
};

// SIGINT, SIGTERM and SIGHUP set `token`; the second signal ends the process at once with 130 (143
// after SIGTERM). The token must live as long as the process. Returns nothing: called once, by main.
void cancel_on_signals(Cancel& token);
// The signal that arrived first, 0 when none did.
int cancel_signal();

}  // namespace tandem
