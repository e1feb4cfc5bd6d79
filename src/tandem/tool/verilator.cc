#include "tandem/tool/verilator.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "tandem/base/config.h"
#include "tandem/base/file.h"
#include "tandem/base/hash.h"
#include "tandem/tool/find.h"
#include "tandem/tool/messages.h"

namespace tandem::tool {
namespace fs = std::filesystem;
namespace {

std::string tool_name() { return "verilator " + find("verilator").version; }

// The Perl wrapper starts verilator_bin; we start it ourselves.
Process verilator(const WorkFolder& work, std::vector<std::string> args, double seconds, Trust trust) {
  Process p;
  const fs::path wrapper = find("verilator").path;
  const fs::path bin = wrapper.parent_path() / "verilator_bin";
  std::error_code ec;
  p.argv = {fs::exists(bin, ec) ? bin.string() : wrapper.string()};
  p.argv.insert(p.argv.end(), args.begin(), args.end());
  p.folder = work.path();
  p.seconds = seconds;
  p.trust = trust;
  return p;
}

// Where verilated.h is: what Verilator itself says.
fs::path runtime_source() {
  static std::mutex m;
  static std::map<std::string, fs::path> known;
  const std::lock_guard lock(m);
  const std::string key = find("verilator").path.string();
  if (const auto it = known.find(key); it != known.end()) return it->second;
  const WorkFolder w;
  const ProcessResult r = verilator(w, {"--getenv", "VERILATOR_ROOT"}, 20, Trust::ours).run();
  std::string root = r.out.substr(0, r.out.find('\n'));
  if (root.empty() || !fs::exists(fs::path(root) / "include" / "verilated.h")) root = "/usr/share/verilator";
  if (!fs::exists(fs::path(root) / "include" / "verilated.h"))
    throw Error(Exit::tool_missing, "Verilator's runtime (verilated.h) was not found").fix("apt-get install --reinstall verilator");
  return known[key] = fs::path(root) / "include";
}

std::vector<std::string> compiler_flags(const std::string& optimise) {
  const std::string include = runtime_source().string();
  // No -march: a cached object must run on whatever machine shares the cache.
  return {"-std=gnu++17", optimise, "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE=0", "-DVM_TRACE_FST=0", "-DVM_TRACE_VCD=0", "-DVL_TIME_CONTEXT=1", "-w",
          "-I" + include, "-I" + include + "/vltstd"};
}

constexpr const char* kRuntimeHeader =
    "#include \"verilated.h\"\n#include <cstdint>\n#include <cstdio>\n#include <cstdlib>\n#include <cstring>\n#include <fstream>\n"
    "#include <memory>\n#include <string>\n#include <vector>\n";

constexpr const char* kRuntimeFiles[] = {"runtime.h", "runtime.h.gch", "verilated.o", "verilated_threads.o"};

// manifest: "name hash" a line. Everything is verified once per process; a damaged entry is made again.
bool verified(const fs::path& folder) {
  std::error_code ec;
  if (!fs::exists(folder / "manifest", ec)) return false;
  const std::string manifest = read_file(folder / "manifest");
  for (const char* name : kRuntimeFiles) {
    if (!fs::is_regular_file(folder / name, ec)) return false;
    if (manifest.find(fmt::format("{} {}\n", name, hex16(fnv1a(read_file(folder / name))))) == std::string::npos) return false;
  }
  return true;
}

fs::path runtime(const std::string& optimise, const Cancel& cancel) {
  static std::mutex m;
  static std::map<std::string, fs::path> ready;
  const std::lock_guard lock(m);  // others wait: it is compiled once
  const auto flags = compiler_flags(optimise);
  std::string key = find("verilator").version + "|" + find("g++").version + "|" + find("g++").path.string() + "|" + kRuntimeHeader;
  for (const auto& f : flags) key += "|" + f;
  const fs::path folder = cache_folder() / "verilator" / hex16(fnv1a(key));
  if (const auto it = ready.find(folder.string()); it != ready.end() && fs::exists(folder / "manifest")) return folder;
  if (!verified(folder)) {
    const WorkFolder w;
    w.put("runtime.h", kRuntimeHeader);
    const std::string source = runtime_source().string();
    const auto compile = [&](std::vector<std::string> args) {
      Process p;
      p.argv = {find("g++").path.string()};
      p.argv.insert(p.argv.end(), flags.begin(), flags.end());
      p.argv.insert(p.argv.end(), args.begin(), args.end());
      p.folder = w.path();
      p.readable = {source};
      p.seconds = 300;
      const ProcessResult r = p.run(cancel);
      if (!r.ok()) throw tool_failed("g++ " + find("g++").version, r, "Verilator's runtime did not compile");
    };
    compile({"-x", "c++-header", "runtime.h", "-o", "runtime.h.gch"});
    compile({"-c", source + "/verilated.cpp", "-o", "verilated.o"});
    compile({"-c", source + "/verilated_threads.cpp", "-o", "verilated_threads.o"});
    fs::create_directories(folder);
    std::string manifest;
    for (const char* name : kRuntimeFiles) {
      const std::string bytes = w.get(name);
      write_file(folder / name, bytes);
      manifest += fmt::format("{} {}\n", name, hex16(fnv1a(bytes)));
    }
    write_file(folder / "manifest", manifest);  // last: an entry without it does not count
  }
  ready[folder.string()] = folder;
  return folder;
}

}  // namespace

LintResult lint_verilog(const WorkFolder& work, const std::vector<std::string>& files, const std::string& top, Trust trust, const Cancel& cancel) {
  TANDEM_CHECK(!files.empty(), "lint without a source file");
  require_identifier(top);
  std::vector<std::string> args{"--lint-only", "-Wall", "--top-module", top};
  for (const auto& f : files) {
    require_safe_name(f);
    args.push_back(f);
  }
  LintResult r;
  r.run = verilator(work, args, 120, trust).run(cancel);
  r.messages = lines_with(r.run.err + "\n" + r.run.out, {"%Warning", "%Error"});
  if (r.run.timed_out || r.run.out_of_limits || r.run.signal != 0) throw tool_failed(tool_name(), r.run, "no result");
  r.clean = r.run.exit_code == 0 && r.messages.empty() && r.run.err.empty();
  if (!r.clean && r.messages.empty()) r.messages.push_back(printable(r.run.summary()));
  return r;
}

Model build_model(const WorkFolder& work, const ModelOptions& o, const Cancel& cancel) {
  require_identifier(o.top);
  require_identifier(o.prefix);
  require_safe_name(o.executable);
  TANDEM_CHECK(!o.verilog.empty() && !o.cpp.empty(), "a model needs Verilog and a driver");
  if (o.optimise != "-O0" && o.optimise != "-O1" && o.optimise != "-O2" && o.optimise != "-O3") throw bad_input("optimise: '{}'", printable(o.optimise)).expected("-O0 to -O3");
  Model m;
  m.executable = o.executable;
  m.tool = tool_name();
  const std::string obj = "obj_" + o.prefix;
  std::vector<std::string> args{"--cc", "--prefix", o.prefix, "--top-module", o.top, "--Mdir", obj, "-O3", "-Wno-fatal", "--no-timing", "--output-split", "0"};
  if (o.random_reset) args.insert(args.end(), {"--x-assign", "unique", "--x-initial", "unique"});
  for (const auto& d : o.defines) {
    const auto eq = d.find('=');
    require_identifier(std::string_view(d).substr(0, eq));
    if (eq != std::string::npos) require_safe_name(std::string_view(d).substr(eq + 1));
    args.push_back("-D" + d);
  }
  for (const auto& f : o.verilog) {
    require_safe_name(f);
    args.push_back(f);
  }
  std::error_code ec;
  fs::remove_all(work / obj, ec);
  fs::remove(work / o.executable, ec);
  const ProcessResult v = verilator(work, args, o.seconds, o.trust).run(cancel);
  m.verilate_s = v.seconds;
  if (!v.ok()) throw tool_failed(m.tool, v, "the design was refused");
  if (!work.has(obj + "/" + o.prefix + ".h")) throw Error(Exit::limit, m.tool + " left no model").fix("look for a full disk");

  // One translation unit of everything generated: its headers are read once.
  std::vector<std::string> parts;
  for (const auto& e : fs::directory_iterator(work / obj))
    if (e.path().extension() == ".cpp") parts.push_back(e.path().filename().string());
  std::sort(parts.begin(), parts.end());
  std::string all;
  for (const auto& p : parts) all += "#include \"" + p + "\"\n";
  work.put(obj + "/all.cpp", all);
  const fs::path rt = runtime(o.optimise, cancel);
  Process p;
  p.argv = {find("g++").path.string()};
  for (const auto& f : compiler_flags(o.optimise)) p.argv.push_back(f);
  // The precompiled header is found beside its name, so that folder comes first.
  p.argv.insert(p.argv.end(), {"-I" + rt.string(), "-include", "runtime.h", "-I" + obj, "-I."});
  for (const auto& f : o.cpp) {
    require_safe_name(f);
    p.argv.push_back(f);
  }
  p.argv.insert(p.argv.end(), {obj + "/all.cpp", (rt / "verilated.o").string(), (rt / "verilated_threads.o").string(), "-o", o.executable, "-lpthread"});
  p.folder = work.path();
  p.readable = {rt, runtime_source()};
  p.seconds = o.seconds;
  p.trust = o.trust;
  const ProcessResult c = p.run(cancel);
  m.compile_s = c.seconds;
  if (!c.ok()) throw tool_failed("g++ " + find("g++").version, c, "the model did not compile");
  if (!work.has(o.executable)) throw Error(Exit::limit, "g++ left no executable").fix("look for a full disk");
  return m;
}

ProcessResult run_model(const WorkFolder& work, const Model& model, const std::vector<std::string>& args, double seconds, Trust trust, const Cancel& cancel) {
  Process p;
  p.argv = {fs::canonical(work / model.executable).string()};
  p.argv.insert(p.argv.end(), args.begin(), args.end());
  p.folder = work.path();
  p.seconds = seconds;
  p.trust = trust;
  return p.run(cancel);
}

}  // namespace tandem::tool
