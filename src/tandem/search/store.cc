#include "tandem/search/store.h"

#include <sqlite3.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <map>

#include "tandem/base/config.h"
#include "tandem/base/file.h"
#include "tandem/base/hash.h"

namespace tandem::search {
namespace fs = std::filesystem;
namespace {
using I = std::int64_t;

constexpr int kVersion = 1;
constexpr int kApplication = 0x54414E44;  // "TAND"
constexpr int kBusyMs = 60000;

constexpr const char* kSchema = R"(
CREATE TABLE study(id INTEGER PRIMARY KEY, name TEXT NOT NULL, text TEXT NOT NULL, environment TEXT NOT NULL, searcher TEXT NOT NULL,
  seed INTEGER NOT NULL, generation INTEGER NOT NULL, finished INTEGER NOT NULL, trials INTEGER NOT NULL, digest INTEGER NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE lease(study INTEGER PRIMARY KEY, owner TEXT NOT NULL, epoch INTEGER NOT NULL, until REAL NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE trial(study INTEGER NOT NULL, id INTEGER NOT NULL, key TEXT NOT NULL, fidelity INTEGER NOT NULL, seed INTEGER NOT NULL, point TEXT NOT NULL,
  parents TEXT NOT NULL, note TEXT NOT NULL, generation INTEGER NOT NULL, violations TEXT NOT NULL, reason TEXT NOT NULL, seconds REAL NOT NULL, sum INTEGER NOT NULL,
  PRIMARY KEY(study, id), UNIQUE(study, key, fidelity, seed)) WITHOUT ROWID;
CREATE TABLE meaning(id INTEGER PRIMARY KEY, name TEXT NOT NULL, unit TEXT NOT NULL, fidelity INTEGER NOT NULL, source TEXT NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE metric(study INTEGER NOT NULL, trial INTEGER NOT NULL, place INTEGER NOT NULL, meaning INTEGER NOT NULL, value REAL NOT NULL, low REAL, high REAL,
  PRIMARY KEY(study, trial, place)) WITHOUT ROWID;
CREATE TABLE artefact(study INTEGER NOT NULL, trial INTEGER NOT NULL, place INTEGER NOT NULL, hash TEXT NOT NULL, path TEXT NOT NULL,
  PRIMARY KEY(study, trial, place)) WITHOUT ROWID;
CREATE TABLE searcher_state(study INTEGER PRIMARY KEY, version INTEGER NOT NULL, blob TEXT NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE event(id INTEGER PRIMARY KEY, study INTEGER NOT NULL, at REAL NOT NULL, text TEXT NOT NULL, sum INTEGER NOT NULL);
)";

// A checksum that knows where a field ends.
struct Sum {
  std::uint64_t h;
  explicit Sum(std::string_view what) : h(fnv1a(what)) {}
  Sum& bytes(const void* p, std::size_t n) {
    h = fnv1a({static_cast<const char*>(p), n}, h);
    return *this;
  }
  Sum& operator<<(std::uint64_t v) { return bytes(&v, sizeof v); }
  Sum& operator<<(I v) { return *this << static_cast<std::uint64_t>(v); }
  Sum& operator<<(int v) { return *this << static_cast<I>(v); }
  Sum& operator<<(double v) { return *this << std::bit_cast<std::uint64_t>(v); }
  Sum& operator<<(std::string_view s) { return (*this << static_cast<std::uint64_t>(s.size())).bytes(s.data(), s.size()); }
  I value() const {
    std::uint64_t z = h;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return static_cast<I>(z ^ (z >> 31));
  }
};

double boot_clock() {
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}
std::string proc_file(const std::string& name) {
  try {
    return read_file(name);
  } catch (const Error&) {
    return "";
  }
}
// When the process began, in ticks since boot: a number that a later process of the same pid does not share. "": no such process.
std::string start_of(long pid) {
  const std::string s = proc_file(fmt::format("/proc/{}/stat", pid));
  std::size_t at = s.rfind(')');
  if (at == std::string::npos) return "";
  for (int field = 2; field < 22 && at != std::string::npos; ++field) at = s.find(' ', at + 1);
  if (at == std::string::npos || at + 1 >= s.size()) return "";
  // A zombie has ended.
  const std::size_t state = s.rfind(')') + 2;
  if (state < s.size() && (s[state] == 'Z' || s[state] == 'X')) return "";
  return s.substr(at + 1, s.find(' ', at + 1) - at - 1);
}
std::string boot_id() {
  std::string s = proc_file("/proc/sys/kernel/random/boot_id");
  while (!s.empty() && s.back() == '\n') s.pop_back();
  return s;
}

std::string join(const std::vector<I>& v) {
  std::string s;
  for (I x : v) s += (s.empty() ? "" : " ") + std::to_string(x);
  return s;
}

}  // namespace

bool is_network_file_system(long type) {
  switch (static_cast<std::uint32_t>(type)) {
    case 0x6969u:       // NFS
    case 0x517Bu:       // SMB
    case 0xFF534D42u:   // CIFS
    case 0xFE534D42u:   // SMB2
    case 0x5346414Fu:   // AFS
    case 0x6B414653u:   // AFS
    case 0x73757245u:   // Coda
    case 0x00C36400u:   // Ceph
    case 0x0BD00BD0u:   // Lustre
    case 0x47504653u:   // GPFS
    case 0x013111A8u:   // IBRIX
    case 0xAAD7AAEAu:   // PanFS
    case 0x01021997u:   // 9P
      return true;
    default: return false;
  }
}

struct Store::Impl {
  fs::path file;
  sqlite3* db = nullptr;
  std::map<std::string, sqlite3_stmt*> cache;
  std::map<std::string, I> meanings;   // by everything they hold
  I epoch = 0;                         // of our lease; 0: none

  ~Impl() {
    for (auto& [sql, s] : cache) sqlite3_finalize(s);
    if (db) sqlite3_close(db);
  }
  std::string name() const { return printable(file.string()); }

  [[noreturn]] void fail(int rc) const {
    const std::string why = db ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
    switch (rc & 0xff) {
      case SQLITE_FULL: throw Error(Exit::limit, "disk full while writing the study").at(name()).fix("free space on that file system; what was committed is kept");
      case SQLITE_NOMEM: throw Error(Exit::limit, "out of memory in the study's store").at(name());
      case SQLITE_BUSY:
      case SQLITE_LOCKED: throw Error(Exit::limit, "the study is locked by another process for more than a minute").at(name()).fix("wait for it, or end it");
      case SQLITE_READONLY:
      case SQLITE_PERM:
      case SQLITE_CANTOPEN: throw bad_input("cannot write the study: {}", why).at(name()).fix("choose a writable folder");
      case SQLITE_CORRUPT:
      case SQLITE_NOTADB:
      case SQLITE_SCHEMA:
      case SQLITE_ERROR:
      case SQLITE_MISMATCH:
      case SQLITE_CONSTRAINT: throw damaged(why);
      default: throw Error(Exit::limit, fmt::format("the study's store failed: {}", why)).at(name());
    }
  }
  Error damaged(std::string_view why) const {
    return bad_input("the study's file is damaged: {}", why).at(name()).fix("restore the file from a backup, or start again in another folder");
  }
  void exec(const char* sql) {
    if (const int rc = sqlite3_exec(db, sql, nullptr, nullptr, nullptr); rc != SQLITE_OK) fail(rc);
  }

  // A prepared statement in use: bound in order, reset at the end.
  struct Stmt {
    Impl& d;
    sqlite3_stmt* s;
    int next = 1, col = 0;
    Stmt(Impl& impl, const char* sql) : d(impl) {
      auto [it, fresh] = d.cache.try_emplace(sql, nullptr);
      if (fresh)
        if (const int rc = sqlite3_prepare_v3(d.db, sql, -1, SQLITE_PREPARE_PERSISTENT, &it->second, nullptr); rc != SQLITE_OK) {
          d.cache.erase(it);
          d.fail(rc);
        }
      s = it->second;
    }
    Stmt(const Stmt&) = delete;
    ~Stmt() {
      sqlite3_reset(s);
      sqlite3_clear_bindings(s);
    }
    Stmt& operator<<(I v) { return check(sqlite3_bind_int64(s, next++, v)); }
    Stmt& operator<<(int v) { return *this << static_cast<I>(v); }
    Stmt& operator<<(double v) { return check(sqlite3_bind_double(s, next++, v)); }
    Stmt& operator<<(std::string_view v) { return check(sqlite3_bind_text64(s, next++, v.data(), v.size(), SQLITE_TRANSIENT, SQLITE_UTF8)); }
    Stmt& operator<<(const std::optional<double>& v) { return v ? *this << *v : check(sqlite3_bind_null(s, next++)); }
    Stmt& check(int rc) {
      if (rc != SQLITE_OK) d.fail(rc);
      return *this;
    }
    bool step() {
      const int rc = sqlite3_step(s);
      col = 0;
      if (rc == SQLITE_ROW) return true;
      if (rc != SQLITE_DONE) d.fail(rc);
      return false;
    }
    void type(int want) {
      if (sqlite3_column_type(s, col) != want) throw d.damaged("a column has another type");
    }
    I integer() {
      type(SQLITE_INTEGER);
      return sqlite3_column_int64(s, col++);
    }
    double real() {
      type(SQLITE_FLOAT);
      return sqlite3_column_double(s, col++);
    }
    std::optional<double> maybe() {
      if (sqlite3_column_type(s, col) == SQLITE_NULL) {
        ++col;
        return std::nullopt;
      }
      return real();
    }
    std::string text() {
      type(SQLITE_TEXT);
      const auto* p = reinterpret_cast<const char*>(sqlite3_column_text(s, col));
      const int n = sqlite3_column_bytes(s, col++);
      return std::string(p ? p : "", static_cast<std::size_t>(n));
    }
  };

  void open(int flags) {
    if (const int rc = sqlite3_open_v2(file.c_str(), &db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nullptr); rc != SQLITE_OK) fail(rc);
    sqlite3_busy_timeout(db, kBusyMs);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, nullptr);
    exec("PRAGMA cell_size_check=1");
    exec("PRAGMA synchronous=FULL");
    exec("PRAGMA mmap_size=0");
  }
  I pragma(const char* sql) {
    Stmt q(*this, sql);
    if (!q.step()) throw damaged("no header");
    return q.integer();
  }

  // The study's row: its checksum covers how many trials there are and the sum of theirs.
  struct Head {
    StudyRow row;
    I trials = 0;
    std::uint64_t digest = 0;
    I sum() const {
      return (Sum("study") << row.name << row.text << row.environment << row.searcher << row.seed << row.generation << static_cast<int>(row.finished) << trials << digest).value();
    }
  };
  Head head() {
    Stmt q(*this, "SELECT name, text, environment, searcher, seed, generation, finished, trials, digest, sum FROM study WHERE id=1");
    if (!q.step()) throw damaged("the study's row is gone");
    Head h;
    h.row.name = q.text();
    h.row.text = q.text();
    h.row.environment = q.text();
    h.row.searcher = q.text();
    h.row.seed = static_cast<std::uint64_t>(q.integer());
    h.row.generation = q.integer();
    h.row.finished = q.integer() != 0;
    h.trials = q.integer();
    h.digest = static_cast<std::uint64_t>(q.integer());
    if (q.integer() != h.sum()) throw damaged("the checksum of the study's row is wrong");
    return h;
  }
  void put(const Head& h) {
    Stmt q(*this, "INSERT OR REPLACE INTO study(id, name, text, environment, searcher, seed, generation, finished, trials, digest, sum) VALUES(1,?,?,?,?,?,?,?,?,?,?)");
    q << h.row.name << h.row.text << h.row.environment << h.row.searcher << static_cast<I>(h.row.seed) << h.row.generation << static_cast<int>(h.row.finished) << h.trials
      << static_cast<I>(h.digest) << h.sum();
    q.step();
  }

  // One transaction. The lease is looked at inside it: that is the fence.
  template <class F>
  auto transaction(F body, bool fenced = true) {
    exec("BEGIN IMMEDIATE");
    try {
      if (fenced && epoch > 0 && lease().epoch != epoch)
        throw Error(Exit::no, "another process took this study over").at(name()).fix("let one process explore it at a time");
      if constexpr (std::is_void_v<decltype(body())>) {
        body();
        exec("COMMIT");
      } else {
        auto r = body();
        exec("COMMIT");
        return r;
      }
    } catch (...) {
      if (!sqlite3_get_autocommit(db)) sqlite3_exec(db, "ROLLBACK", nullptr, nullptr, nullptr);
      meanings.clear();
      throw;
    }
  }

  struct Lease {
    std::string owner;
    I epoch = 0;
    double until = 0;
    I sum() const { return (Sum("lease") << owner << epoch << until).value(); }
  };
  Lease lease() {
    Stmt q(*this, "SELECT owner, epoch, until, sum FROM lease WHERE study=1");
    Lease l;
    if (!q.step()) return l;
    l.owner = q.text();
    l.epoch = q.integer();
    l.until = q.real();
    if (q.integer() != l.sum()) throw damaged("the checksum of the lease is wrong");
    return l;
  }
  void put(const Lease& l) {
    Stmt q(*this, "INSERT OR REPLACE INTO lease(study, owner, epoch, until, sum) VALUES(1,?,?,?,?)");
    q << l.owner << l.epoch << l.until << l.sum();
    q.step();
  }

  static I meaning_sum(I id, const std::string& n, const std::string& unit, I fidelity, const std::string& source) {
    return (Sum("meaning") << id << n << unit << fidelity << source).value();
  }
  struct Meaning {
    std::string name, unit, source;
    Fidelity fidelity = Fidelity::estimated;
  };
  std::map<I, Meaning> all_meanings() {
    std::map<I, Meaning> r;
    Stmt q(*this, "SELECT id, name, unit, fidelity, source, sum FROM meaning ORDER BY id");
    while (q.step()) {
      const I id = q.integer();
      Meaning m;
      m.name = q.text();
      m.unit = q.text();
      const I f = q.integer();
      m.source = q.text();
      if (q.integer() != meaning_sum(id, m.name, m.unit, f, m.source)) throw damaged("the checksum of a metric's meaning is wrong");
      if (f < 0 || f > static_cast<I>(Fidelity::published)) throw damaged("a fidelity that does not exist");
      m.fidelity = static_cast<Fidelity>(f);
      r.emplace(id, std::move(m));
    }
    return r;
  }
  static std::string meaning_key(const std::string& name, const std::string& unit, I fidelity, const std::string& source) {
    return fmt::format("{}\x1f{}\x1f{}\x1f{}", name, unit, fidelity, source);
  }
  I meaning_of(const std::string& n, const Metric& m) {
    const I f = static_cast<I>(m.fidelity);
    const std::string key = meaning_key(n, m.unit, f, m.source);
    if (const auto it = meanings.find(key); it != meanings.end()) return it->second;
    // Another process may have written it since.
    I next = 1;
    for (const auto& [id, x] : all_meanings()) {
      meanings[meaning_key(x.name, x.unit, static_cast<I>(x.fidelity), x.source)] = id;
      next = std::max(next, id + 1);
    }
    const auto [it, fresh] = meanings.try_emplace(key, next);
    if (fresh) {
      Stmt q(*this, "INSERT INTO meaning(id, name, unit, fidelity, source, sum) VALUES(?,?,?,?,?,?)");
      q << it->second << n << m.unit << f << m.source << meaning_sum(it->second, n, m.unit, f, m.source);
      q.step();
    }
    return it->second;
  }

  struct Sums {
    Sum s{"trial"};
    void row(I id, std::string_view key, I fidelity, I seed, std::string_view point, std::string_view parents, std::string_view note, I generation, std::string_view violations,
             std::string_view reason, double seconds) {
      s << id << key << fidelity << seed << point << parents << note << generation << violations << reason << seconds;
    }
    void metric(I place, I meaning, double value, const std::optional<double>& low, const std::optional<double>& high) {
      s << place << meaning << value << static_cast<int>(low.has_value()) << low.value_or(0) << static_cast<int>(high.has_value()) << high.value_or(0);
    }
    void artefact(I place, std::string_view hash, std::string_view path) { s << place << hash << path; }
  };

  std::size_t insert(std::span<const TrialRow> trials, Head& h) {
    std::size_t added = 0;
    for (const TrialRow& t : trials) {
      const std::string key = key_of_text(t.point).hex(), parents = join(t.parents);
      {
        Stmt q(*this, "SELECT 1 FROM trial WHERE study=1 AND key=? AND fidelity=? AND seed=?");
        q << key << t.fidelity << static_cast<I>(t.seed);
        if (q.step()) continue;
      }
      std::string violations;
      for (const auto& [n, v] : t.result.violations) violations += fmt::format("{}\x1f{}\x1e", n, v);
      Sums sums;
      sums.row(t.id, key, t.fidelity, static_cast<I>(t.seed), t.point, parents, t.note, t.generation, violations, t.result.reason, t.result.seconds);
      I place = 0;
      for (const auto& [n, m] : t.result.metrics) {
        TANDEM_CHECK(std::isfinite(m.value) && (!m.low || std::isfinite(*m.low)) && (!m.high || std::isfinite(*m.high)), "a figure '{}' of trial {} is not finite", n, t.id);
        const I id = meaning_of(n, m);
        // SQLite has no minus zero.
        const auto plain = [](const std::optional<double>& v) { return v ? std::optional(*v + 0.0) : v; };
        const double value = m.value + 0.0;
        const std::optional<double> low = plain(m.low), high = plain(m.high);
        sums.metric(place, id, value, low, high);
        Stmt q(*this, "INSERT INTO metric(study, trial, place, meaning, value, low, high) VALUES(1,?,?,?,?,?,?)");
        q << t.id << place++ << id << value << low << high;
        q.step();
      }
      place = 0;
      for (const Artefact& a : t.result.artefacts) {
        sums.artefact(place, a.hash, a.path);
        Stmt q(*this, "INSERT INTO artefact(study, trial, place, hash, path) VALUES(1,?,?,?,?)");
        q << t.id << place++ << a.hash << a.path;
        q.step();
      }
      const I sum = sums.s.value();
      Stmt q(*this, "INSERT INTO trial(study, id, key, fidelity, seed, point, parents, note, generation, violations, reason, seconds, sum) VALUES(1,?,?,?,?,?,?,?,?,?,?,?,?)");
      q << t.id << key << t.fidelity << static_cast<I>(t.seed) << t.point << parents << t.note << t.generation << violations << t.result.reason << t.result.seconds << sum;
      q.step();
      ++h.trials;
      h.digest += static_cast<std::uint64_t>(sum);
      ++added;
    }
    return added;
  }
};

void Store::create(const fs::path& file, const StudyRow& study) {
  std::error_code ec;
  if (fs::exists(fs::symlink_status(file, ec))) throw bad_input("{} exists", printable(file.string())).at(printable(file.string())).fix("--resume goes on with it; --force starts again");
  struct statfs st {};
  const fs::path folder = file.parent_path().empty() ? fs::path(".") : file.parent_path();
  if (::statfs(folder.c_str(), &st) == 0 && is_network_file_system(static_cast<long>(st.f_type)))
    throw bad_input("the folder lies on a network file system, which loses the locks of a study").at(printable(folder.string())).fix("choose --out on a local disk");
  const fs::path tmp = folder / fmt::format(".{}-{}.tmp", file.filename().string(), ::getpid());
  fs::remove(tmp, ec);
  {
    Impl d;
    d.file = tmp;
    d.open(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    d.exec("PRAGMA journal_mode=WAL");
    d.transaction([&] {
      d.exec(fmt::format("PRAGMA application_id={}", kApplication).c_str());
      d.exec(fmt::format("PRAGMA user_version={}", kVersion).c_str());
      d.exec(kSchema);
      Impl::Head h;
      h.row = study;
      d.put(h);
    });
  }
  // Closing the last connection moved everything into the file itself.
  fs::rename(tmp, file, ec);
  if (ec) throw bad_input("cannot write {}: {}", printable(file.string()), ec.message()).at(printable(file.string()));
}

Store::Store(const fs::path& file) : impl_(std::make_unique<Impl>()) {
  impl_->file = file;
  std::error_code ec;
  const std::string name = printable(file.string());
  if (!fs::exists(file, ec)) throw bad_input("there is no study {}", name).at(name).fix("give the folder that `tandem explore --out` wrote");
  if (!fs::is_regular_file(file, ec)) throw bad_input("{} is no file", name).at(name);
  if (fs::file_size(file, ec) == 0) throw bad_input("the study's file is empty: whatever it held is lost").at(name).fix("restore it from a backup, or remove it and start again");
  struct statfs st {};
  if (::statfs(file.c_str(), &st) == 0 && is_network_file_system(static_cast<long>(st.f_type)))
    throw bad_input("the study lies on a network file system, which loses its locks").at(name).fix("copy the folder to a local disk");
  impl_->open(SQLITE_OPEN_READWRITE);
  const I application = impl_->pragma("PRAGMA application_id"), version = impl_->pragma("PRAGMA user_version");
  if (application != kApplication) throw bad_input("{} is no study of tandem", name).at(name);
  if (version > kVersion)
    throw bad_input("the study was written by a newer tandem: its format is {}, this tandem reads up to {}", version, kVersion).at(name).fix("use the newer tandem");
  if (version < 1) throw impl_->damaged("a version that does not exist");
  impl_->head();
}

Store::~Store() = default;

StudyRow Store::study() const { return impl_->head().row; }

std::vector<TrialRow> Store::trials() const {
  Impl& d = *impl_;
  // One moment for all tables, even while another process writes.
  d.exec("BEGIN");
  struct End {
    Impl& d;
    ~End() { sqlite3_exec(d.db, "ROLLBACK", nullptr, nullptr, nullptr); }
  } end{d};
  const Impl::Head h = d.head();
  const auto meanings = d.all_meanings();
  std::vector<TrialRow> r;
  r.reserve(static_cast<std::size_t>(std::max<I>(0, h.trials)));
  std::vector<I> stored;
  std::vector<Impl::Sums> sums;
  {
    Impl::Stmt q(d, "SELECT id, key, fidelity, seed, point, parents, note, generation, violations, reason, seconds, sum FROM trial WHERE study=1 ORDER BY id");
    while (q.step()) {
      TrialRow t;
      t.id = q.integer();
      const std::string key = q.text();
      t.fidelity = static_cast<int>(q.integer());
      t.seed = static_cast<std::uint64_t>(q.integer());
      t.point = q.text();
      const std::string parents = q.text();
      t.note = q.text();
      t.generation = q.integer();
      const std::string violations = q.text();
      t.result.reason = q.text();
      t.result.seconds = q.real();
      stored.push_back(q.integer());
      Impl::Sums s;
      s.row(t.id, key, t.fidelity, static_cast<I>(t.seed), t.point, parents, t.note, t.generation, violations, t.result.reason, t.result.seconds);
      sums.push_back(s);
      for (std::size_t at = 0; at < parents.size();) {
        const std::size_t to = std::min(parents.find(' ', at), parents.size());
        if (const auto v = parse_int(std::string_view(parents).substr(at, to - at))) t.parents.push_back(*v);
        at = to + 1;
      }
      for (std::size_t at = 0; at < violations.size();) {
        const std::size_t mid = violations.find('\x1f', at), to = violations.find('\x1e', at);
        if (mid == std::string::npos || to == std::string::npos || mid > to) throw d.damaged("a list of violations");
        t.result.violations.emplace_back(violations.substr(at, mid - at), parse_double(std::string_view(violations).substr(mid + 1, to - mid - 1)).value_or(0));
        at = to + 1;
      }
      r.push_back(std::move(t));
    }
  }
  const auto row_of = [&, at = std::size_t{0}](I trial) mutable {
    while (at < r.size() && r[at].id < trial) ++at;
    if (at == r.size() || r[at].id != trial) throw d.damaged("a figure without its trial");
    return at;
  };
  {
    auto find = row_of;
    Impl::Stmt q(d, "SELECT trial, place, meaning, value, low, high FROM metric WHERE study=1 ORDER BY trial, place");
    while (q.step()) {
      const std::size_t at = find(q.integer());
      const I place = q.integer(), id = q.integer();
      const auto it = meanings.find(id);
      if (it == meanings.end()) throw d.damaged("a figure without meaning");
      Metric m{q.real(), it->second.unit, it->second.fidelity, it->second.source, {}, {}};
      m.low = q.maybe();
      m.high = q.maybe();
      sums[at].metric(place, id, m.value, m.low, m.high);
      r[at].result.metrics.emplace_back(it->second.name, std::move(m));
    }
  }
  {
    auto find = row_of;
    Impl::Stmt q(d, "SELECT trial, place, hash, path FROM artefact WHERE study=1 ORDER BY trial, place");
    while (q.step()) {
      const std::size_t at = find(q.integer());
      const I place = q.integer();
      Artefact a;
      a.hash = q.text();
      a.path = q.text();
      sums[at].artefact(place, a.hash, a.path);
      r[at].result.artefacts.push_back(std::move(a));
    }
  }
  std::uint64_t digest = 0;
  for (std::size_t i = 0; i < r.size(); ++i) {
    if (sums[i].s.value() != stored[i]) throw d.damaged(fmt::format("the checksum of trial {} is wrong", r[i].id));
    digest += static_cast<std::uint64_t>(stored[i]);
  }
  if (static_cast<I>(r.size()) != h.trials || digest != h.digest) throw d.damaged(fmt::format("{} trials were written, {} are there", h.trials, r.size()));
  return r;
}

std::string Store::searcher_state() const {
  Impl::Stmt q(*impl_, "SELECT version, blob, sum FROM searcher_state WHERE study=1");
  if (!q.step()) return "";
  const I version = q.integer();
  std::string blob = q.text();
  if (q.integer() != (Sum("state") << version << blob).value()) throw impl_->damaged("the checksum of the searcher's state is wrong");
  return blob;
}

std::vector<std::pair<double, std::string>> Store::events() const {
  std::vector<std::pair<double, std::string>> r;
  Impl::Stmt q(*impl_, "SELECT at, text, sum FROM event WHERE study=1 ORDER BY id");
  while (q.step()) {
    const double at = q.real();
    std::string text = q.text();
    if (q.integer() != (Sum("event") << at << text).value()) throw impl_->damaged("the checksum of an event is wrong");
    r.emplace_back(at, std::move(text));
  }
  return r;
}

void Store::take(double seconds) {
  Impl& d = *impl_;
  const std::string boot = boot_id();
  d.transaction([&] {
    const Impl::Lease l = d.lease();
    // owner: "boot pid start"
    const std::size_t a = l.owner.find(' '), b = l.owner.find(' ', a + 1);
    const bool held = l.until > boot_clock() && a != std::string::npos && b != std::string::npos && l.owner.substr(0, a) == boot;
    if (held) {
      const auto pid = parse_int(std::string_view(l.owner).substr(a + 1, b - a - 1)).value_or(0);
      if (start_of(pid) == l.owner.substr(b + 1) && l.epoch != d.epoch)
        throw Error(Exit::no, fmt::format("process {} explores this study", pid)).at(d.name()).fix("let it finish, or stop it");
    }
    Impl::Lease mine;
    mine.owner = fmt::format("{} {} {}", boot, ::getpid(), start_of(::getpid()));
    mine.epoch = l.epoch + 1;
    mine.until = boot_clock() + seconds;
    d.put(mine);
    d.epoch = mine.epoch;
  }, false);
}

void Store::renew(double seconds) {
  impl_->transaction([&] {
    Impl::Lease l = impl_->lease();
    l.until = boot_clock() + seconds;
    impl_->put(l);
  });
}

void Store::release() {
  impl_->transaction([&] {
    Impl::Lease l = impl_->lease();
    l.until = 0;
    impl_->put(l);
  });
  impl_->epoch = 0;
}

std::size_t Store::add(std::span<const TrialRow> trials) {
  return impl_->transaction([&] {
    Impl::Head h = impl_->head();
    const std::size_t n = impl_->insert(trials, h);
    if (n) impl_->put(h);
    return n;
  });
}

std::size_t Store::finish_generation(std::span<const TrialRow> trials, std::string_view state, std::int64_t generation) {
  return impl_->transaction([&] {
    Impl::Head h = impl_->head();
    const std::size_t n = impl_->insert(trials, h);
    h.row.generation = generation;
    impl_->put(h);
    Impl::Stmt q(*impl_, "INSERT OR REPLACE INTO searcher_state(study, version, blob, sum) VALUES(1,?,?,?)");
    q << generation << state << (Sum("state") << generation << state).value();
    q.step();
    return n;
  });
}

void Store::finish() {
  impl_->transaction([&] {
    Impl::Head h = impl_->head();
    h.row.finished = true;
    impl_->put(h);
  });
}

void Store::reopen(std::string_view text) {
  impl_->transaction([&] {
    Impl::Head h = impl_->head();
    h.row.finished = false;
    h.row.text = text;
    impl_->put(h);
  });
}

void Store::event(std::string_view text) {
  timespec t{};
  ::clock_gettime(CLOCK_REALTIME, &t);
  const double at = static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  impl_->transaction([&] {
    Impl::Stmt q(*impl_, "INSERT INTO event(study, at, text, sum) VALUES(1,?,?,?)");
    q << at << text << (Sum("event") << at << text).value();
    q.step();
  });
}

}  // namespace tandem::search
