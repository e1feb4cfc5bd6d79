#include "tandem/base/cancel.h"

#include <csignal>
#include <unistd.h>

#include "tandem/base/error.h"

namespace tandem {
namespace {

std::atomic<Cancel*> g_token{nullptr};
std::atomic<int> g_signal{0};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<Cancel*>::is_always_lock_free);

void on_signal(int s) {
  int none = 0;
  if (!g_signal.compare_exchange_strong(none, s)) ::_exit(s == SIGTERM ? 143 : 130);
  if (Cancel* t = g_token.load()) t->request();
}

}  // namespace

void Cancel::check() const {
  if (!requested()) return;
  if (cancel_signal() == SIGTERM) throw Error(Exit::terminated, "stopped by SIGTERM");
  throw Error(Exit::interrupted, "interrupted");
}

const Cancel& Cancel::never() {
  static const Cancel none;
  return none;
}

void cancel_on_signals(Cancel& token) {
  g_token.store(&token);
  struct sigaction a {};
  a.sa_handler = on_signal;
  sigemptyset(&a.sa_mask);
  a.sa_flags = SA_RESTART;
  for (int s : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(s, &a, nullptr);
  // A closed pipe is an error of write(), reported by whoever writes.
  struct sigaction ign {};
  ign.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ign, nullptr);
}

int cancel_signal() { return g_signal.load(); }

}  // namespace tandem
