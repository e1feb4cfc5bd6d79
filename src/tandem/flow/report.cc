#include "tandem/flow/report.h"

#include <algorithm>

#include "tandem/base/config.h"
#include "tandem/base/file.h"
#include "tandem/base/sha256.h"
#include "tandem/flow/explore.h"
#include "tandem/hardware/target.h"
#include "tandem/report/study_page.h"

namespace tandem::flow {
namespace {
namespace fs = std::filesystem;

Fidelity fidelity_of(const Config& c) {
  const std::string s = c.as<std::string>();
  for (int f = 0; f <= static_cast<int>(Fidelity::published); ++f)
    if (to_string(static_cast<Fidelity>(f)) == s) return static_cast<Fidelity>(f);
  throw c.error(fmt::format("'{}' is no fidelity", s));
}

std::string text(const Config& c, std::string_view key) { return c.optional_or<std::string>(key, ""); }

}  // namespace

report::Design load_design(const fs::path& folder) {
  const fs::path file = folder / "build.json";
  if (!fs::is_directory(folder)) throw bad_input("there is no such folder").at(folder.string()).fix("give a folder written by `tandem build --out`, `tandem explore` or `tandem train`");
  if (!fs::is_regular_file(file)) throw bad_input("the folder holds no build.json").at(folder.string()).fix("give a folder written by `tandem build --out`, `tandem explore` or `tandem train`");
  const Config c = Config::read(file);
  if (!c.is_map() || text(c, "format") != "tandem.build") throw bad_input("this is no record of `tandem build`").at(file.string()).expected("\"format\": \"tandem.build\"").fix("build the design again");
  report::Design d;
  d.name = c.required<std::string>("name");
  d.target = c.required<std::string>("target");
  d.hash = c.required<std::string>("design");
  d.ok = c.required<bool>("ok");
  d.reason = text(c, "reason");
  d.limit = text(c, "limit");
  d.frames = text(c, "frames");
  for (const Config& l : c.at("layers").items()) {
    report::DesignLayer r;
    r.name = l.required<std::string>("name");
    r.node = text(l, "node");
    r.kind = l.required<std::string>("kind");
    r.shape = text(l, "shape");
    r.pe = l.optional_or<std::int64_t>("pe", 1);
    r.simd = l.optional_or<std::int64_t>("simd", 1);
    r.macs = l.optional_or<std::int64_t>("macs", 0);
    r.weights = l.optional_or<std::int64_t>("weights", 0);
    r.weight_bits = l.optional_or<int>("weight_bits", 0);
    r.bits = l.optional_or<int>("bits", 0);
    r.cycles = l.optional_or<std::int64_t>("cycles", 0);
    r.lut4 = l.required<double>("lut_estimated");
    r.bram = l.optional_or<double>("bram_estimated", 0);
    r.dsp = l.optional_or<double>("dsp_estimated", 0);
    d.layers.push_back(std::move(r));
  }
  d.unit = text(c, "lut");
  if (const auto all = c.find("stages"))
    for (const Config& x : all->items()) d.stages.push_back({x.required<std::string>("name"), x.required<double>("estimated"), x.required<double>("low"), x.required<double>("high"), x.required<double>("found")});
  if (const fs::path explained = folder / "explain" / "verilog.json"; fs::exists(explained))  // by `tandem verify --explain`
    for (const Config& x : Config::parse(read_file(explained), explained.string()).at("layers").items()) {
      const auto first = x.find("first");
      d.differences.push_back({x.required<std::string>("layer"), x.required<double>("max"), x.required<double>("mean"),
                               static_cast<double>(x.required<std::int64_t>("differing")) / static_cast<double>(std::max<std::int64_t>(1, x.required<std::int64_t>("elements"))),
                               first ? fmt::format("frame {}, element {}: {} instead of {}", first->required<std::int64_t>("frame"), first->required<std::int64_t>("element"), first->required<double>("actual"), first->required<double>("expected")) : std::string(),
                               first ? text(x, "cause") : std::string()});
    }
  for (const Config& m : c.at("metrics").items()) {
    if (!m.find("value")) continue;  // no finite number
    d.metrics.push_back({m.required<std::string>("name"), {m.required<double>("value"), text(m, "unit"), fidelity_of(m.at("fidelity")), text(m, "source"), m.optional<double>("low"), m.optional<double>("high")}});
  }
  if (const auto h = c.find("host"))
    for (const Config& x : h->items()) d.host.push_back(x.as<std::string>());
  try {
    for (const auto& [name, r] : hardware::find_target(d.target).budget) d.budgets.push_back({name, static_cast<double>(r.count), r.source});
  } catch (const Error&) {
    // A part that this Tandem does not know, for example described in a file of the user: the page shows no budget.
  }
  if (const auto all = c.find("precision"))
    for (const Config& x : all->items()) {
      report::Distribution q;
      q.layer = x.required<std::string>("layer");
      q.format = text(x, "format");
      q.lo = x.required<double>("lo"), q.hi = x.required<double>("hi");
      q.seen_lo = x.required<double>("seen_lo"), q.seen_hi = x.required<double>("seen_hi");
      q.n = x.required<std::int64_t>("n");
      q.counts = x.at("counts").list<std::int64_t>();
      q.clipped = x.optional<double>("clipped"), q.flushed = x.optional<double>("flushed");
      if (!(q.hi >= q.lo) || q.counts.empty()) throw x.error("this is no distribution");
      d.precision.push_back(std::move(q));
    }
  if (const auto w = c.find("waveform")) {
    report::Waveform wave{"wave", text(*w, "title"), text(*w, "summary"), w->required<std::int64_t>("first_cycle"), {}};
    for (const Config& x : w->at("signals").items()) {
      report::Signal s{x.required<std::string>("name"), x.required<int>("bits"), {}};
      for (const Config& v : x.at("values").items()) s.values.push_back(v.is_null() ? std::nullopt : std::optional(v.as<std::int64_t>()));
      if (!wave.signals.empty() && s.values.size() != wave.signals[0].values.size()) throw x.error("the signals have different lengths");
      wave.signals.push_back(std::move(s));
    }
    d.waves.push_back(std::move(wave));
  }
  d.provenance = {{"design", d.hash}, {"target", d.target}, {"verified on", d.frames.empty() ? "nothing" : d.frames}};
  if (const auto made = c.find("provenance"))
    for (const auto& [key, value] : made->entries()) d.provenance.emplace_back(key, value.as<std::string>());
  for (auto [key, what] : {std::pair{"generate_s", "generating took"}, {"verify_s", "simulating took"}, {"synthesis_s", "synthesis and placement took"}})
    if (const double s = c.optional_or<double>(key, 0); s > 0) d.provenance.emplace_back(what, fmt::format("{:.2f} s", s));
  d.provenance.emplace_back("repeat it", fmt::format("tandem build model.onnx --target {} --folding folding.json --out again (in this folder)", d.target));
  std::vector<fs::path> files;
  for (const auto& e : fs::recursive_directory_iterator(folder))
    if (e.is_regular_file() && !e.is_symlink() && e.path().filename() != "report.html") files.push_back(e.path());
  std::sort(files.begin(), files.end());
  constexpr std::size_t kFiles = 400;
  for (const fs::path& f : files) {
    if (d.files.size() == kFiles) break;
    const std::string bytes = read_file(f);
    d.files.push_back({fs::relative(f, folder).generic_string(), sha256_hex(bytes), static_cast<std::int64_t>(bytes.size())});
  }
  d.notices = {{"this page", "style and script are part of Tandem, Apache-2.0; nothing of others is inside"},
               {"colours", "after Okabe and Ito, Color Universal Design, 2008"},
               {"Verilog of the design", "generated; yours, like the model it came from"}};
  for (auto [word, notice] : {std::pair{"verilator", "LGPL-3.0 or Artistic-2.0; used as a tool, not part of the design"}, {"yosys", "ISC; used as a tool"}, {"nextpnr", "ISC; used as a tool"}})
    for (const report::DesignMetric& m : d.metrics)
      if (m.metric.source.find(word) != std::string::npos) {
        d.notices.emplace_back(word, notice);
        break;
      }
  return d;
}

report::Training load_training(const fs::path& folder) {
  const fs::path file = folder / "train.json";
  const Config c = Config::read(file);
  if (!c.is_map() || text(c, "format") != "tandem.train") throw bad_input("this is no record of `tandem train`").at(file.string()).expected("\"format\": \"tandem.train\"").fix("train again");
  report::Training t;
  t.name = c.required<std::string>("name");
  t.evaluation = text(c, "evaluation");
  t.best_epoch = c.required<std::int64_t>("best_epoch");
  const auto real = [](const Config& e, const char* key) -> std::optional<double> {
    const auto v = e.find(key);
    return v && !v->is_null() ? std::optional(v->as<double>()) : std::nullopt;
  };
  for (const Config& e : c.at("curves").items()) {
    report::TrainingEpoch q;
    q.epoch = e.required<std::int64_t>("epoch");
    q.rate = real(e, "rate").value_or(0), q.train_loss = real(e, "train_loss").value_or(0), q.train_accuracy = real(e, "train_accuracy").value_or(0);
    q.valid_loss = real(e, "valid_loss"), q.valid_accuracy = real(e, "valid_accuracy");
    q.best = e.required<bool>("best");
    t.epochs.push_back(q);
  }
  for (auto [key, part] : {std::pair{"valid", "validation"}, {"test", "test split"}})
    if (const auto s = c.find(key); s && !s->is_null())
      t.scores.push_back({part, {s->required<double>("value"), text(*s, "unit"), fidelity_of(s->at("fidelity")), text(*s, "source"), s->optional<double>("low"), s->optional<double>("high")}, s->required<std::int64_t>("n")});
  t.provenance = {{"seed", std::to_string(c.required<std::int64_t>("seed"))}, {"library", text(c, "library")}, {"training took", fmt::format("{:.1f} s", c.optional_or<double>("seconds", 0))}};
  if (const auto made = c.find("provenance"))
    for (const auto& [key, value] : made->entries()) t.provenance.emplace_back(key, value.as<std::string>());
  for (const char* f : {"model.onnx", "curves.csv"})
    if (std::error_code ec; fs::is_regular_file(folder / f, ec)) t.provenance.emplace_back(std::string(f) + ", SHA-256", sha256_hex(read_file(folder / f)));
  return t;
}

std::string report_page(const fs::path& folder, const fs::path& page_folder) {
  std::error_code none;
  if (fs::exists(folder / "train.json", none)) return report::training_page(load_training(folder));
  const bool study = fs::exists(folder / "study.db", none);
  const report::Design d = study ? report::Design{} : load_design(folder);
  const fs::path way = fs::relative(fs::absolute(folder), fs::absolute(page_folder.empty() ? "." : page_folder), none);
  // Links only where the design lies beside or below the page, or the page below the design.
  std::string up;
  bool linked = !none && !way.empty();
  if (linked && way != ".")
    for (const fs::path& part : way) {
      const std::string p = part.string();
      if (p != ".." && p.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != p.npos) linked = false;
      up += p + "/";
    }
  return study ? report::study_page(load_study(folder), linked, up) : report::design_page(d, linked, up);
}

}  // namespace tandem::flow
